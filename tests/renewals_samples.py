"""Exchanges that hold something, without anything behind them, and caps that count renewals."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from metering.caps import (
    ROLLING_DAY,
    Candidate,
    Cap,
    Denial,
    Hold,
    Limit,
    Renewal,
    Reservation,
    Scope,
    ScopeKind,
    Vector,
)
from metering.clock import monotonic_s
from metering.ids import uuid7
from metering.memory_caps import MemoryCaps
from proxy.door import HOLD_TTL_MS, HoldTimes

CAPS = (Cap(Scope(ScopeKind.TENANT), ROLLING_DAY, Limit(nano=10_000)),)
TIMES = HoldTimes()


@dataclass(eq=False)
class Open:
    hold: Hold
    progress: tuple[int, ...] = (1, 7)
    held: Candidate | None = None
    is_ending: bool = False
    asked: int = 0
    caps: MemoryCaps = field(default_factory=MemoryCaps)
    placed: int = 0
    stopped: Denial | None = None

    def stop(self, denial: Denial) -> None:
        self.stopped = denial

    async def place(self, candidates: Sequence[Candidate]) -> Reservation | Denial:
        self.placed += 1
        return await self.caps.reserve(
            self.hold, candidates, owner="p", ttl_ms=HOLD_TTL_MS, facts=b"facts", runs=True
        )

    def checkpoint(self) -> bytes:
        self.asked += 1
        return b"seen %d" % self.progress[-1]


@dataclass
class ManualClock:
    now_ms: int = 1_800_000_000_000

    def __call__(self) -> int:
        return self.now_ms


async def held(caps: MemoryCaps, clock: ManualClock, number: int) -> Open:
    hold = Hold("acme", uuid7(clock.now_ms, number.to_bytes(10, "big")), CAPS)
    await caps.reserve(hold, [Candidate("u", Vector(nano=10))], owner="p", ttl_ms=HOLD_TTL_MS)
    return Open(hold, caps=caps)


def soon() -> float:
    """A moment at which every exchange that was added is due."""
    return monotonic_s() + TIMES.first_checkpoint_s


class CountingCaps(MemoryCaps):
    """Counts how many renewals are under way at once; each takes a turn of the loop."""

    under_way = most = answered = 0

    async def renew(self, hold: Hold, *, ttl_ms: int, checkpoint: bytes | None = None) -> Renewal:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        self.answered += 1
        return await super().renew(hold, ttl_ms=ttl_ms, checkpoint=checkpoint)
