"""Holds that Redis lost with its data are there again, with all that recovering them needs."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from fixtures_door import CollectingLog
from renewals_samples import CountingCaps, ManualClock, held, soon

from metering.background import spawn
from metering.caps import Candidate, Denial, Hold, Reservation, Vector
from metering.clock import monotonic_s
from metering.memory_caps import MemoryCaps
from proxy.door import HOLD_TTL_MS
from proxy.renewals import RENEW_AGAIN_S, TOGETHER, Renewals


async def test_a_hold_that_redis_lost_is_placed_anew_with_all_that_is_known() -> None:
    """Its facts, its owner and its checkpoint: whoever has to recover it finds what was there."""
    clock = ManualClock()
    caps = MemoryCaps(now_ms=clock)
    renewals = Renewals(caps, log := CollectingLog())
    exchange = await held(caps, clock, 1)
    exchange.held = Candidate("u", Vector(nano=10))
    renewals.add(exchange)
    await renewals.turn(soon())
    caps.model.records.clear()
    caps.model.scopes.clear()

    renewals.hurry()
    await renewals.turn(monotonic_s())

    record = caps.model.records["acme", exchange.hold.exchange_id]
    assert (record.state, record.owner, record.vector) == ("held", "p", Vector(nano=10))
    assert (record.facts, record.checkpoint) == (b"facts", b"seen 7")
    assert [name for name, _ in log.lines] == ["hold_placed_again"]


@pytest.mark.parametrize("ended", ["committed", "released", "recovered"])
async def test_what_was_ended_by_others_is_not_placed_anew(ended: str) -> None:
    """Its record is gone, too, but it is known why: it would be counted twice."""
    clock = ManualClock()
    caps = MemoryCaps(now_ms=clock)
    renewals = Renewals(caps, log := CollectingLog())
    exchange = await held(caps, clock, 1)
    exchange.held = Candidate("u", Vector(nano=10))
    renewals.add(exchange)
    key = ("acme", exchange.hold.exchange_id)
    if ended == "recovered":
        caps.model.records[key] = replace(caps.model.records[key], state="recovered")
    elif ended == "released":
        await caps.release(exchange.hold)
    else:
        await caps.commit(exchange.hold, Vector(nano=3), ())

    await renewals.turn(soon())

    assert exchange.placed == 1
    assert [name for name, _ in log.lines] == ["hold_lapsed"]


async def test_what_was_lost_is_held_again_while_windows_are_rebuilt() -> None:
    """At once, with what it has come to: a kill before they are whole would leave no trace."""
    clock = ManualClock()
    caps = MemoryCaps(now_ms=clock)
    renewals = Renewals(caps, log := CollectingLog())
    lost = [await held(caps, clock, number) for number in range(TOGETHER)]
    for exchange in lost:
        exchange.held = Candidate("u", Vector(nano=10))
        renewals.add(exchange)
    caps.model.records.clear()
    caps.model.scopes.clear()
    kept = await held(caps, clock, TOGETHER)
    renewals.add(kept)
    caps.model.is_rebuilt = False

    await renewals.turn(soon())

    assert [record.checkpoint for record in caps.model.records.values()] == [b"seen 7"] * (
        TOGETHER + 1
    )
    assert {name for name, _ in log.lines} == {"hold_placed_again"}


async def test_what_has_lapsed_waits_for_its_windows() -> None:
    """Its record is there to be recovered from; it is tried again a second later."""
    clock = ManualClock()
    caps = MemoryCaps(now_ms=clock)
    renewals = Renewals(caps, log := CollectingLog())
    lapsed = await held(caps, clock, 1)
    lapsed.held = Candidate("u", Vector(nano=10))
    renewals.add(lapsed)
    clock.now_ms += HOLD_TTL_MS + 1
    await held(caps, clock, 2)  # whoever comes next finds that it has lapsed
    caps.model.is_rebuilt = False
    now_s = soon()

    await renewals.turn(now_s)
    told = list(log.lines)
    caps.model.is_rebuilt = True
    await renewals.turn(now_s + RENEW_AGAIN_S)

    assert told == []
    assert [name for name, _ in log.lines] == ["hold_placed_again"]


async def test_hurry_has_all_renewed_and_noted_whatever_was_said_before() -> None:
    """Nothing is due for a minute, and yet Redis may have lost it just now."""
    clock = ManualClock()
    caps = CountingCaps(now_ms=clock)
    renewals = Renewals(caps, CollectingLog())
    exchanges = [await held(caps, clock, number) for number in range(TOGETHER + 1)]
    for exchange in exchanges:
        renewals.add(exchange)
    now_s = soon()
    await renewals.turn(now_s)

    await renewals.turn(now_s)
    renewals.hurry()
    await renewals.turn(now_s)

    assert (caps.answered, caps.most) == (2 * (TOGETHER + 1), TOGETHER)
    assert {exchange.asked for exchange in exchanges} == {2}


async def test_a_renewal_that_was_under_way_at_the_loss_counts_for_nothing() -> None:
    """It may have been answered by the data that is gone: the next turn asks again."""
    clock = ManualClock()
    caps = CountingCaps(now_ms=clock)
    renewals = Renewals(caps, CollectingLog())
    renewals.add(await held(caps, clock, 1))
    now_s = soon()

    under_way = spawn(renewals.turn(now_s), name="turn")
    while not caps.under_way:
        await asyncio.sleep(0)
    renewals.hurry()
    await under_way
    await renewals.turn(now_s)

    assert caps.answered == 2


async def test_a_hold_that_grew_while_it_was_placed_again_keeps_what_it_grew_to() -> None:
    """The slice was granted just before what was known then is placed: it is not undone."""
    clock = ManualClock()

    class Growing(MemoryCaps):
        async def swap(self, hold: Hold, candidate: Candidate) -> Reservation | Denial:
            if exchange.held == candidate == first:
                await super().swap(hold, more)
                answer = await super().swap(hold, candidate)
                exchange.held = more  # whose answer comes first
                return answer
            return await super().swap(hold, candidate)

    caps = Growing(now_ms=clock)
    renewals = Renewals(caps, CollectingLog())
    exchange = await held(caps, clock, 1)
    first, more = (Candidate("u", Vector(nano=nano)) for nano in (10, 30))
    exchange.held = first
    renewals.add(exchange)
    clock.now_ms += HOLD_TTL_MS
    await held(caps, clock, 2)  # which notices that the first has lapsed

    await renewals.turn(soon())

    record = caps.model.records["acme", exchange.hold.exchange_id]
    assert (record.state, record.vector) == ("held", more.vector)
