"""`weir invoices`: issuing a month's, listing what was issued, and the events behind a line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from proxy.cli_invoice import parsed_month, print_table, write_bytes
from proxy.cli_options import (
    FAILED,
    echo_json,
    fail,
    load_config,
    shared_options,
)

if TYPE_CHECKING:
    from metering.settlement.ledger.invoice_books import Issued
    from metering.settlement.ledger.line_books import LineEvents
    from metering.settlement.ledger.plan_books import Terms
    from metering.settlement.ledger.store import Ledger
    from proxy.settings import Settings
    from proxy.settling_months import Ends

_Answer = TypeVar("_Answer")


@click.group()
def invoices() -> None:
    """Invoices that were issued, and the events behind their lines."""


@invoices.command("issue")
@click.option("--month", required=True, metavar="YYYY-MM", help="UTC month, which must be over.")
@click.option("--tenant", help="Only this tenant; everybody with usage or a plan if left out.")
@click.option("--force", is_flag=True, help="Although something may be missing.")
@shared_options
def issue(
    *,
    month: str,
    tenant: str | None,
    force: bool,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> NoReturn:
    """Close a month and issue its invoices. A repeat changes nothing.

    Exit code 1 when some tenant's could not be issued; the others' are.
    """
    settings = load_config(config_file, data_dir, as_json).settings
    period = parsed_month(month, "--month")
    from metering.clock import now_ns
    from proxy.settling_months import issue_all, unsettled

    def ask(ledger: Ledger) -> Ends | str:
        if not force and (why := unsettled(settings, ledger, period, now_ns())) is not None:
            return why
        return issue_all(ledger, settings, period, tenant=tenant, now_ns=now_ns())

    made = _asked(settings, ask, as_json=as_json)
    if isinstance(made, str):
        fail(FAILED, f"not issued: {made}; run the worker first, or --force", as_json)
    done = [_row(found) for found in made.issued.values()]
    failed = made.failed
    if as_json:
        echo_json({"month": period, "issued": done, "failed": failed})
    else:
        for row in done:
            state = "issued" if row["is_new"] else "was issued already"
            click.echo(f"{row['number']}: {row['tenant']}, {row['due']} {row['currency']}, {state}")
        if not (done or failed):
            click.echo("nobody has anything to pay for")
        for name, why in failed.items():
            click.echo(f"weir: {name}: {why}", err=True)
    sys.exit(FAILED if failed else 0)


@invoices.command("correct")
@click.option("--tenant", required=True, help="Whose invoice.")
@click.option("--month", required=True, metavar="YYYY-MM", help="Of which month.")
@click.option("--reason", required=True, help="Why; it stands on the correction.")
@shared_options
def correct(
    *,
    tenant: str,
    month: str,
    reason: str,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Issue an invoice again with the names and addresses of today, under a number of its own."""
    settings = load_config(config_file, data_dir, as_json).settings
    period = parsed_month(month, "--month")
    from metering.clock import now_ns
    from metering.settlement.ledger import invoice_books as book

    def ask(ledger: Ledger) -> Issued | str:
        try:
            return book.correct(
                ledger, tenant, period, settings.invoicing, reason=reason, now_ns=now_ns()
            )
        except (book.NotIssuedError, book.NothingToCorrectError) as error:
            return str(error.args[0])

    found = _asked(settings, ask, as_json=as_json)
    if isinstance(found, str):
        fail(FAILED, found, as_json)
    if as_json:
        echo_json(_row(found))
        return
    click.echo(f"{found.number} replaces {found.document['corrects']}")


@invoices.command("list")
@click.option("--tenant", help="Only this tenant's.")
@click.option("--month", metavar="YYYY-MM", help="Only of this month.")
@shared_options
def list_issued(
    *,
    tenant: str | None,
    month: str | None,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """What was issued, in the order of its numbers."""
    settings = load_config(config_file, data_dir, as_json).settings
    period = None if month is None else parsed_month(month, "--month")
    from metering.settlement.ledger.invoice_books import all_issued

    found = _asked(
        settings, lambda ledger: all_issued(ledger, tenant=tenant, period=period), as_json=as_json
    )
    rows = [_row(each) for each in found]
    if as_json:
        echo_json({"invoices": rows})
        return
    from proxy.cli_invoice_tables import issued_table

    print_table(issued_table(rows))


@invoices.command("events")
@click.option("--tenant", required=True, help="Whose invoice.")
@click.option("--month", required=True, metavar="YYYY-MM", help="Of which month.")
@click.option("--line", required=True, type=click.IntRange(1), help="Number of the line.")
@click.option(
    "--format", "how", type=click.Choice(("table", "csv")), default="table", help="How to print."
)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write CSV to this file."
)
@shared_options
def events(
    *,
    tenant: str,
    month: str,
    line: int,
    how: str,
    out: Path | None,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """The events that a line is made of, each with its part; the parts sum to the line."""
    settings = load_config(config_file, data_dir, as_json).settings
    period = parsed_month(month, "--month")
    from metering.settlement.ledger import line_books as book

    terms = _terms(settings, tenant)

    def ask(ledger: Ledger) -> LineEvents | str:
        try:
            return book.events_of_line(ledger, tenant, period, line, terms)
        except book.NotTheEventsError as error:
            return str(error)

    found = _asked(settings, ask, as_json=as_json)
    if isinstance(found, str):
        fail(FAILED, found, as_json)
    from proxy import cli_invoice_tables as tables

    body = tables.events_body(found)
    if as_json:
        echo_json(body)
    elif how == "csv" or out is not None:
        write_bytes(tables.events_csv(body), out, as_json, is_text=True)
    else:
        print_table(tables.events_table(body))


def _terms(settings: Settings, tenant: str) -> Terms:
    from metering.settlement.ledger.plan_books import Terms

    return Terms(settings.plans, settings.assignments.get(tenant, ()))


def _asked(settings: Settings, ask: Callable[[Ledger], _Answer], *, as_json: bool) -> _Answer:
    """What the ledger answers, or the end of the process with the reason."""
    from metering.settlement.ledger.invoice_books import knows_invoices
    from proxy.cli_asked import asked

    return asked(settings, knows_invoices, ask, as_json=as_json)


def _row(found: Issued) -> dict[str, Any]:
    from proxy.admin.rows import invoice_row

    return invoice_row(found)
