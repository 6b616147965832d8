"""What is done by the clock, beside settlement, for as long as the worker runs.

Of several workers one leads; the others look whether it has died. What goes wrong here is said and
tried again, and never stops settlement.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from metering.clock import now_ns
from metering.settlement.job_turn import Jobs, Told, Turns
from metering.settlement.ledger.store import Ledger
from metering.settlement.stripe_loop import holder_name
from metering.settlement.watch import Log, Watch

LOOK_EVERY_S = 1.0
"""How soon new settings, and a stop, are noticed."""

TURN_EVERY_S = 5.0
FOLLOW_EVERY_S = 20.0
"""How often one looks who does not lead."""


class JobLoop:
    """The worker's side of what is done by the clock."""

    def __init__(self, ledger: Ledger, jobs: Callable[[], Jobs], *, log: Log, watch: Watch) -> None:
        self._ledger, self._jobs = ledger, jobs
        self._log, self._watch = log, watch
        self._holder = holder_name()
        self._going_by: Jobs | None = None
        self._turns: Turns | None = None
        self._next_s = 0.0

    async def run(self, over: asyncio.Event) -> None:
        """Until `over`; a run under way is waited for up to its next good place."""
        loop = asyncio.get_running_loop()
        while not over.is_set():
            self._adopt()
            if self._turns is not None and loop.time() >= self._next_s:
                pause_s = await self._turn(self._turns, over)
                self._next_s = loop.time() + pause_s
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await over.wait()
            except TimeoutError:
                continue
        if self._turns is not None:
            await self._give_up(self._turns)

    def _adopt(self) -> None:
        """Go by the jobs that there are now."""
        jobs = self._jobs()
        if jobs is self._going_by:
            return
        self._going_by, self._next_s = jobs, 0.0
        self._turns = None
        if jobs.settings:
            self._turns = Turns(self._ledger, jobs, holder=self._holder, clock=now_ns)

    async def _turn(self, turns: Turns, over: asyncio.Event) -> float:
        """One turn; seconds until the next."""
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(_stop_when(over, turns))
            try:
                told = await asyncio.to_thread(turns.turn)
            except SQLAlchemyError as error:  # the lanes say more
                self._log.warning("jobs_wait", cause=type(error).__name__)
                return TURN_EVERY_S
            finally:
                watching.cancel()
        return self._say(told)

    def _say(self, told: Told) -> float:
        if not told.is_leader:
            return FOLLOW_EVERY_S
        if told.run is None:
            return TURN_EVERY_S
        self._watch.ran(told.run.job, told.outcome)
        message = "" if told.ended is None else told.ended.message
        say = self._log.info if told.outcome == "done" else self._log.warning
        say(
            "job_run",
            job=told.run.job,
            scheduled_for_ms=told.run.scheduled_for // 1_000_000,
            outcome=told.outcome,
            attempt=told.run.attempts,
            detail=message,
        )
        return 0.0

    async def _give_up(self, turns: Turns) -> None:
        try:
            await asyncio.to_thread(turns.give_up_leading)
        except SQLAlchemyError:  # then the lease ends by itself
            return


async def _stop_when(over: asyncio.Event, turns: Turns) -> None:
    await over.wait()
    turns.stop()
