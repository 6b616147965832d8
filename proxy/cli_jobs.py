"""`weir jobs`: what the worker does by the clock, what came of it, and a run by hand."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from proxy.cli_options import (
    FAILED,
    NOT_FOUND,
    echo_json,
    fail,
    load_config,
    print_table,
    shared_options,
)

if TYPE_CHECKING:
    from metering.job_settings import JobSettings
    from metering.settlement.job_turn import Told
    from metering.settlement.ledger.job_books import Run
    from metering.settlement.ledger.store import Ledger
    from proxy.settings import Settings

_Answer = TypeVar("_Answer")


@click.group()
def jobs() -> None:
    """What the worker does by the clock."""


@jobs.command("list")
@shared_options
def list_jobs(*, config_file: str | None, data_dir: Path | None, as_json: bool) -> None:
    """Every job of the file: when it comes next, and what came of it last."""
    settings = load_config(config_file, data_dir, as_json).settings
    from metering.clock import now_ns
    from metering.settlement.ledger.job_books import runs_of

    def ask(ledger: Ledger) -> dict[str, list[Run]]:
        with ledger.read() as connection:
            return {each.name: runs_of(connection, each.name, 1) for each in settings.jobs}

    last = _asked(settings, ask, as_json=as_json) if settings.jobs else {}
    rows = [_job_row(each, last[each.name], now_ns()) for each in settings.jobs]
    if as_json:
        echo_json({"jobs": rows})
        return
    from proxy.cli_job_tables import listing

    print_table(listing(rows))


@jobs.command("runs")
@click.option("--job", help="Only this job's.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, help="At most so many; 50.")
@shared_options
def runs(
    *,
    job: str | None,
    limit: int,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """The newest runs, the newest first."""
    settings = load_config(config_file, data_dir, as_json).settings
    from metering.settlement.ledger.job_books import runs_of

    def ask(ledger: Ledger) -> list[Run]:
        with ledger.read() as connection:
            return runs_of(connection, job, limit)

    rows = [_run_row(each) for each in _asked(settings, ask, as_json=as_json)]
    if as_json:
        echo_json({"runs": rows})
        return
    from proxy.cli_job_tables import runs as table

    print_table(table(rows))


@jobs.command("run")
@click.argument("job")
@click.option("--for", "when", metavar="TIME", help="As if due then, RFC 3339; now if left out.")
@click.option("--again", is_flag=True, help="Although that run was done.")
@click.option("--by", help="Who asks for it; the user who is logged in if left out.")
@shared_options
def run(
    job: str,
    *,
    when: str | None,
    again: bool,
    by: str | None,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> NoReturn:
    """Make a run of JOB now. Exit code 1 unless it is done."""
    settings = load_config(config_file, data_dir, as_json).settings
    found = next((each for each in settings.jobs if each.name == job), None)
    if found is None:
        fail(NOT_FOUND, f"no job {job!r} in {settings.source}", as_json)
    from metering.clock import now_ns
    from metering.settlement.job_turn import DoneAlreadyError, Turns
    from metering.settlement.stripe_loop import holder_name
    from proxy.cli_options import user_name
    from proxy.settling_jobs import jobs_of

    at_ns = now_ns() // 10**9 * 10**9 if when is None else _time(when)
    who = by or user_name(as_json)

    def make(ledger: Ledger) -> Told | str:
        turns = Turns(ledger, jobs_of(settings), holder=holder_name(), clock=now_ns)
        try:
            return turns.by_hand(found, at_ns, by=who, again=again)
        except DoneAlreadyError:
            return "that run was done already: --again makes it once more"

    told = _asked(settings, make, as_json=as_json)
    if isinstance(told, str):
        fail(FAILED, told, as_json)
    _end(told, as_json)


def _end(told: Told, as_json: bool) -> NoReturn:
    if told.run is None:
        fail(FAILED, "the worker is making that run right now", as_json)
    message = "" if told.ended is None else told.ended.message
    if as_json:
        echo_json(
            {
                "job": told.run.job,
                "scheduled_for_ms": _ms(told.run.scheduled_for),
                "outcome": told.outcome,
                "message": message,
            }
        )
    else:
        click.echo(f"{told.run.job}: {told.outcome}{f': {message}' if message else ''}")
    sys.exit(0 if told.outcome == "done" else FAILED)


def _time(text: str) -> int:
    from datetime import datetime

    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise click.BadParameter(
            f"{text!r}: write it like 2026-11-01T02:00:00Z", param_hint="--for"
        )
    return int(found.timestamp()) * 10**9


def _ms(time_ns: int | None) -> int | None:
    return None if time_ns is None else time_ns // 1_000_000


def _asked(settings: Settings, ask: Callable[[Ledger], _Answer], *, as_json: bool) -> _Answer:
    """What the ledger answers, or the end of the process with the reason."""
    from metering.settlement.ledger.job_books import knows_jobs
    from proxy.cli_asked import asked

    return asked(settings, knows_jobs, ask, as_json=as_json)


def _job_row(job: JobSettings, last: list[Run], now_ns: int) -> dict[str, Any]:
    from proxy.admin.rows import job_row

    return job_row(job, last, now_ns)


def _run_row(run: Run) -> dict[str, Any]:
    from proxy.admin.rows import run_row

    return run_row(run)
