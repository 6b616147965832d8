"""Caps that can be away, and a process in front of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from caps_samples import NOW_MS, ask, cap, hold

from metering.caps import (
    Candidate,
    CapsUnavailableError,
    Commit,
    Denial,
    Hold,
    Renewal,
    Reservation,
    Stairs,
    Vector,
)
from metering.memory_caps import MemoryCaps
from metering.outage_caps import OutageCaps
from metering.outage_slices import OutagePolicy
from metering.redis_wire import RedisReplyError

CAP = cap(1_000)
AWAY = CapsUnavailableError("away")


class Redis(MemoryCaps):
    """Caps that can be away: gone at once, or silent, so that what was asked is done unseen."""

    def __init__(self) -> None:
        super().__init__(now_ms=lambda: NOW_MS)
        self.is_up = True
        self.is_silent = False
        self.broken: set[str] = set()

    async def reserve(self, hold: Hold, *args: Any, **more: Any) -> Reservation | Denial:
        self._ask()
        if hold.tenant in self.broken:
            raise RedisReplyError("WRONGTYPE Operation against a key holding the wrong kind")
        answer = await super().reserve(hold, *args, **more)
        self._answer()
        return answer

    async def commit(self, hold: Hold, actual: Vector, events: Sequence[bytes]) -> Commit:
        self._ask()
        done = await super().commit(hold, actual, events)
        self._answer()
        return done

    async def swap(self, *args: Any, **more: Any) -> Reservation | Denial:
        self._ask()
        return await super().swap(*args, **more)

    async def renew(self, *args: Any, **more: Any) -> Renewal:
        self._ask()
        return await super().renew(*args, **more)

    def _ask(self) -> None:
        if not self.is_up:
            raise AWAY

    def _answer(self) -> None:
        if self.is_silent:
            raise AWAY


class Site:
    """A process in front of that Redis."""

    def __init__(
        self,
        mode: Literal["local", "closed", "open"] = "local",
        redis: Redis | None = None,
        processes: int = 1,
        share_ppm: int = 100_000,
    ) -> None:
        self.redis = redis or Redis()
        self.is_recordable = True
        self.said: list[str | None] = []
        self.broken: list[str] = []
        self.caps = OutageCaps(
            self.redis,
            OutagePolicy(mode, share_ppm, processes),
            is_up=lambda: self.redis.is_up,
            is_recordable=lambda: self.is_recordable,
            on_change=self.said.append,
            on_broken=lambda tenant, _: self.broken.append(tenant),
        )

    async def reserve(
        self, what: Hold, *candidates: Candidate, stairs: Stairs | None = None
    ) -> Reservation | Denial | CapsUnavailableError:
        try:
            return await self.caps.reserve(
                what, candidates, owner="p", ttl_ms=60_000, stairs=stairs
            )
        except CapsUnavailableError as error:
            return error

    async def spend(self, nano: int) -> None:
        """An exchange that Redis admitted and has."""
        what = hold(CAP)
        await self.reserve(what, ask(nano))
        await self.caps.commit(what, Vector(nano), ())
