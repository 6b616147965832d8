"""`weir reconcile`: the ledger against what providers say, what is proposed, and what is booked."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from proxy.cli_internal import internal
from proxy.cli_options import (
    BAD_CONFIG,
    FAILED,
    NOT_FOUND,
    count_of,
    echo_json,
    fail,
    load_config,
    print_table,
    shared_options,
    user_name,
)
from proxy.cli_progress import progress

if TYPE_CHECKING:
    from metering.settlement.ledger.provider_books import Run
    from metering.settlement.ledger.store import Ledger
    from proxy.settings import Settings

_Answer = TypeVar("_Answer")

USUAL_DAYS = 7
"""How far back a comparison goes that names no days."""


@click.group()
def reconcile() -> None:
    """Compare the ledger with what providers say of it."""


reconcile.add_command(internal)


def _html_option(command: Callable[..., Any]) -> Callable[..., Any]:
    path = click.Path(dir_okay=False, path_type=Path)
    return click.option("--html", type=path, metavar="FILE", help="Write it as a page, too.")(
        command
    )


@reconcile.command("run")
@click.option("--provider", help="Only this account; every one with `reconcile` if left out.")
@click.option("--from", "since", metavar="YYYY-MM-DD", help="First day, UTC; a week ago.")
@click.option("--to", "until", metavar="YYYY-MM-DD", help="Last day, UTC; yesterday.")
@click.option("--stored", is_flag=True, help="Ask nobody: compare with what was kept before.")
@click.option("--all", "everything", is_flag=True, help="Show equal lines, too.")
@_html_option
@shared_options
def run_command(
    *,
    provider: str | None,
    since: str | None,
    until: str | None,
    stored: bool,
    everything: bool,
    html: Path | None,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> NoReturn:
    """Fetch what providers say, compare, and keep the result. Nothing is booked.

    Exit code 1 when an account could not be compared, or a model is too far off.
    """
    settings = load_config(config_file, data_dir, as_json).settings
    since, until = _days(since, until)
    names = _providers(settings, provider, as_json)
    from proxy import cli_reconciling as reconciling

    by = user_name(as_json)

    def compare(ledger: Ledger) -> dict[str, Run | str]:
        done: dict[str, Run | str] = {}
        for name in names:
            tell(len(done), len(names))
            done[name] = reconciling.compare(
                ledger, settings, name, since=since, until=until, by=by, fetches=not stored
            )
        return done

    with progress("Asking providers", as_json=as_json) as tell:
        found = _asked(settings, compare, as_json=as_json)
    runs = [each for each in found.values() if not isinstance(each, str)]
    failed = {name: each for name, each in found.items() if isinstance(each, str)}
    _show(runs, html=html, everything=everything, as_json=as_json, failed=failed)
    for name, why in failed.items() if not as_json else ():
        click.echo(f"weir: {name}: {why}", err=True)
    is_off = any(each.body["over_alert"] for each in runs)
    sys.exit(FAILED if failed or is_off else 0)


@reconcile.command("show")
@click.argument("number", metavar="[ID]", type=click.IntRange(1), required=False)
@click.option("--provider", help="In the list, only those of this account.")
@click.option("--all", "everything", is_flag=True, help="Show equal lines, too.")
@_html_option
@shared_options
def show(
    *,
    number: int | None,
    provider: str | None,
    everything: bool,
    html: Path | None,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """One comparison as it was made; the list of them without ID."""
    settings = load_config(config_file, data_dir, as_json).settings
    from metering.settlement.ledger.provider_books import find_run, list_runs

    if number is None:
        runs = _asked(settings, lambda ledger: list_runs(ledger, provider), as_json=as_json)
        _show_list(runs, as_json=as_json)
        return
    wanted = number
    found = _asked(settings, lambda ledger: [find_run(ledger, wanted)], as_json=as_json)[0]
    if found is None:
        fail(NOT_FOUND, f"no comparison {number}: `weir reconcile show` lists them", as_json)
    _show([found], html=html, everything=everything, as_json=as_json, failed={})


@reconcile.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--provider", required=True, help="The account that it is an export of.")
@shared_options
def import_file(
    *,
    file: Path,
    provider: str,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Keep a CSV export of OpenAI's or Anthropic's dashboard, usage or costs."""
    settings = load_config(config_file, data_dir, as_json).settings
    if provider not in settings.providers:
        fail(NOT_FOUND, f"no provider {provider!r} in {settings.source}", as_json)
    from metering.settlement.exports.rows import ExportError
    from proxy import cli_reconciling as reconciling

    try:
        export, sha256, fetched_at = reconciling.read_file(file)
    except (ExportError, OSError) as error:
        fail(FAILED, f"{file}: {error}", as_json)
    from metering.settlement.ledger.provider_books import keep_export

    def keep(ledger: Ledger) -> bool:
        keep_export(
            ledger, provider, export, source=file.name, sha256=sha256, fetched_at=fetched_at
        )
        return True

    _asked(settings, keep, as_json=as_json)
    rows = len(export.usage) + len(export.costs)
    from metering.settlement.exports.rows import next_day

    last = next_day(export.until, -1)
    if as_json:
        echo_json({"kind": export.kind, "from": export.since, "to": last, "rows": rows})
    else:
        click.echo(f"kept: {count_of(rows, 'row')} of {export.kind}, {export.since} to {last}")


@reconcile.command("apply")
@click.argument("number", metavar="ID", type=click.IntRange(1))
@click.option("--by", required=True, help="Whose decision it is.")
@click.option("--reason", required=True, help="Why; it stands in every event.")
@shared_options
def apply_command(
    *,
    number: int,
    by: str,
    reason: str,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Book the corrections that a comparison proposes: what usage cost, never what is billed."""
    settings = load_config(config_file, data_dir, as_json).settings
    from metering.clock import now_ns
    from metering.settlement.ledger.provider_books import ApplyRefusedError, apply_run
    from proxy.settings import redis_keys

    if not by.strip() or not reason.strip():
        fail(BAD_CONFIG, "--by and --reason may not be empty", as_json)

    def book(ledger: Ledger) -> tuple[int, str]:
        try:
            found = apply_run(
                ledger, redis_keys(settings), number, by=by, reason=reason, now_ns=now_ns()
            )
        except ApplyRefusedError as error:
            return 0, str(error)
        return found, ""

    booked, refused = _asked(settings, book, as_json=as_json)
    if refused:
        fail(FAILED, f"not booked: {refused}", as_json)
    if as_json:
        echo_json({"id": number, "booked": booked})
    elif booked:
        click.echo(f"booked: {count_of(booked, 'correction')}")
    else:
        click.echo("was booked already")


def _days(since: str | None, until: str | None) -> tuple[str, str]:
    """From the first day to the one after the last."""
    from metering.clock import now_ns
    from proxy.cli_times import parse_days

    try:
        return parse_days(since, until, now_ns(), usual_days=USUAL_DAYS)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--from/--to") from None


def _providers(settings: Settings, named: str | None, as_json: bool) -> list[str]:
    if named is not None:
        if named not in settings.providers:
            fail(NOT_FOUND, f"no provider {named!r} in {settings.source}", as_json)
        return [named]
    found = [name for name, each in settings.providers.items() if each.reconcile is not None]
    if not found:
        fail(NOT_FOUND, f"no provider has `reconcile` in {settings.source}", as_json)
    return found


def _show(
    runs: list[Run],
    *,
    html: Path | None,
    everything: bool,
    as_json: bool,
    failed: dict[str, str],
) -> None:
    from proxy import cli_reconcile_page as reconcile_page
    from proxy import cli_reconcile_tables as reconcile_tables

    if html is not None:
        pages = [reconcile_tables.as_body(each) for each in runs]
        html.write_text(reconcile_page.page(pages), encoding="utf-8")
    if as_json:
        bodies = [reconcile_tables.as_body(each) for each in runs]
        echo_json({"reconciliations": bodies, "failed": failed})
        return
    for each in runs:
        print_table(reconcile_tables.report(reconcile_tables.as_body(each), everything=everything))


def _show_list(runs: list[Run], *, as_json: bool) -> None:
    from proxy import cli_reconcile_tables as reconcile_tables

    bodies = [reconcile_tables.as_row(each) for each in runs]
    if as_json:
        echo_json({"reconciliations": bodies})
    else:
        print_table(reconcile_tables.listing(bodies))


def _asked(
    settings: Settings, ask: Callable[[Ledger], _Answer | None], *, as_json: bool
) -> _Answer:
    """What the ledger answers, or the end of the process with the reason."""
    from metering.settlement.ledger.provider_books import knows_exports
    from proxy.cli_asked import asked

    return asked(settings, knows_exports, ask, as_json=as_json)
