"""`weir ledger`: what can be done with the books as such."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from proxy.cli_options import (
    FAILED,
    NOT_FOUND,
    count_of,
    echo_json,
    fail,
    load_config,
    shared_options,
)

if TYPE_CHECKING:
    from metering.settlement.ledger.verify import Examination


@click.group()
def ledger() -> None:
    """Look after the ledger."""


@ledger.command("verify")
@shared_options
def verify(*, config_file: str | None, data_dir: Path | None, as_json: bool) -> NoReturn:
    """Check that the ledger says what was written: chains, payloads, sums and balances.

    Exit code 1 when something does not hold. Nothing is changed, and everything may go on running.
    """
    settings = load_config(config_file, data_dir, as_json).settings
    from metering.clock import monotonic_s
    from metering.settlement.ledger.verify import examine
    from proxy import cli_reports

    folder = None if settings.retention is None else Path(settings.retention.folder)
    began_s = monotonic_s()
    try:
        found = cli_reports.read_ledger(settings, lambda books: examine(books, folder))
    except cli_reports.NotFoundError as error:
        fail(NOT_FOUND, str(error), as_json)
    except cli_reports.LedgerError as error:
        fail(FAILED, str(error), as_json)
    if found is None:
        fail(NOT_FOUND, "nothing is settled yet: there is no ledger to verify", as_json)
    seconds = monotonic_s() - began_s
    if as_json:
        echo_json({"ok": not found.findings, **asdict(found), "seconds": round(seconds, 3)})
    else:
        _echo(found, seconds)
    sys.exit(FAILED if found.findings else 0)


@ledger.command("rebuild-analytics")
@shared_options
def rebuild(*, config_file: str | None, data_dir: Path | None, as_json: bool) -> None:
    """Make the sums that analytics are read from again, from the first event on."""
    settings = load_config(config_file, data_dir, as_json).settings
    from metering.settlement.ledger.analytics_rollup import rebuild_analytics
    from proxy import cli_reports

    try:
        count = cli_reports.read_ledger(settings, rebuild_analytics)
    except cli_reports.NotFoundError as error:
        fail(NOT_FOUND, str(error), as_json)
    except cli_reports.LedgerError as error:
        fail(FAILED, str(error), as_json)
    if as_json:
        echo_json({"events": count or 0})
    else:
        click.echo(f"{count_of(count or 0, 'event')} summed")


def _echo(found: Examination, seconds: float) -> None:
    for finding in found.findings:
        click.echo(finding)
    if found.more:
        click.echo(f"and {found.more} more")
    wrong = count_of(len(found.findings) + found.more, "finding")
    archived = f" ({found.archived} archived)" if found.archived else ""
    looked_at = (
        f"{count_of(found.events, 'event')}{archived}",
        count_of(found.transactions, "transaction"),
        count_of(found.shards, "shard"),
    )
    verdict = wrong if found.findings else "ok"
    click.echo(f"{verdict}: {', '.join(looked_at)} in {seconds:.1f} s")
