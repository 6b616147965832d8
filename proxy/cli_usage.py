"""`weir usage` and `weir requests`: what was used, over time, and the requests behind it."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from proxy.cli_options import (
    BAD_CONFIG,
    FAILED,
    NOT_FOUND,
    echo_json,
    fail,
    load_config,
    print_table,
    shared_options,
)

if TYPE_CHECKING:
    from metering.settlement.analytics import Question
    from proxy.settings import Settings

_MONTH_NS = 30 * 24 * 3_600 * 10**9
_BY = "tenant,model"


@click.command()
@click.option("--tenant", help="Only this tenant.")
@click.option("--since", metavar="WHEN", help="RFC 3339, or back from now: 30m, 24h, 7d.")
@click.option("--until", metavar="WHEN", help="The moment after the last; now if left out.")
@click.option("--by", default=_BY, metavar="LIST", help="What a row is, by commas.")
@click.option(
    "--interval",
    type=click.Choice(("none", "hour", "day", "month")),
    help="From sums: a row for each of these, with rates of errors and percentiles.",
)
@click.option("--where", multiple=True, metavar="DIM=VALUE", help="From sums: only of this.")
@click.option("--csv", "as_csv", is_flag=True, help="From sums: every row, as CSV.")
@click.option(
    "--sort",
    default="name",
    metavar="HOW",
    help="name, requests, cost, charged or margin; of sums, start, tokens or errors, too.",
)
@click.option("--limit", type=click.IntRange(1), help="Show at most so many rows.")
@shared_options
def usage(
    *,
    tenant: str | None,
    since: str | None,
    until: str | None,
    by: str,
    interval: str | None,
    where: tuple[str, ...],
    as_csv: bool,
    sort: str,
    limit: int | None,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """What was used, what it cost and was sold for, from the ledger."""
    settings = load_config(config_file, data_dir, as_json).settings
    if interval is not None or where or as_csv or until is not None:
        asked = _question(tenant, since, until, by=by, interval=interval or "none", where=where)
        _from_sums(settings, _sorted(asked, sort, limit), as_csv=as_csv, as_json=as_json)
        return
    from metering.clock import now_ns
    from proxy import cli_reports
    from proxy.cli_invoice import report
    from proxy.cli_times import parse_since_ns

    try:
        since_ns = None if since is None else parse_since_ns(since, now_ns())
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--since") from None
    try:
        found = cli_reports.asked_usage(tenant, since_ns, by=by, sort=sort, limit=limit)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    report(lambda: cli_reports.usage(settings, found), as_json)


@click.command()
@click.argument("exchange", required=False)
@click.option("--tenant", help="Only of this tenant.")
@click.option("--since", metavar="WHEN", help="RFC 3339, or back from now: 30m, 24h, 7d.")
@click.option("--until", metavar="WHEN", help="The moment after the last; now if left out.")
@click.option("--where", multiple=True, metavar="DIM=VALUE", help="Only of this.")
@click.option("--request", metavar="ID", help="Only of this request id, as its client was told.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=20, help="Show at most so many.")
@shared_options
def requests(
    *,
    exchange: str | None,
    tenant: str | None,
    since: str | None,
    until: str | None,
    where: tuple[str, ...],
    request: str | None,
    limit: int,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """The requests behind the numbers, the newest first; or everything of one EXCHANGE."""
    settings = load_config(config_file, data_dir, as_json).settings
    from metering.settlement.ledger import analytics_exchanges as books
    from proxy import cli_usage_tables as shown

    if exchange is not None:
        whole = _asked(settings, lambda ledger: books.exchange(ledger, exchange), as_json)
        if whole is None:
            fail(NOT_FOUND, f"the ledger has no exchange {exchange!r} (yet)", as_json)
        echo_json(whole) if as_json else print_table(shown.exchange(whole))
        return
    question = _question(tenant, since, until, by="", interval="none", where=where)
    wanted = books.Wanted(_limited(question, limit), request)
    found = _asked(settings, lambda ledger: books.exchanges(ledger, wanted), as_json)
    found = found or {"data": [], "next_cursor": None}
    echo_json(found) if as_json else print_table(shown.exchanges(found))


def _question(
    tenant: str | None,
    since: str | None,
    until: str | None,
    *,
    by: str,
    interval: str,
    where: tuple[str, ...],
) -> Question:
    from metering.clock import now_ns
    from metering.ids import scope_id
    from metering.settlement.analytics import Question
    from proxy.cli_times import parse_since_ns

    now = now_ns()
    try:
        end_ns = now if until is None else parse_since_ns(until, now)
        start_ns = end_ns - _MONTH_NS if since is None else parse_since_ns(since, now)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--since or --until") from None
    filters: dict[str, tuple[str, ...]] = {} if tenant is None else {"tenant": (tenant,)}
    for each in where:
        name, is_there, value = each.partition("=")
        if not is_there:
            raise click.BadParameter(f"{each!r} is not like model=gpt-4o", param_hint="--where")
        value = scope_id(value) if name == "user" and value else value
        filters[name] = (*filters.get(name, ()), value)
    names = tuple(dict.fromkeys(name.strip() for name in by.split(",") if name.strip()))
    return _checked(Question(max(start_ns, 0), end_ns, interval, names, filters))


def _sorted(question: Question, sort: str, limit: int | None) -> Question:
    from dataclasses import replace

    from metering.settlement.analytics import LIMIT_MAX

    named = {"name": "start", "charged": "sell"}.get(sort, sort)
    return _checked(replace(question, sort=named, limit=min(limit or LIMIT_MAX, LIMIT_MAX)))


def _limited(question: Question, limit: int) -> Question:
    from dataclasses import replace

    return replace(question, limit=limit)


def _checked(question: Question) -> Question:
    from metering.settlement.analytics import checked

    try:
        checked(question)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return question


def _from_sums(settings: Settings, question: Question, *, as_csv: bool, as_json: bool) -> None:
    from metering.settlement.ledger import analytics as books
    from proxy import cli_usage_tables as shown
    from proxy.admin.usage_csv import csv_rows

    if as_csv:

        def write(ledger: Any) -> bool:
            rows = books.usage_rows(ledger, question)
            csv.writer(sys.stdout).writerows(csv_rows(rows, question, sees_cost=True))
            return True

        _asked(settings, write, as_json)
        return
    found = _asked(settings, lambda ledger: books.usage(ledger, question), as_json)
    if found is None:
        fail(NOT_FOUND, "nothing is settled yet", as_json)
    echo_json(found) if as_json else print_table(shown.usage(found, question))


def _asked(settings: Settings, ask: Any, as_json: bool) -> Any:
    from proxy import cli_reports

    try:
        return cli_reports.read_ledger(settings, ask)
    except cli_reports.NotFoundError as error:
        fail(NOT_FOUND, str(error), as_json)
    except cli_reports.LedgerError as error:
        fail(FAILED, str(error), as_json)
    except ValueError as error:
        fail(BAD_CONFIG, str(error), as_json)
