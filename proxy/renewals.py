"""Holds of long exchanges are renewed, and those that nobody will use are given back.

A hold expires by itself so that a killed process gives its room back; an exchange that lives
longer than its hold would otherwise lose it while it still spends. What was counted so far is noted
in the hold's record at each renewal. A hold whose reserve was never answered may have been placed
all the same: it is released as soon as Redis answers again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from metering.background import spawn
from metering.caps import Caps, CapsUnavailableError, Hold
from metering.clock import monotonic_s
from proxy.door import HOLD_TTL_MS, RENEW_EVERY_S, Holding

RELEASE_AGAIN_S = 0.5


class Renewals:
    """The open exchanges of this process; `run` renews them until it is cancelled."""

    def __init__(self, caps: Caps, log: Any) -> None:
        self._caps = caps
        self._log = log
        self._fresh: set[Holding] = set()
        self._old: set[Holding] = set()
        self._unused: deque[tuple[float, Hold]] = deque()
        self._releasing: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._fresh) + len(self._old)

    def add(self, exchange: Holding) -> None:
        """Start renewing the hold of this exchange."""
        self._fresh.add(exchange)

    def discard(self, exchange: Holding) -> None:
        """It has ended."""
        self._fresh.discard(exchange)
        self._old.discard(exchange)

    def give_back(self, hold: Hold) -> None:
        """Release a hold that nobody will use, as soon as Redis takes it."""
        self._unused.append((monotonic_s(), hold))
        if self._releasing is None:
            self._releasing = spawn(self._release(), name="release-unused")

    async def _release(self) -> None:
        """Release what is unused, oldest first; past its time a hold has lapsed by itself."""
        while self._unused:
            since_s, hold = self._unused[0]
            try:
                if monotonic_s() - since_s < HOLD_TTL_MS / 1000:
                    await self._caps.release(hold)
            except CapsUnavailableError:
                await asyncio.sleep(RELEASE_AGAIN_S)
            else:
                self._unused.popleft()
        self._releasing = None

    async def run(self) -> None:
        """Renew, forever, every exchange that has lived through one full turn."""
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            await self.turn()

    async def turn(self) -> None:
        """Renew what was open at the last turn already; the rest has a fresh hold."""
        for exchange in list(self._old):
            try:
                kept = await self._caps.renew(
                    exchange.hold, ttl_ms=HOLD_TTL_MS, checkpoint=exchange.checkpoint
                )
            except CapsUnavailableError as error:
                self._log.warning("renewal_failed", cause=str(error))
                break
            if not kept:
                self._log.warning("hold_lapsed", exchange_id=exchange.hold.exchange_id)
        self._old |= self._fresh
        self._fresh.clear()
