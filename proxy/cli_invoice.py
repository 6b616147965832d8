"""`weir invoice`: a tenant's month, for a terminal, for programs, or as a document to send."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from proxy.cli_options import BAD_CONFIG, FAILED, NOT_FOUND, echo_json, fail, load_config
from proxy.cli_options import shared_options as _shared

FORMATS = ("table", "json", "csv", "html", "pdf", "focus")


@click.command()
@click.option("--tenant", required=True, help="Whose invoice.")
@click.option(
    "--period",
    "--month",
    "period",
    metavar="YYYY-MM",
    help="UTC month; the current one if left out.",
)
@click.option("--format", "how", type=click.Choice(FORMATS), help="As a document.")
@click.option("--simple", is_flag=True, help="One row for each model or charge.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file instead."
)
@_shared
def invoice(
    *,
    tenant: str,
    period: str | None,
    how: str | None,
    simple: bool,
    out: Path | None,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """A tenant's invoice for a month, from the ledger.

    With --format it is the document that was issued, or a draft of it.
    """
    if as_json and (how not in (None, "json") or simple):
        raise click.UsageError("--json prints all that the ledger says: use it without --format")
    if how is None and out is not None:
        raise click.UsageError(f"--out needs a --format: {', '.join(FORMATS[1:])}")
    month = parsed_month(period, "--period")
    settings = load_config(config_file, data_dir, as_json).settings
    from metering.clock import now_ns
    from proxy import cli_documents, cli_reports

    if how is None and not simple:

        def made() -> tuple[dict[str, Any], Any]:
            found = cli_reports.invoice(settings, tenant, month)
            return cli_documents.with_credits(settings, found, tenant, month, now_ns=now_ns())

        report(made, as_json)
        return
    try:
        document = cli_reports.read_ledger(
            settings,
            lambda ledger: cli_documents.document_of(
                ledger, settings, tenant, month, now_ns=now_ns()
            ),
        )
        if document is None:
            raise cli_reports.NotFoundError("nothing is settled yet")
        if how in (None, "table"):
            print_table(cli_documents.document_table(document, simple=simple))
            return
        data = cli_documents.rendered(document, settings, how or "json", simple=simple)
    except cli_reports.NotFoundError as error:
        fail(NOT_FOUND, str(error), as_json)
    except (cli_reports.LedgerError, LookupError) as error:
        fail(FAILED, str(error.args[0]), as_json)
    write_bytes(data, out, as_json, is_text=how != "pdf")


def report(make: Callable[[], tuple[dict[str, Any], Any]], as_json: bool) -> None:
    """Print what `make` answers: the JSON body, or the thing that rich renders."""
    from proxy import cli_reports

    try:
        body, table = make()
    except cli_reports.NotFoundError as error:
        fail(NOT_FOUND, str(error), as_json)
    except cli_reports.LedgerError as error:
        fail(FAILED, str(error), as_json)
    if as_json:
        echo_json(body)
        return
    print_table(table)


def print_table(table: Any) -> None:
    """Print what rich renders."""
    from proxy.cli_tables import console

    console().print(table)
    sys.stdout.flush()


def write_bytes(data: bytes, out: Path | None, as_json: bool, *, is_text: bool) -> None:
    """To the file, whole or not at all, or to standard output unless that is a screen."""
    if out is None:
        if not is_text and sys.stdout.isatty():
            fail(BAD_CONFIG, "a PDF is nothing for a screen: name a file with --out", as_json)
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    beside = out.with_name(f".{out.name}.new")
    try:
        beside.write_bytes(data)
        beside.replace(out)
    except OSError as error:
        beside.unlink(missing_ok=True)
        fail(FAILED, f"cannot write {out}: {error.strerror}", as_json)


def parsed_month(text: str | None, option: str) -> str:
    """A month as it was given, or the current one; a usage error for anything else."""
    from metering.clock import now_ns
    from proxy.cli_times import parse_month

    try:
        return parse_month(text, now_ns())
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from None
