"""Circuit breakers: opened, passed over, probed, closed; told and learned."""

import itertools

import pytest

from routing.fallback import Outcome
from routing.health import (
    COOL_MAX_S,
    FAILURES,
    FAILURES_IN_A_ROW,
    LEARNT_LATER_S,
    NEXT,
    OPEN_FIRST_S,
    OPEN_MAX_S,
    PROBE_S,
    RATE_ATTEMPTS,
    SUCCESSES,
    WINDOW_S,
    Happening,
    Health,
    State,
)


def fed(outcomes, *, at=100.0, every=0.0):
    health = Health()
    for number, outcome in enumerate(outcomes):
        health.record("a", outcome, at + number * every, retry_after_s=None)
    return health


def order(health, now_s):
    return health.order(["a", "b"], lambda label: label, now_s)


def broken(at=100.0):
    return fed([Outcome.SERVER_ERROR] * FAILURES_IN_A_ROW, at=at)


def test_every_state_knows_what_can_happen_to_it():
    """The table is whole, but that only an open breaker cools."""
    missing = set(itertools.product(State, Happening)) - set(NEXT)

    assert missing == {
        (State.CLOSED, Happening.COOLED),
        (State.HALF_OPEN, Happening.COOLED),
    }


@pytest.mark.parametrize("outcome", Outcome)
def test_each_outcome_speaks_for_or_against_the_upstream_or_says_nothing(outcome):
    """Five in a row open it when they are the upstream's fault, and only then."""
    health = fed([outcome] * FAILURES_IN_A_ROW)

    assert (health.state("a", 100) is State.OPEN) is (outcome in FAILURES)
    assert not FAILURES & SUCCESSES


def test_a_success_breaks_the_row():
    """Four failures, a success, four failures: closed."""
    bad = [Outcome.TIMEOUT] * (FAILURES_IN_A_ROW - 1)

    assert fed([*bad, Outcome.SERVED, *bad]).state("a", 100) is State.CLOSED


@pytest.mark.parametrize(("failed", "state"), [(10, State.CLOSED), (11, State.OPEN)])
def test_more_than_half_of_twenty_is_too_much(failed, state):
    """Exactly half of them is not; the order does not matter as long as no five are in a row."""
    turns = [Outcome.SERVED] * (RATE_ATTEMPTS - failed)
    turns = [
        turn for pair in zip(turns, [Outcome.NONSENSE] * failed, strict=False) for turn in pair
    ]
    turns += [Outcome.NONSENSE] * (RATE_ATTEMPTS - len(turns))

    assert fed(turns).state("a", 100) is state


def test_what_is_long_ago_does_not_count():
    """The same eleven of twenty, spread over more than the window, leave it closed."""
    turns = [Outcome.SERVED, Outcome.NONSENSE] * 9 + [Outcome.NONSENSE] * 2

    assert fed(turns, every=WINDOW_S / 10).state("a", 100 + 2 * WINDOW_S) is State.CLOSED


def test_an_open_upstream_goes_last_and_stays():
    """It is tried after the others, and alone it is still tried."""
    health = broken()

    assert order(health, 101) == ["b", "a"]
    assert health.order(["a"], lambda label: label, 101) == ["a"]


def test_half_open_lets_one_probe():
    """After its time one attempt goes there first; while that runs the others pass over it."""
    health, later = broken(), 100 + OPEN_FIRST_S

    assert health.state("a", later) is State.HALF_OPEN
    assert order(health, later) == ["a", "b"]
    health.begin("a", later)
    assert order(health, later + 1) == ["b", "a"]
    assert order(health, later + PROBE_S) == ["a", "b"]


def test_a_probe_that_succeeds_closes_it():
    """From then on all is as if nothing had been."""
    health, later = broken(), 100 + OPEN_FIRST_S
    health.begin("a", later)
    health.record("a", Outcome.SERVED, later, retry_after_s=None)

    assert health.state("a", later) is State.CLOSED
    assert health.changed == {"a": 0.0}
    assert health.troubled == frozenset()


def test_what_succeeds_meanwhile_does_not_close_it():
    """A stream that began before the failures ends well; the time is kept all the same."""
    health = Health()
    health.record("a", Outcome.RATE_LIMITED, 100, retry_after_s=30.0)
    health.record("a", Outcome.SERVED, 110, retry_after_s=None)

    assert order(health, 129) == ["b", "a"]
    assert health.changed == {"a": 130.0}


def test_a_probe_that_fails_doubles_the_time_up_to_a_bound():
    """10 s, 20 s, 30 s, 30 s, 30 s."""
    health, now_s, opened = broken(), 100.0, []
    for _ in range(5):
        opened.append(health.changed["a"] - now_s)
        now_s = health.changed["a"]
        health.begin("a", now_s)
        health.record("a", Outcome.TIMEOUT, now_s, retry_after_s=None)

    assert opened == [OPEN_FIRST_S, 20, OPEN_MAX_S, OPEN_MAX_S, OPEN_MAX_S]


@pytest.mark.parametrize(
    ("asked_s", "left_s"), [(5.0, 5.0), (600.0, COOL_MAX_S), (None, 0.0), (0.0, 0.0)]
)
def test_a_429_with_a_time_cools_the_upstream_down(asked_s, left_s):
    """At once, for as long as it asks but never above the bound; without a time not at all."""
    health = Health()
    health.record("a", Outcome.RATE_LIMITED, 100, retry_after_s=asked_s)

    assert health.changed == ({"a": 100 + left_s} if left_s else {})
    assert (order(health, 100) == ["b", "a"]) is bool(left_s)
    assert order(health, 100 + left_s) == ["a", "b"]


def test_a_shorter_time_does_not_shorten_a_longer_one():
    """Two 429 at once, the second of which asks for less."""
    health = Health()
    health.record("a", Outcome.RATE_LIMITED, 100, retry_after_s=40.0)
    health.record("a", Outcome.RATE_LIMITED, 100, retry_after_s=1.0)

    assert health.state("a", 139) is State.OPEN


def test_what_others_found_is_learned_and_told_no_further():
    """A learned breaker is passed over, cools and is forgotten; `changed` stays empty."""
    health = Health()
    health.learn("a", 7.0, 100)

    assert order(health, 106 + LEARNT_LATER_S) == ["b", "a"]
    assert health.state("a", 107 + LEARNT_LATER_S) is State.HALF_OPEN
    health.forget("a")
    assert health.state("a", 107) is State.CLOSED
    assert health.changed == {}


def test_what_others_found_does_not_stop_a_probe():
    """While it is under way here, it decides."""
    health, later = broken(), 100 + OPEN_FIRST_S
    health.begin("a", later)
    health.learn("a", 9.0, later)

    assert health.state("a", later) is State.HALF_OPEN
    assert health.is_probing("a", later)


def test_a_failed_probe_of_another_is_learned():
    """Who was about to probe, too, passes the upstream over for as long as that one found."""
    health, later = broken(), 100 + OPEN_FIRST_S
    health.state("a", later)
    health.learn("a", 9.0, later)

    assert health.is_passed_over("a", later + 8.9)
    assert health.state("a", later + 9.0 + LEARNT_LATER_S) is State.HALF_OPEN


def test_one_may_probe():
    """Whoever leads asks as soon as the upstream has cooled, the others once its time is over."""
    first, second, cooled = broken(), broken(), 100 + OPEN_FIRST_S

    assert first.cooling(100, OPEN_FIRST_S - 1) == []
    assert first.cooling(100, OPEN_FIRST_S) == ["a"]
    first.lead("a", cooled)
    second.follow("a", cooled + 5)

    assert not first.is_passed_over("a", cooled)
    assert second.is_passed_over("a", cooled + 4.9)
    assert not second.is_passed_over("a", cooled + 5)


def test_a_probe_is_ours_until_it_has_ended():
    """Nobody leads or follows meanwhile; when it has failed the next one is open to all."""
    health, cooled = broken(), 100 + OPEN_FIRST_S
    health.begin("a", cooled)
    health.follow("a", cooled + 500)
    health.lead("a", cooled)

    assert health.is_probing("a", cooled)
    assert health.is_passed_over("a", cooled + PROBE_S - 1)
    health.record("a", Outcome.TIMEOUT, cooled + 1, retry_after_s=None)
    assert not health.is_probing("a", cooled + 1)
    assert health.state("a", cooled + 1) is State.OPEN


def test_the_memory_of_attempts_is_bounded():
    """A million attempts within the window take no more room than a thousand."""
    health = fed([Outcome.SERVED] * 5_000)
    health.record("a", Outcome.TIMEOUT, 100, retry_after_s=None)

    [breaker] = health._breakers.values()
    assert len(breaker.recent) == breaker.recent.maxlen
    assert breaker.failed_recently == 1
    assert health.states(100) == {"a": State.CLOSED}


def test_an_overload_that_names_a_time_cools_the_upstream_down():
    """A 503 with Retry-After asks to be left alone as a 429 does, and is a failure besides."""
    health = Health()
    health.record("a", Outcome.SERVER_ERROR, 100, retry_after_s=20.0)

    assert order(health, 119) == ["b", "a"]
    assert order(health, 120) == ["a", "b"]


def test_a_limit_that_is_used_up_cools_the_upstream_down():
    """Also after an answer that was served, and no longer than the bound."""
    health = Health()
    health.record("a", Outcome.SERVED, 100, retry_after_s=None)
    health.cool("a", 3600.0, 100)

    assert health.is_passed_over("a", 100 + COOL_MAX_S - 1)
    assert not health.is_passed_over("a", 100 + COOL_MAX_S)
    assert not health.is_passed_over("b", 100)


def test_who_found_it_later_asks_later():
    """The first to tell asks first; what is not open has nothing to put off."""
    health = broken()
    health.yield_probe("a", 101)
    health.yield_probe("b", 101)

    assert health.state("a", 100 + OPEN_FIRST_S) is State.OPEN
    assert health.state("a", 100 + OPEN_FIRST_S + LEARNT_LATER_S) is State.HALF_OPEN
    assert health.state("b", 101) is State.CLOSED


def test_who_goes_last_is_told():
    """Exactly those that the order would put behind the others: a probe is free to go."""
    health = broken()

    assert health.passed_over(101) == {"a"}
    assert health.passed_over(111) == frozenset()
    health.begin("a", 111)
    assert health.passed_over(112) == {"a"}
    assert Health().passed_over(1) == frozenset()
