"""What is done by the clock, beside settlement: on when it is configured, told and counted."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

from fixtures_ledger import new_ledger
from fixtures_worker import CollectingLog

from metering.clock import now_ns
from metering.cron import Cron
from metering.job_settings import JobKind, JobSettings
from metering.settlement import job_loop
from metering.settlement.job_loop import JobLoop
from metering.settlement.job_turn import Asked, Jobs
from metering.settlement.ledger.job_books import LEADER, runs_of
from metering.settlement.ledger.job_tables import job_schedule
from metering.settlement.ledger.store import Ledger
from metering.settlement.watch import Unwatched

MINUTE = 60_000_000_000
JOB = JobSettings("check", JobKind.VERIFY, Cron("* * * * *"))


class Counting(Unwatched):
    """A watch that remembers runs."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def ran(self, job: str, outcome: str) -> None:
        self.told.append((job, outcome))


def was_looked_at(ledger: Ledger) -> None:
    """As by a worker that left two minutes ago."""
    with ledger.write() as connection:
        row = {"job": "check", "schedule": "* * * * * UTC", "through": now_ns() - 2 * MINUTE}
        connection.execute(job_schedule.insert(), [row])


async def test_a_due_run_is_made_told_and_counted(tmp_path: Path) -> None:
    """And at the end the next worker may lead at once."""
    with closing(new_ledger(tmp_path)) as ledger:
        was_looked_at(ledger)
        over, loop = asyncio.Event(), asyncio.get_running_loop()

        def work(_: Ledger, asked: Asked) -> str:
            loop.call_soon_threadsafe(over.set)
            return f"for {asked.job.name}"

        jobs, log, watch = Jobs([JOB], {JobKind.VERIFY: work}), CollectingLog(), Counting()
        async with asyncio.timeout(9):
            await JobLoop(ledger, lambda: jobs, log=log, watch=watch).run(over)

        with ledger.read() as connection:
            [run] = runs_of(connection)
        assert (run.state, run.message.partition(";")[0]) == ("done", "for check")
        assert watch.told == [("check", "done")]
        assert log.said == ["job_run"]
        assert LEADER.take(ledger, "next", now_ns())


async def test_a_stop_reaches_the_run_that_is_under_way(tmp_path: Path) -> None:
    """A job that takes its time ends at its next good place."""
    with closing(new_ledger(tmp_path)) as ledger:
        was_looked_at(ledger)
        over, loop = asyncio.Event(), asyncio.get_running_loop()
        begun = asyncio.Event()

        def work(_: Ledger, asked: Asked) -> str:
            loop.call_soon_threadsafe(begun.set)
            while not asked.is_over():
                pass
            return "broken off"

        jobs, watch = Jobs([JOB], {JobKind.VERIFY: work}), Counting()
        jobs_loop = JobLoop(ledger, lambda: jobs, log=CollectingLog(), watch=watch)
        async with asyncio.timeout(9), asyncio.TaskGroup() as group:
            group.create_task(jobs_loop.run(over))
            await begun.wait()
            over.set()

        assert watch.told == [("check", "done")]


async def test_nothing_is_done_without_jobs(tmp_path: Path) -> None:
    with closing(new_ledger(tmp_path)) as ledger:
        over, jobs = asyncio.Event(), Jobs()
        loop = JobLoop(ledger, lambda: jobs, log=CollectingLog(), watch=Unwatched())

        async with asyncio.TaskGroup() as group:
            group.create_task(loop.run(over))
            await asyncio.sleep(0)
            over.set()

        with ledger.read() as connection:
            assert connection.execute(job_schedule.select()).all() == []


async def test_new_jobs_are_taken_up(tmp_path: Path, monkeypatch) -> None:
    """A reload that adds one has it looked at within a second."""
    monkeypatch.setattr(job_loop, "LOOK_EVERY_S", 0.01)
    with closing(new_ledger(tmp_path)) as ledger:
        was_looked_at(ledger)
        over, loop = asyncio.Event(), asyncio.get_running_loop()

        def work(_: Ledger, asked: Asked) -> str:
            loop.call_soon_threadsafe(over.set)
            return "well"

        offered = [Jobs()]
        jobs_loop = JobLoop(ledger, lambda: offered[-1], log=CollectingLog(), watch=Unwatched())
        async with asyncio.timeout(9), asyncio.TaskGroup() as group:
            group.create_task(jobs_loop.run(over))
            await asyncio.sleep(0)
            offered.append(Jobs([JOB], {JobKind.VERIFY: work}))

        with ledger.read() as connection:
            assert runs_of(connection)[0].message.startswith("well")
