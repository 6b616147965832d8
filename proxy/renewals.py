"""Holds of long exchanges are renewed, and those that nobody will use are given back.

A hold expires by itself so that a killed process gives its room back; an exchange that lives
longer than its hold would otherwise lose it while it still spends. What was counted so far is noted
in the hold's record at each renewal. A hold that lapsed all the same is placed again, if it still
fits. A hold whose reserve was never answered may have been placed: it is released as soon as Redis
answers again.

The same list says what is open when the process stops, and cuts what does not end by itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any

from metering.background import spawn
from metering.caps import Caps, CapsUnavailableError, Denial, Hold, HoldEndedError
from metering.clock import monotonic_s
from proxy.door import HOLD_TTL_MS, RENEW_EVERY_S, Holding

RELEASE_AGAIN_S = 0.5

RENEW_AGAIN_S = 1.0
RENEW_TRIES = 20
"""Per turn, RENEW_AGAIN_S apart: two turns and their tries are shorter than a hold lives."""


class Renewals:
    """The open exchanges of this process; `run` renews them until it is cancelled."""

    def __init__(self, caps: Caps, log: Any) -> None:
        self._caps = caps
        self._log = log
        self._fresh: set[Holding] = set()
        self._old: set[Holding] = set()
        self._unused: deque[tuple[float, Hold]] = deque()
        self._releasing: asyncio.Task[None] | None = None
        self._tasks: dict[Holding, asyncio.Task[Any] | None] = {}

    def __len__(self) -> int:
        return len(self._fresh) + len(self._old)

    def add(self, exchange: Holding) -> None:
        """Start renewing the hold of this exchange; called in the task that runs it."""
        self._fresh.add(exchange)
        self._tasks[exchange] = asyncio.current_task()

    def discard(self, exchange: Holding) -> None:
        """It has ended."""
        self._fresh.discard(exchange)
        self._old.discard(exchange)
        self._tasks.pop(exchange, None)

    def cut(self) -> int:
        """Cancel every open exchange, which settles what it has counted; how many there were."""
        cut = [task for task in self._tasks.values() if task is not None]
        for task in cut:
            task.cancel()
        return len(cut)

    def give_back(self, hold: Hold) -> None:
        """Release a hold that nobody will use, as soon as Redis takes it."""
        self._unused.append((monotonic_s(), hold))
        if self._releasing is None:
            self._releasing = spawn(self._release(), name="release-unused")

    async def _release(self) -> None:
        """Release what is unused, oldest first; past its time a hold has lapsed by itself."""
        try:
            while self._unused:
                since_s, hold = self._unused[0]
                try:
                    if monotonic_s() - since_s < HOLD_TTL_MS / 1000:
                        await self._caps.release(hold)
                except CapsUnavailableError:
                    await asyncio.sleep(RELEASE_AGAIN_S)
                    continue
                except Exception as error:  # noqa: BLE001 - the top of a task; it lapses by itself
                    self._log.error(
                        "release_failed", exchange_id=hold.exchange_id, cause=repr(error)
                    )
                self._unused.popleft()
        finally:
            self._releasing = None

    async def run(self) -> None:
        """Renew, forever, every exchange that has lived through one full turn."""
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            try:
                await self.turn()
            except Exception as error:  # noqa: BLE001 - the top of a task; the next turn tries again
                self._log.error("renewals_failed", cause=repr(error))

    async def turn(self) -> None:
        """Renew what was open at the last turn already; the rest has a fresh hold."""
        left = list(self._old)
        for tried in range(RENEW_TRIES):
            if tried:
                await asyncio.sleep(RENEW_AGAIN_S)
            left = await self._renew_each(left)
            if not left:
                break
        self._old |= self._fresh
        self._fresh.clear()

    async def _renew_each(self, exchanges: Iterable[Holding]) -> list[Holding]:
        """Those that are still open and could not be renewed because Redis did not answer."""
        left: list[Holding] = []
        cause = ""
        for exchange in exchanges:
            if exchange not in self._old:  # it has ended meanwhile
                continue
            try:
                await self._renew(exchange)
            except CapsUnavailableError as error:
                left.append(exchange)
                cause = str(error)
            except (HoldEndedError, ValueError) as error:
                self._tell_lapsed(exchange, str(error))
        if left:
            self._log.warning("renewal_failed", holds=len(left), cause=cause)
        return left

    async def _renew(self, exchange: Holding) -> None:
        """Push the expiry out; what has lapsed is placed again, or the cap could be passed."""
        kept = await self._caps.renew(
            exchange.hold, ttl_ms=HOLD_TTL_MS, checkpoint=exchange.checkpoint
        )
        if kept or exchange not in self._old:
            return
        held = exchange.held
        if held is None:
            self._tell_lapsed(exchange, "what it held is not known")
            return
        answer = await self._caps.swap(exchange.hold, held)
        if isinstance(answer, Denial):
            self._tell_lapsed(exchange, f"it does not fit any more: {answer.reason}")
        else:
            self._log.warning("hold_placed_again", exchange_id=exchange.hold.exchange_id)

    def _tell_lapsed(self, exchange: Holding, cause: str) -> None:
        if exchange in self._old:  # one that ended meanwhile has lost nothing
            self._log.warning("hold_lapsed", exchange_id=exchange.hold.exchange_id, cause=cause)
