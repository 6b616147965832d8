"""Stripe beside settlement: a turn from time to time, in a thread, for as long as the worker runs.

Off unless configured. Of several workers one syncs at a time; a turn that finds the lease taken
does nothing. What goes wrong here is said and tried again, and never stops settlement.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from metering.clock import now_ns
from metering.ids import uuid7
from metering.settlement.ledger.store import Ledger
from metering.settlement.stripe_port import Sdk, StripeMissingError
from metering.settlement.stripe_sync import Sync, Turn
from metering.settlement.watch import Log, Watch
from metering.stripe_settings import StripeSettings

LOOK_EVERY_S = 1.0
"""How soon new settings, and a stop, are noticed."""

RETRY_MIN_S = 1.0


def holder_name() -> str:
    """A name for the lease that no other process has, now or after a restart."""
    return uuid7(now_ns() // 1_000_000, secrets.token_bytes(10))


class StripeLoop:
    """The worker's side of Stripe."""

    def __init__(
        self,
        ledger: Ledger,
        settings: Callable[[], StripeSettings | None],
        *,
        log: Log,
        watch: Watch,
    ) -> None:
        self._ledger, self._settings = ledger, settings
        self._log, self._watch = log, watch
        self._holder = holder_name()
        self._going_by: StripeSettings | None = None
        self._sync: Sync | None = None
        self._next_s = 0.0

    async def run(self, over: asyncio.Event) -> None:
        """Until `over`; a request under way is waited for, at most as long as it may take."""
        loop = asyncio.get_running_loop()
        while not over.is_set():
            if self._adopt() and loop.time() >= self._next_s:
                pause_s = await self._turn(over)
                self._next_s = loop.time() + pause_s
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await over.wait()
            except TimeoutError:
                continue

    def _adopt(self) -> bool:
        """Go by the settings that hold now; whether there are any."""
        settings = self._settings()
        if settings == self._going_by:
            return self._sync is not None
        self._going_by, self._sync, self._next_s = settings, None, 0.0
        if settings is None:
            return False
        try:
            port = Sdk(settings)
        except StripeMissingError as error:
            self._log.warning("stripe_unusable", detail=str(error))
            return False
        self._sync = Sync(self._ledger, settings, port, holder=self._holder)
        return True

    async def _turn(self, over: asyncio.Event) -> float:
        """One turn; seconds until the next."""
        assert self._sync is not None
        assert self._going_by is not None
        every_s = self._going_by.every_s
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(_stop_when(over, self._sync))
            try:
                turn = await asyncio.to_thread(self._sync.turn)
            except SQLAlchemyError as error:  # the lanes say more
                self._log.warning("stripe_waits", cause=type(error).__name__)
                return every_s
            finally:
                watching.cancel()
        return self._say(turn, every_s)

    def _say(self, turn: Turn, every_s: float) -> float:
        if not turn.had_lease:
            return every_s
        self._watch.synced(turn.outcomes, waiting=turn.waiting, held=turn.held)
        if turn.trouble is not None:
            self._log.warning("stripe_waits", cause=turn.trouble, hours=turn.waiting)
        if turn.outcomes or turn.differing:
            self._log.info(
                "stripe_synced",
                **dict(turn.outcomes),
                waiting=turn.waiting,
                held=turn.held,
                differing=turn.differing,
            )
        if turn.next_at is None:
            return every_s
        return min(every_s, max(RETRY_MIN_S, (turn.next_at - now_ns()) / 1_000_000_000))


async def _stop_when(over: asyncio.Event, sync: Sync) -> None:
    await over.wait()
    sync.stop()
