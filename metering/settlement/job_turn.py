"""One turn of what is done by the clock: plan what is due, make one run, report what came of it.

Blocking: the worker has a thread for it, the command line has nothing else to do. While a run is
made, another thread says every few seconds that it still is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sqlalchemy.exc import SQLAlchemyError

from metering.job_settings import JobKind, JobSettings
from metering.settlement.ledger import job_books as book
from metering.settlement.ledger.job_books import Ended, Run, RunState
from metering.settlement.ledger.leases import LeaseLostError, ledger_time
from metering.settlement.ledger.store import Ledger

KEEP_EVERY_S = book.RUN_LASTS_NS / 1_000_000_000 / 4
WAIT_NS = 300_000_000_000
"""How long a run is put off that has to wait for something."""


class JobFailedError(Exception):
    """It could not be done; the message is for people. Without `again`, trying is of no use."""

    def __init__(self, message: str, *, again: bool = True) -> None:
        super().__init__(message)
        self.again = again


class JobWaitsError(Exception):
    """It cannot be done yet: put off, which is no attempt."""


class DoneAlreadyError(Exception):
    """The run was made and is done."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a run is to do, and for when."""

    job: JobSettings
    scheduled_for: int
    now_ns: int
    is_over: Callable[[], bool]
    """Whether to stop at the next good place: at an end of the worker, or when it is no longer
    ours to do."""


class Work(Protocol):
    """How a kind of job is done: what came of it in words, or the errors above."""

    def __call__(self, ledger: Ledger, asked: Asked) -> str:
        """Do it."""


@dataclass(frozen=True, slots=True)
class Jobs:
    """What is to be done by the clock, and how."""

    settings: Sequence[JobSettings] = ()
    work: Mapping[JobKind, Work] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Told:
    """What a turn came to."""

    is_leader: bool
    run: Run | None = None
    ended: Ended | None = None
    """None when it was taken from us."""

    @property
    def outcome(self) -> str:
        """In one word: done, failed, retried, waiting or lost."""
        if self.ended is None:
            return "lost"
        if self.ended.state is RunState.DUE:
            return "waiting" if self.ended.is_wait else "retried"
        return self.ended.state.value


class Turns:
    """The runs that one process makes."""

    def __init__(
        self, ledger: Ledger, jobs: Jobs, *, holder: str, clock: Callable[[], int]
    ) -> None:
        self._ledger, self._jobs = ledger, jobs
        self._holder, self._clock = holder, clock
        self._over = threading.Event()

    def stop(self) -> None:
        """The run that is under way ends at its next good place."""
        self._over.set()

    def turn(self) -> Told:
        """As the leader, make the oldest run that is due; nothing when another leads."""
        settings = {job.name: job for job in self._jobs.settings}
        if not book.LEADER.take(self._ledger, self._holder, self._clock()):
            return Told(is_leader=False)
        try:
            with self._ledger.write() as connection:
                at_ns = book.LEADER.keep(connection, self._holder, self._clock())
                book.plan_runs(connection, settings.values(), at_ns)
                run = book.claim_next(connection, list(settings), self._holder, at_ns)
        except LeaseLostError:
            return Told(is_leader=False)
        if run is None:
            return Told(is_leader=True)
        return self._make(settings[run.job], run, leads=True)

    def by_hand(
        self, job: JobSettings, scheduled_for: int, *, by: str, again: bool = False
    ) -> Told:
        """Make this run now, whoever leads; without a run, somebody is at it.

        DoneAlreadyError when it was done, unless it is to be made `again`.
        """
        with self._ledger.write() as connection:
            at_ns = ledger_time(connection, self._clock())
            wanted = Run(job.name, scheduled_for, ran_by=by)
            if not again and book.is_done(connection, wanted):
                raise DoneAlreadyError
            run = book.claim_this(connection, wanted, self._holder, at_ns)
        if run is None:
            return Told(is_leader=False)
        return self._make(job, run, leads=False)

    def give_up_leading(self) -> None:
        """Let another worker lead at once."""
        book.LEADER.give(self._ledger, self._holder)

    def _make(self, job: JobSettings, run: Run, *, leads: bool) -> Told:
        lost, done = threading.Event(), threading.Event()
        keeping = threading.Thread(
            target=self._keep, args=(run, lost, done, leads), name=f"job-{job.name}", daemon=True
        )
        keeping.start()
        try:
            asked = Asked(
                job,
                run.scheduled_for,
                run.started_at or run.scheduled_for,
                lambda: lost.is_set() or self._over.is_set(),
            )
            ended = self._done(asked, run)
        finally:
            done.set()
            keeping.join()
        try:
            book.end_run(self._ledger, run, ended, self._now())
        except LeaseLostError:
            return Told(leads, run)
        return Told(leads, run, ended)

    def _done(self, asked: Asked, run: Run) -> Ended:
        try:
            said = self._jobs.work[asked.job.kind](self._ledger, asked)
        except JobWaitsError as error:
            return Ended(RunState.DUE, str(error), self._now() + WAIT_NS, is_wait=True)
        except JobFailedError as error:
            if not error.again:
                return Ended(RunState.FAILED, str(error))
            return book.after_failure(run, str(error), self._now())
        except Exception as error:  # noqa: BLE001 - a job's fault ends its run, not the worker
            # only the kind: a message may hold an address or a value
            return book.after_failure(run, f"failed with {type(error).__name__}", self._now())
        note = run.message if run.attempts == 1 and not run.waits else ""  # how many were missed
        return Ended(RunState.DONE, "; ".join(part for part in (said, note) if part))

    def _now(self) -> int:
        with self._ledger.read() as connection:
            return ledger_time(connection, self._clock())

    def _keep(self, run: Run, lost: threading.Event, done: threading.Event, leads: bool) -> None:
        while not done.wait(KEEP_EVERY_S):
            try:
                with self._ledger.write() as connection:
                    at_ns = ledger_time(connection, self._clock())
                    book.keep_run(connection, run, at_ns)
                    if leads:
                        book.LEADER.keep(connection, self._holder, self._clock())
            except LeaseLostError:
                lost.set()
                return
            except SQLAlchemyError:  # away for a moment; who is away for long loses it
                continue
