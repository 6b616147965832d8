"""What the worker does by the clock, and what came of it."""

from __future__ import annotations

from metering.clock import now_ns
from metering.settlement.ledger.job_books import Run, runs_of
from metering.settlement.ledger.store import Ledger
from proxy.admin.pages import LIMIT_MAX, LIMIT_USUAL, PAGE, limit_of, listed, page
from proxy.admin.routes import BASE, Answer, Call, Param, Role, Route
from proxy.admin.rows import job_row, run_row


async def list_jobs(call: Call) -> Answer:
    """Every job of the file: when it comes next, and what came of it last."""
    jobs = call.console.settings.jobs

    def ask(ledger: Ledger) -> dict[str, list[Run]]:
        with ledger.read() as connection:
            return {each.name: runs_of(connection, each.name, 1) for each in jobs}

    last = await call.console.ask(ask)
    rows = [job_row(each, last[each.name], now_ns()) for each in jobs]
    return Answer(page(rows, lambda row: row["job"], call.query))


async def list_runs(call: Call) -> Answer:
    """The newest runs, the newest first."""
    job, limit = call.query.get("job"), limit_of(call.query)

    def ask(ledger: Ledger) -> list[Run]:
        with ledger.read() as connection:
            return runs_of(connection, job, limit)

    rows = [run_row(each) for each in await call.console.ask(ask)]
    return Answer({"data": rows, "next_cursor": None})


_LIMIT = Param(
    "limit",
    f"So many of the newest; {LIMIT_USUAL} if left out",
    {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX},
)

ROUTES = (
    Route(
        "GET",
        f"{BASE}/jobs",
        Role.VIEWER,
        list_jobs,
        summary="What the worker does by the clock",
        tag="jobs",
        query=PAGE,
        answer=listed(),
    ),
    Route(
        "GET",
        f"{BASE}/job-runs",
        Role.VIEWER,
        list_runs,
        summary="The newest runs of jobs",
        tag="jobs",
        query=(_LIMIT, Param("job", "Only of this job")),
        answer=listed(),
    ),
)
