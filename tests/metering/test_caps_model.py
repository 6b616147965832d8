"""How holds end: they lapse, are swapped, renewed, or end under a flag. On every `Caps`."""

from __future__ import annotations

import pytest
from caps_samples import (
    KEY,
    USER,
    Subject,
    ask,
    cap,
    hold,
)
from fixtures_caps import TTL_MS, denied, held, reserve

from metering.caps import (
    CommitResult,
    Denial,
    DenialReason,
    HoldEndedError,
    Renewal,
    Reservation,
    Scope,
    Vector,
)


async def test_a_lapsed_hold_gives_room_and_its_commit_still_counts(subject: Subject) -> None:
    """A crashed proxy blocks nobody for longer than its hold; money is not lost by being late."""
    bound = cap(100)
    slow = hold(bound)
    await held(subject, slow, ask(100))
    subject.clock.ms += TTL_MS

    other = await held(subject, hold(bound), ask(60))
    late = await subject.caps.commit(slow, Vector(90, 0, 1), [b"{}"])

    assert other.states[0].held.nano == 60
    assert late.result is CommitResult.LATE
    assert (late.states[0].spent.nano, late.states[0].held.nano) == (90, 60)


async def test_a_lapsed_hold_can_be_swapped_back_but_not_reserved_again(subject: Subject) -> None:
    """Swapping asks for the room anew; reserving would hide that it was gone."""
    bound = cap(100)
    slow = hold(bound)
    await held(subject, slow, ask(50))
    subject.clock.ms += TTL_MS
    await held(subject, hold(bound), ask(60))

    with pytest.raises(HoldEndedError):
        await reserve(subject, slow, ask(50))
    refused = await subject.caps.swap(slow, ask(50))
    revived = await subject.caps.swap(slow, ask(40))

    assert isinstance(refused, Denial)
    assert isinstance(revived, Reservation)
    assert revived.states[0].held.nano == 100


async def test_a_swap_counts_its_own_hold_as_room_and_fails_whole(subject: Subject) -> None:
    """Used - old + new must fit in every cap; refused, the old hold stays."""
    wide, narrow = cap(1_000), cap(100, scope=KEY)
    exchange = hold(wide, narrow)
    await held(subject, exchange, ask(80))

    grown = await subject.caps.swap(exchange, ask(100))
    refused = await subject.caps.swap(exchange, ask(101))
    after = await held(subject, hold(wide), ask(0))

    assert isinstance(grown, Reservation)
    assert isinstance(refused, Denial)
    assert refused.state is not None
    assert refused.state.cap == narrow
    assert after.states[0].held.nano == 100


async def test_swapping_what_holds_nothing_is_an_error(subject: Subject) -> None:
    """There is no owner and no expiry to give it."""
    with pytest.raises(HoldEndedError):
        await subject.caps.swap(hold(cap(100)), ask(1))


async def test_a_renewed_hold_outlives_its_first_expiry(subject: Subject) -> None:
    """Long streams keep their room; a hold that is gone says so."""
    bound = cap(100)
    stream = hold(bound)
    await held(subject, stream, ask(100))
    subject.clock.ms += TTL_MS - 1

    renewed = await subject.caps.renew(stream, ttl_ms=TTL_MS, checkpoint=b"7 tokens")
    subject.clock.ms += TTL_MS - 1
    still = await denied(subject, hold(bound), ask(1))
    subject.clock.ms += 1
    await held(subject, hold(bound), ask(1))

    assert renewed.is_held
    assert still.reason is DenialReason.HELD
    assert not (await subject.caps.renew(stream, ttl_ms=TTL_MS)).is_held
    assert not (await subject.caps.renew(hold(bound), ttl_ms=TTL_MS)).is_held


@pytest.mark.parametrize(
    ("flag", "reason", "scope"),
    [
        ("paused", DenialReason.PAUSED, None),
        ("killed", DenialReason.KILLED, None),
        ("killed:key/k1", DenialReason.KILLED, KEY),
        ("paused:user/u1", DenialReason.PAUSED, USER),
    ],
)
async def test_a_flag_stops_new_holds_and_lets_old_ones_end(
    subject: Subject, flag: str, reason: DenialReason, scope: Scope | None
) -> None:
    """What is under way is told at its next renewal, and counted; nothing more is admitted."""
    bounds, stops = (cap(100), cap(100, scope=KEY)), (KEY, USER)
    running = hold(*bounds, stops=stops)
    await held(subject, running, ask(10))
    before = await subject.caps.renew(running, ttl_ms=TTL_MS)
    await subject.set_flag("acme", flag)

    assert await denied(subject, hold(*bounds, stops=stops), ask(1)) == Denial(reason, scope=scope)
    assert await subject.caps.swap(running, ask(20)) == Denial(reason, scope=scope)
    after = await subject.caps.renew(running, ttl_ms=TTL_MS)
    assert (before, after) == (Renewal(is_held=True), Renewal(True, reason, scope))
    others = await reserve(subject, hold(*bounds), ask(1))
    assert isinstance(others, Denial) == (scope is None)
    ended = await subject.caps.commit(running, Vector(10, 0, 1), [])
    assert ended.result is CommitResult.COMMITTED
