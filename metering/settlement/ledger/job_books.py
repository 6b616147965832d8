"""The rows of what is done by the clock: which runs are due, whose they are, what came of them.

Rules: a run is one row for its job and the time it was due, so that no two workers make it two. It
is taken only from what it was read as, and reported only by whoever still has it. Whoever runs it
says so from time to time; who says nothing for `RUN_LASTS_NS` has died in it. A run is tried
`ATTEMPTS_MAX` times, later and later; then it has failed, with an alert.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, and_, or_, select, update

from metering.job_settings import CatchUp, JobSettings
from metering.settlement.ledger.job_tables import job_run, job_schedule, lease
from metering.settlement.ledger.leases import Lease, LeaseLostError
from metering.settlement.ledger.outbox import put_alerts
from metering.settlement.ledger.store import Ledger, insert_into, keep_rows

RUN_LASTS_NS = 60_000_000_000
"""From the last word of a process until it is taken for dead."""

ATTEMPTS_MAX = 5
BACKOFF_NS = 60_000_000_000
BACKOFF_MAX_NS = 3_600_000_000_000
MISSED_MAX = 100
LATE_NS = 300_000_000_000
"""What was due so recently is no missed run: a worker was restarted, or busy."""

LEADER = Lease(lease, {"name": "jobs"}, RUN_LASTS_NS)

WORKER = "worker"
DIED = "the process died in it"


class RunState(StrEnum):
    """How a run stands."""

    DUE = "due"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a job; its fields are the columns."""

    job: str
    scheduled_for: int
    state: str = RunState.DUE.value
    attempts: int = 0
    waits: int = 0
    next_at: int = 0
    holder: str | None = None
    until: int = 0
    started_at: int | None = None
    ended_at: int | None = None
    message: str = ""
    ran_by: str = WORKER


@dataclass(frozen=True, slots=True)
class Ended:
    """What came of a run: done, or to be tried again from `next_at` on, or failed for good."""

    state: RunState
    message: str
    next_at: int = 0
    is_wait: bool = False
    """It was put off: that is no attempt."""


_RUN = job_run.c
_FIELDS = tuple(each.name for each in fields(Run))


def knows_jobs(ledger: Ledger) -> bool:
    """Whether the ledger has the tables of this module."""
    return (ledger.revision() or "") >= "0015"


def plan_runs(connection: Connection, jobs: Iterable[JobSettings], now_ns: int) -> None:
    """See to it that every time up to now has its run, or is left out as its job says.

    A job that is new, or has another schedule now, begins now.
    """
    for job in jobs:
        says = f"{job.cron.fields} {job.cron.timezone}"
        query = select(job_schedule).where(job_schedule.c.job == job.name)
        kept = connection.execute(query).first()
        if kept is None or kept.schedule != says:
            row = {"job": job.name, "schedule": says, "through": now_ns}
            insert = insert_into(connection, job_schedule)
            made = {name: insert.excluded[name] for name in ("schedule", "through")}
            insert = insert.on_conflict_do_update(index_elements=["job"], set_=made)
            connection.execute(insert, [row])
            continue
        due = job.cron.between(kept.through, now_ns, MISSED_MAX)
        if not due:
            continue
        keep_rows(connection, job_run, [_row(run) for run in _wanted(job, due, now_ns)])
        moved = update(job_schedule).where(job_schedule.c.job == job.name)
        connection.execute(moved.values(through=now_ns))


def _wanted(job: JobSettings, due: Sequence[int], now_ns: int) -> list[Run]:
    if job.catch_up is CatchUp.ALL:
        return [Run(job.name, at) for at in due]
    if job.catch_up is CatchUp.NONE:
        return [Run(job.name, at) for at in due[-1:] if now_ns - at <= LATE_NS]
    missed = len(due) - 1
    more = f"stands for {missed} more that {'was' if missed == 1 else 'were'} missed"
    return [Run(job.name, due[-1], message=more if missed else "")]


def claim_next(connection: Connection, jobs: Sequence[str], holder: str, now_ns: int) -> Run | None:
    """Take the oldest run that can be made now; None when there is none.

    One in which a process died is taken like one that failed, until it was tried often enough.
    """
    lapsed = and_(_RUN.state == RunState.RUNNING.value, _RUN.until <= now_ns)
    due = and_(_RUN.state == RunState.DUE.value, _RUN.next_at <= now_ns)
    query = select(job_run).where(_RUN.job.in_(jobs), or_(due, lapsed))
    query = query.order_by(_RUN.scheduled_for, _RUN.job).with_for_update(skip_locked=True)
    for row in connection.execute(query).all():
        run = _run(row)
        if run.state == RunState.DUE.value:
            if (claimed := _claim(connection, run, holder, now_ns)) is not None:
                return claimed
        else:
            _end(connection, run, after_failure(run, DIED, now_ns), now_ns)
    return None


def _claim(
    connection: Connection, run: Run, holder: str, now_ns: int, *, by: str | None = None
) -> Run | None:
    taken = replace(
        run,
        ran_by=run.ran_by if by is None else by,
        state=RunState.RUNNING.value,
        attempts=run.attempts + 1,
        holder=holder,
        until=now_ns + RUN_LASTS_NS,
        started_at=now_ns,
        ended_at=None,
    )
    return taken if _move(connection, run, taken) else None


def claim_this(connection: Connection, run: Run, holder: str, now_ns: int) -> Run | None:
    """Take this run whatever came of it before, unless somebody is at it."""
    query = select(job_run).where(_RUN.job == run.job, _RUN.scheduled_for == run.scheduled_for)
    row = connection.execute(query.with_for_update()).first()
    if row is None:
        keep_rows(connection, job_run, [_row(run)])
    found = run if row is None else _run(row)
    if found.state == RunState.RUNNING.value and found.until > now_ns:
        return None
    return _claim(connection, found, holder, now_ns, by=run.ran_by)


def is_done(connection: Connection, run: Run) -> bool:
    """Whether the run at this time was made and is done."""
    query = select(_RUN.state).where(_RUN.job == run.job, _RUN.scheduled_for == run.scheduled_for)
    return connection.execute(query).scalar() == RunState.DONE.value


def keep_run(connection: Connection, run: Run, now_ns: int) -> None:
    """Say that it is still being made; LeaseLostError when it was taken for dead."""
    kept = update(job_run).where(*_same(run)).values(until=now_ns + RUN_LASTS_NS)
    if connection.execute(kept).rowcount != 1:
        raise LeaseLostError


def end_run(ledger: Ledger, run: Run, ended: Ended, now_ns: int) -> None:
    """Report what came of it; LeaseLostError when somebody else has it by now."""
    with ledger.write() as connection:
        if not _end(connection, run, ended, now_ns):
            raise LeaseLostError


def after_failure(run: Run, message: str, now_ns: int) -> Ended:
    """Again later, or never when it was tried often enough."""
    if run.attempts >= ATTEMPTS_MAX:
        return Ended(RunState.FAILED, message)
    delay_ns = min(BACKOFF_NS * 2 ** max(run.attempts - 1, 0), BACKOFF_MAX_NS)
    return Ended(RunState.DUE, message, now_ns + delay_ns)


def _end(connection: Connection, run: Run, ended: Ended, now_ns: int) -> bool:
    after = replace(
        run,
        state=ended.state.value,
        attempts=run.attempts - (1 if ended.is_wait else 0),
        waits=run.waits + (1 if ended.is_wait else 0),
        next_at=ended.next_at,
        ended_at=now_ns,
        message=ended.message,
        until=0,
    )
    if not _move(connection, run, after):
        return False
    if ended.state is RunState.FAILED:
        body = {
            "job": run.job,
            "scheduled_for_ms": run.scheduled_for // 1_000_000,
            "attempts": run.attempts,
            "cause": ended.message,
        }
        key = f"job_failed:{run.job}:{run.scheduled_for}:{run.attempts}"
        put_alerts(connection, [(key, body)], now_ns)
    return True


def _move(connection: Connection, before: Run, after: Run) -> bool:
    changed = update(job_run).where(*_same(before)).values(_row(after))
    return connection.execute(changed).rowcount == 1


def _same(run: Run) -> tuple[Any, ...]:
    return (
        _RUN.job == run.job,
        _RUN.scheduled_for == run.scheduled_for,
        _RUN.state == run.state,
        _RUN.attempts == run.attempts,
        _RUN.holder.is_(None) if run.holder is None else _RUN.holder == run.holder,
    )


def runs_of(connection: Connection, job: str | None = None, limit: int = 50) -> list[Run]:
    """The newest runs, the newest first."""
    query = select(job_run).order_by(_RUN.scheduled_for.desc(), _RUN.job).limit(limit)
    if job is not None:
        query = query.where(_RUN.job == job)
    return [_run(row) for row in connection.execute(query)]


def _run(row: Any) -> Run:
    return Run(*(getattr(row, name) for name in _FIELDS))


def _row(run: Run) -> dict[str, Any]:
    return {name: getattr(run, name) for name in _FIELDS}
