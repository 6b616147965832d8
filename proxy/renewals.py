"""Holds of long exchanges are renewed, and what was counted so far is noted in their records.

A hold expires by itself so that a killed process gives its room back; an exchange that lives
longer than its hold would otherwise lose it while it still spends.
"""

from __future__ import annotations

import asyncio
from typing import Any

from metering.caps import Caps, CapsUnavailableError
from proxy.door import HOLD_TTL_MS, RENEW_EVERY_S, Holding


class Renewals:
    """The open exchanges of this process; `run` renews them until it is cancelled."""

    def __init__(self, caps: Caps, log: Any) -> None:
        self._caps = caps
        self._log = log
        self._fresh: set[Holding] = set()
        self._old: set[Holding] = set()

    def __len__(self) -> int:
        return len(self._fresh) + len(self._old)

    def add(self, exchange: Holding) -> None:
        """Start renewing the hold of this exchange."""
        self._fresh.add(exchange)

    def discard(self, exchange: Holding) -> None:
        """It has ended."""
        self._fresh.discard(exchange)
        self._old.discard(exchange)

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
