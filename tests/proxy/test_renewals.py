"""Holds of long exchanges stay alive; those of ended ones are left alone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from fixtures_door import CollectingLog

from metering.background import spawn
from metering.caps import (
    ROLLING_DAY,
    Candidate,
    Cap,
    CapsUnavailableError,
    Hold,
    Limit,
    Scope,
    ScopeKind,
    Vector,
)
from metering.ids import uuid7
from metering.memory_caps import MemoryCaps
from proxy import renewals as module
from proxy.door import HOLD_TTL_MS
from proxy.renewals import Renewals

CAPS = (Cap(Scope(ScopeKind.TENANT), ROLLING_DAY, Limit(nano=100)),)


@dataclass(eq=False)
class Open:
    hold: Hold
    checkpoint: dict[str, int] = field(default_factory=lambda: {"output_text": 7})
    held: Candidate | None = None


@dataclass
class ManualClock:
    now_ms: int = 1_800_000_000_000

    def __call__(self) -> int:
        return self.now_ms


async def held(caps: MemoryCaps, clock: ManualClock, number: int) -> Open:
    hold = Hold("acme", uuid7(clock.now_ms, bytes([number]) * 10), CAPS)
    await caps.reserve(hold, [Candidate("u", Vector(nano=10))], owner="p", ttl_ms=HOLD_TTL_MS)
    return Open(hold)


async def test_a_long_exchange_keeps_its_hold() -> None:
    """Renewed each turn, a hold outlives its first expiry and carries what was counted."""
    clock = ManualClock()
    caps = MemoryCaps(now_ms=clock)
    renewals = Renewals(caps, CollectingLog())
    exchange = await held(caps, clock, 1)
    renewals.add(exchange)

    for _ in range(5):
        await renewals.turn()
        clock.now_ms += HOLD_TTL_MS // 2

    record = caps.model.records["acme", exchange.hold.exchange_id]
    assert record.state == "held"
    assert record.checkpoint == {"output_text": 7}


async def test_an_ended_exchange_is_not_renewed() -> None:
    """What has ended is neither renewed nor remembered."""
    clock = ManualClock()
    caps = MemoryCaps(now_ms=clock)
    renewals = Renewals(caps, log := CollectingLog())
    exchange = await held(caps, clock, 1)
    renewals.add(exchange)
    await renewals.turn()
    await caps.release(exchange.hold)

    renewals.discard(exchange)
    await renewals.turn()

    assert len(renewals) == 0
    assert log.lines == []


async def test_a_lapsed_hold_is_said() -> None:
    """A hold that was lost while its exchange goes on is worth a line."""
    clock = ManualClock()
    caps = MemoryCaps(now_ms=clock)
    renewals = Renewals(caps, log := CollectingLog())
    exchange = await held(caps, clock, 1)
    renewals.add(exchange)
    await renewals.turn()
    await caps.release(exchange.hold)

    await renewals.turn()

    assert [name for name, _ in log.lines] == ["hold_lapsed"]


async def test_a_hold_that_lapsed_is_placed_again() -> None:
    """Redis was away for longer than the hold lives; then the cap knows of the exchange again."""
    clock = ManualClock()
    caps = MemoryCaps(now_ms=clock)
    renewals = Renewals(caps, log := CollectingLog())
    exchange = await held(caps, clock, 1)
    exchange.held = Candidate("u", Vector(nano=10))
    renewals.add(exchange)
    await renewals.turn()
    clock.now_ms += 2 * HOLD_TTL_MS
    other = await held(caps, clock, 2)  # sweeps what has lapsed

    await renewals.turn()

    assert caps.model.records["acme", exchange.hold.exchange_id].state == "held"
    assert caps.model.scopes["acme", CAPS[0].scope].held == Vector(nano=20)
    assert [name for name, _ in log.lines] == ["hold_placed_again"]
    assert other.hold != exchange.hold


async def test_a_hold_that_fits_no_more_is_said() -> None:
    """Others have taken the room meanwhile: nothing is placed, the exchange goes on."""
    clock = ManualClock()
    caps = MemoryCaps(now_ms=clock)
    renewals = Renewals(caps, log := CollectingLog())
    exchange = await held(caps, clock, 1)
    exchange.held = Candidate("u", Vector(nano=95))
    renewals.add(exchange)
    await renewals.turn()
    clock.now_ms += 2 * HOLD_TTL_MS
    await held(caps, clock, 2)

    await renewals.turn()

    [(name, fields)] = log.lines
    assert (name, "held" in fields["cause"]) == ("hold_lapsed", True)


class RefusingCaps(MemoryCaps):
    """Caps that fail so many times before they answer."""

    failures = 0
    error: Exception = CapsUnavailableError("away")

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise self.error

    async def renew(
        self, hold: Hold, *, ttl_ms: int, checkpoint: Mapping[str, int] | None = None
    ) -> bool:
        self._fail()
        return await super().renew(hold, ttl_ms=ttl_ms, checkpoint=checkpoint)

    async def release(self, hold: Hold) -> None:
        self._fail()
        await super().release(hold)


async def test_one_failure_delays_nobody_to_the_next_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """All are renewed in the same turn, the one that failed a little later."""
    monkeypatch.setattr(module, "RENEW_AGAIN_S", 0.0)
    clock = ManualClock()
    caps = RefusingCaps(now_ms=clock)
    renewals = Renewals(caps, log := CollectingLog())
    exchanges = [await held(caps, clock, number) for number in range(3)]
    for exchange in exchanges:
        renewals.add(exchange)
    await renewals.turn()
    clock.now_ms += HOLD_TTL_MS // 2
    caps.failures = 1

    await renewals.turn()

    expiries = {record.expires_ms for record in caps.model.records.values()}
    assert expiries == {clock.now_ms + HOLD_TTL_MS}
    assert [name for name, _ in log.lines] == ["renewal_failed"]


async def test_an_unexpected_error_does_not_end_the_giving_back() -> None:
    """One hold cannot be released, whatever the reason; those after it can."""
    clock = ManualClock()
    caps = RefusingCaps(now_ms=clock)
    renewals = Renewals(caps, log := CollectingLog())
    odd, good, later = [await held(caps, clock, number) for number in range(3)]
    caps.failures, caps.error = 1, RuntimeError("nobody thought of this")
    renewals.give_back(odd.hold)
    renewals.give_back(good.hold)
    async with asyncio.timeout(5):
        while ("acme", good.hold.exchange_id) in caps.model.records:
            await asyncio.sleep(0)

    renewals.give_back(later.hold)

    async with asyncio.timeout(5):
        while ("acme", later.hold.exchange_id) in caps.model.records:
            await asyncio.sleep(0)
    assert [name for name, _ in log.lines] == ["release_failed"]


async def test_what_is_open_is_cut_by_name() -> None:
    """Each is cancelled once, and what has ended is not cut again."""
    clock = ManualClock()
    caps = MemoryCaps(now_ms=clock)
    renewals = Renewals(caps, CollectingLog())
    exchange = await held(caps, clock, 1)
    heard: list[str] = []

    async def serve() -> None:
        renewals.add(exchange)
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            heard.append("cut")
        finally:
            renewals.discard(exchange)

    serving = spawn(serve(), name="exchange")
    await asyncio.sleep(0)

    cut = renewals.cut()
    await serving

    assert (cut, heard, renewals.cut(), len(renewals)) == (1, ["cut"], 0, 0)
