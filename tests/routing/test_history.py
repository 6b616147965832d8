"""What is remembered of upstreams: times, failures, how busy they are, and pauses."""

import pytest

from metering.money import PPM
from routing.fallback import Outcome
from routing.history import (
    COLD_AFTER_S,
    NOTHING_KNOWN,
    REVISIT_AFTER_S,
    SAMPLES_MIN,
    History,
)
from routing.samples import SLOT_S, SLOTS
from routing.upstreams import Upstream


def fed(*times_ms, at=1000.0, stream=False, outcome=Outcome.SERVED, history=None):
    """One attempt after the other, each as long as said."""
    history = history or History()
    for took_ms in times_ms:
        is_cold = history.begin("a/m", at)
        history.end("a/m", outcome, at, took_ms=took_ms, stream=stream, is_cold=is_cold)
    return history


def test_nothing_is_known_of_whom_nobody_asked():
    """An upstream without a history is neither slow nor failing."""
    assert History().look("a/m", 0.0, stream=True) == NOTHING_KNOWN


def test_a_percentile_takes_enough_answers():
    """Few answers say nothing; of enough the 95th percentile is told, streams apart."""
    few = fed(*[100] * (SAMPLES_MIN - 1))
    enough = fed(*range(1, 101))

    assert few.look("a/m", 1000.0, stream=False).p95_ms is None
    assert enough.look("a/m", 1000.0, stream=False).p95_ms == 95
    assert enough.look("a/m", 1000.0, stream=True).p95_ms is None


def test_a_percentile_follows_new_answers():
    """A percentile that was asked for is made anew when more has come."""
    history = fed(*[100] * SAMPLES_MIN)
    assert history.look("a/m", 1000.0, stream=False).p95_ms == 100

    fed(*[900] * SAMPLES_MIN, history=history)

    assert history.look("a/m", 1000.0, stream=False).p95_ms == 900


@pytest.mark.parametrize(
    ("outcome", "grows"),
    [
        (Outcome.SERVER_ERROR, True),
        (Outcome.RATE_LIMITED, True),
        (Outcome.REFUSED, False),
        (Outcome.CLIENT_GONE, False),
        (Outcome.STOPPED, False),
    ],
)
def test_what_counts_as_a_failure(outcome, grows):
    """A failure is what has to be done again elsewhere; what a client did is none."""
    history = fed(None, None, outcome=outcome)

    assert (history.look("a/m", 1000.0, stream=False).failures_ppm > 0) is grows


def test_failures_come_near_their_share_and_are_forgotten():
    """Half of all attempts failing is told as about half; after many successes as hardly any."""
    history = History()
    for number in range(600):
        outcome = Outcome.SERVER_ERROR if number % 2 else Outcome.SERVED
        fed(10, outcome=outcome, history=history)
    assert history.look("a/m", 1000.0, stream=False).failures_ppm == pytest.approx(
        PPM // 2, rel=0.03
    )

    fed(*[10] * 1000, history=history)

    assert history.look("a/m", 1000.0, stream=False).failures_ppm < 100


def test_slower_counts_only_while_it_is_busier_than_usual():
    """Slow answers alone are no queue; with more under way than usual they are."""
    history = fed(*[100] * 200, *[300] * 4)
    assert history.look("a/m", 1000.0, stream=False).slower_ppm == 0

    history.begin("a/m", 1000.0)

    found = history.look("a/m", 1000.0, stream=False)
    assert found.in_flight == 1
    assert 500_000 < found.slower_ppm <= PPM


def test_a_pause_makes_it_cold_once_that_was_seen_to_cost():
    """First answers after a pause are timed apart, and told only after another pause."""
    history = fed(*[100] * SAMPLES_MIN)
    later = 1000.0 + COLD_AFTER_S + 1
    assert history.look("a/m", later, stream=False).cold_ppm == 0

    fed(150, at=later, history=history)

    assert history.look("a/m", later, stream=False).cold_ppm == 0
    asleep = history.look("a/m", later + COLD_AFTER_S + 1, stream=False)
    assert asleep.cold_ppm == 500_000
    assert asleep.p95_ms == 100


def test_late_upstreams_go_last_within_their_model():
    """A target moves an upstream that misses it behind the others of its model, not behind
    another model; without a target nothing moves."""
    history = fed(*[500] * SAMPLES_MIN)
    slow, quick, other = (
        Upstream("a", "m", "m"),
        Upstream("b", "m", "m"),
        Upstream("c", "x", "x"),
    )

    def order(target_ms):
        return history.order([slow, quick, other], lambda each: each, target_ms, stream=False)

    assert order(None) == [slow, quick, other]
    assert order(500) == [slow, quick, other]
    assert order(499) == [quick, slow, other]


def test_who_sent_no_stream_last_sends_none():
    """By the last one that was asked for; of an upstream that nobody asked nothing is assumed."""
    history = History()
    before = history.is_whole("a/m")
    history.streamed("a/m", is_whole=True)
    whole = history.is_whole("a/m")
    history.streamed("a/m", is_whole=False)

    assert (before, whole, history.is_whole("a/m")) == (False, True, False)
    assert not history.is_whole("b/m")


def told(*histories, now_s=1000.0, to=None, shift_s=5e8):
    """What these tell a fresh process, or this one."""
    to = to or History()
    sources = [each.told(shift_s) for each in histories]
    for label in {label for source in sources for label in source}:
        seen = [source[label] for source in sources if label in source]
        to.learn(label, seen, now_s, shift_s=shift_s)
    return to


def test_a_fresh_process_knows_what_others_saw():
    """Times, failures, and that the upstream is awake; what is under way is each one's own."""
    slow = fed(*[900] * (SAMPLES_MIN // 2))
    failing = fed(*[900] * (SAMPLES_MIN // 2))
    for _ in range(10):
        fed(None, outcome=Outcome.SERVER_ERROR, history=failing)
    failing.begin("a/m", 1000.0)

    fresh = told(slow, failing)

    found = fresh.look("a/m", 1000.0, stream=False)
    assert found.p95_ms == 900
    assert found.failures_ppm == 10 * PPM // 30
    assert found.in_flight == 0
    assert fresh.misses("a/m", 899, stream=False)
    assert not fresh.misses("a/m", 900, stream=False)
    assert fresh.seen("a/m")[1].in_flight == 1


def test_a_pause_is_one_for_all():
    """An upstream that others keep awake is awake; how slow it wakes up others have found."""
    other = fed(*[100] * SAMPLES_MIN)
    fed(150, at=1000.0 + COLD_AFTER_S + 1, history=other)
    later = 1000.0 + COLD_AFTER_S + 10

    fresh = told(other, now_s=later)

    assert fresh.look("a/m", later, stream=False).cold_ppm == 0
    assert fresh.look("a/m", later + COLD_AFTER_S, stream=False).cold_ppm == 500_000


def test_learning_again_replaces_what_was_learned():
    """A note that is read twice counts once, and one that is gone not at all."""
    other = fed(*[100] * SAMPLES_MIN)
    mine = fed(*[300] * 5)
    for _ in range(3):
        told(other, to=mine)
    assert mine.look("a/m", 1000.0, stream=False).p95_ms == 300
    assert sum(each.slots[3].whole.count for each in mine.seen("a/m")) == SAMPLES_MIN + 5

    mine.learn("a/m", [], 1000.0, shift_s=0.0)

    assert mine.look("a/m", 1000.0, stream=False).p95_ms is None


def test_slots_leave_the_window_without_traffic():
    """After an hour nothing is known, though nobody has called since."""
    history = fed(*[900] * SAMPLES_MIN)
    assert history.misses("a/m", 500, stream=False)

    history.learn("a/m", [], 1000.0 + SLOT_S * SLOTS + 1, shift_s=0.0)

    assert history.look("a/m", 5000.0, stream=False).p95_ms is None


def test_who_was_slow_is_asked_again_after_a_while():
    """Passed over it has no way to show that it is faster; one answer that is late is enough."""
    history = fed(*[900] * SAMPLES_MIN)
    later = 1000.0 + REVISIT_AFTER_S + 1
    history.learn("a/m", [], later, shift_s=0.0)
    assert not history.misses("a/m", 500, stream=False)

    fed(900, at=later, history=history)

    assert not history.look("a/m", later, stream=False).cold_ppm
    assert history.misses("a/m", 500, stream=False)


def test_what_was_billed_is_added_up():
    """Costs and speeds, and what could be compared."""
    history = fed(100)
    history.billed("a/m", 1000.0, cost_nano=100, sold_nano=130, held_nano=400)
    history.billed(
        "a/m",
        1000.0,
        cost_nano=50,
        sold_nano=60,
        held_nano=400,
        compared=(50, -5),
        tokens_per_s=80,
    )

    tally = history.seen("a/m")[0].slots[3]
    assert (tally.billed, tally.cost_nano, tally.sold_nano, tally.held_nano) == (2, 150, 190, 800)
    assert (tally.compared, tally.reported_nano, tally.unexplained_nano) == (1, 50, -5)
    assert tally.speed.percentile(50) == 80


def test_upstreams_that_are_gone_are_forgotten():
    """But for those that still answer somebody."""
    history = fed(100)
    history.begin("b/m", 1000.0)
    history.forget(frozenset())

    assert history.in_flight() == {"b/m": 1}
