"""Holds of long exchanges stay alive; those of ended ones are left alone."""

from __future__ import annotations

from dataclasses import dataclass, field

from fixtures_door import CollectingLog

from metering.caps import ROLLING_DAY, Candidate, Cap, Hold, Limit, Scope, ScopeKind, Vector
from metering.ids import uuid7
from metering.memory_caps import MemoryCaps
from proxy.door import HOLD_TTL_MS
from proxy.renewals import Renewals

CAPS = (Cap(Scope(ScopeKind.TENANT), ROLLING_DAY, Limit(nano=100)),)


@dataclass(eq=False)
class Open:
    hold: Hold
    checkpoint: dict[str, int] = field(default_factory=lambda: {"output_text": 7})


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
