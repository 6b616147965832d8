"""What is done next about an hour, and what an answer changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from metering.settlement.stripe_moves import (
    CANNOT_TELL,
    DAY_NS,
    GRACE_NS,
    HOUR_NS,
    KEEPS_DIFFERING,
    OLDEST_NS,
    REPAIRS_MAX,
    REPEAT_NS,
    Answer,
    Became,
    Hour,
    Next,
    State,
    answered,
    can_verify,
    compared,
    freeze,
    hold,
    next_step,
    release,
    verified,
)

START = 490_000 * HOUR_NS
NOW = START + HOUR_NS // 2
HOURLY = Hour("acme", "llm_tokens", START, "cus_1", "hourly", wanted=700, acked=500, rev=3)
RAW = replace(HOURLY, mode="raw")
SENDING = freeze(HOURLY, NOW)


@pytest.mark.parametrize(
    ("hour", "now_ns", "step"),
    [
        (replace(HOURLY, acked=700), NOW, Next.NOTHING),
        (HOURLY, NOW, Next.FREEZE),
        (HOURLY, START + OLDEST_NS, Next.FREEZE),
        (HOURLY, START + OLDEST_NS + 1, Next.HOLD),
        (SENDING, NOW, Next.SEND),
        (replace(SENDING, next_at=NOW + 1), NOW, Next.NOTHING),
        (SENDING, NOW + REPEAT_NS - 1, Next.SEND),
        (SENDING, NOW + REPEAT_NS, Next.COMPARE),
        (hold(HOURLY, "no_meter"), NOW, Next.NOTHING),
    ],
)
def test_the_next_step(hour: Hour, now_ns: int, step: Next) -> None:
    assert next_step(hour, now_ns) is step


def test_a_request_says_the_total_or_what_was_added() -> None:
    assert (SENDING.value, SENDING.aim, SENDING.rev) == (700, 700, 4)
    assert (freeze(RAW, NOW).value, freeze(RAW, NOW).aim) == (200, 700)
    assert freeze(replace(RAW, wanted=400), NOW).value == -100


def test_a_request_has_one_name() -> None:
    """The same hour, value and turn give the same identifier; anything else another one."""
    again = freeze(HOURLY, NOW + 5)
    others = {
        freeze(each, NOW).identifier
        for each in (
            replace(HOURLY, wanted=701),
            replace(HOURLY, rev=4),
            replace(HOURLY, hour=START + HOUR_NS),
            replace(HOURLY, customer="cus_2"),
            replace(HOURLY, event_name="other"),
        )
    }

    assert again.identifier == SENDING.identifier
    assert len(others | {SENDING.identifier}) == 6
    assert len(SENDING.identifier or "") == 40


def test_the_newest_request_is_the_most_recent_by_its_timestamp() -> None:
    """And none leaves its hour."""
    stamps = [replace(SENDING, rev=rev).timestamp_s for rev in (1, 2, 3_599, 99_999)]

    assert stamps == sorted(stamps)
    assert START // 10**9 <= stamps[0] < stamps[1] < stamps[-1] < (START + HOUR_NS) // 10**9


def test_what_was_taken_is_what_was_sent() -> None:
    """Usage that came meanwhile is sent next."""
    busy = replace(SENDING, wanted=900)

    done = answered(busy, Answer(Became.TAKEN), NOW)

    assert (done.state, done.acked, done.wanted, done.identifier) == (State.IDLE, 700, 900, None)
    assert next_step(done, NOW) is Next.FREEZE


@pytest.mark.parametrize("became", [Became.LATER, Became.UNKNOWN, Became.STOPPED])
def test_what_is_not_known_stays_as_it_was_sent(became: Became) -> None:
    waits = answered(SENDING, Answer(became), NOW)

    assert (waits.state, waits.value, waits.identifier) == ("sending", 700, SENDING.identifier)
    assert waits.next_at == NOW + 1_000_000_000
    assert answered(waits, Answer(became), NOW).next_at == NOW + 2_000_000_000


def test_stripes_own_time_goes_before_ours() -> None:
    waits = answered(SENDING, Answer(Became.LATER, retry_after_s=30.0), NOW, jitter=1.0)

    assert waits.next_at == NOW + 30_000_000_000


def test_an_answer_ends_its_idempotency_key_and_silence_does_not() -> None:
    heard = answered(SENDING, Answer(Became.UNKNOWN, "500"), NOW)
    silent = answered(SENDING, Answer(Became.UNKNOWN, "Timeout", has_answered=False), NOW)

    assert heard.idempotency_key != SENDING.idempotency_key == silent.idempotency_key
    assert heard.identifier == silent.identifier == SENDING.identifier


def test_a_refusal_is_held_with_its_request() -> None:
    held = answered(SENDING, Answer(Became.REFUSED, "no_meter"), NOW)

    assert (held.state, held.reason, held.identifier) == ("held", "no_meter", SENDING.identifier)
    assert release(held).state == "sending"
    assert release(hold(HOURLY, "too_old")).state == "idle"


@pytest.mark.parametrize(
    ("sent", "seen", "state", "acked"),
    [
        (freeze(RAW, NOW), 700, State.IDLE, 700),
        (freeze(RAW, NOW), 500, State.IDLE, 500),
        (freeze(RAW, NOW), 600, State.HELD, 500),
        (SENDING, 700, State.IDLE, 700),
        (SENDING, 500, State.IDLE, 500),
        (SENDING, 600, State.IDLE, 600),
    ],
)
def test_the_summary_decides_what_became_of_a_request(
    sent: Hour, seen: int, state: State, acked: int
) -> None:
    """A raw meter that shows neither is somebody else's doing as well."""
    found = compared(sent, seen, NOW + DAY_NS)

    assert (found.state, found.acked, found.seen) == (state, acked, seen)
    assert found.reason == (CANNOT_TELL if state is State.HELD else None)


def test_a_difference_is_repaired_a_few_times() -> None:
    hour = replace(HOURLY, acked=700, acked_at=NOW)
    for _ in range(REPAIRS_MAX):
        hour = replace(verified(hour, 100, NOW, repair=True), acked=700)

    assert verified(hour, 100, NOW, repair=True).reason == KEEPS_DIFFERING
    assert verified(hour, 700, NOW, repair=True).repairs == 0
    assert verified(hour, 100, NOW, repair=False).acked == 700


def test_summaries_get_an_hour_to_catch_up() -> None:
    taken = answered(SENDING, Answer(Became.TAKEN), NOW)

    assert not can_verify(taken, NOW + GRACE_NS - 1)
    assert can_verify(taken, NOW + GRACE_NS)
    assert not can_verify(SENDING, NOW + GRACE_NS)
