"""`weir prices`: which prices hold when, what a change would do, and putting it on record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from proxy.cli_options import (
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

if TYPE_CHECKING:
    from metering.prices import PriceBook
    from metering.settlement.ledger.store import Ledger
    from proxy.settings import Settings

_Answer = TypeVar("_Answer")

MONTH_DAYS, QUARTER_DAYS = 30, 91
"""How far back a difference and a review look that name no time."""


@click.group()
def prices() -> None:
    """What models cost us, and what tenants pay."""


@prices.command("list")
@click.option("--at", metavar="WHEN", help="RFC 3339, a date, or back from now: 24h, 7d.")
@shared_options
def list_prices(
    *, at: str | None, config_file: str | None, data_dir: Path | None, as_json: bool
) -> None:
    """The price book in force, and when others begin."""
    settings = load_config(config_file, data_dir, as_json).settings
    time_ns = _time("--at", at)
    from proxy.price_rows import book_row

    body = book_row(settings.prices, time_ns)
    if as_json:
        echo_json(body)
        return
    from proxy.cli_price_tables import book as table

    print_table(table(body))


@prices.command("show")
@click.argument("model")
@click.option("--at", metavar="WHEN", help="RFC 3339, a date, or back from now: 24h, 7d.")
@shared_options
def show(
    model: str, *, at: str | None, config_file: str | None, data_dir: Path | None, as_json: bool
) -> None:
    """Every rate of a MODEL, by each of its upstreams; by its public or its upstream name."""
    settings = load_config(config_file, data_dir, as_json).settings
    time_ns = _time("--at", at)
    from proxy.price_rows import price_rows

    rows = price_rows(settings.prices.at(time_ns), settings.models, model)
    if not rows:
        fail(NOT_FOUND, f"no model {model!r} is served by {settings.source}", as_json)
    if as_json:
        echo_json({"prices": rows})
        return
    from proxy.cli_price_tables import prices_of as table

    print_table(table(rows))


@prices.command("diff")
@click.option(
    "--against",
    metavar="WHAT",
    help="A version in the ledger, or another configuration file; what was published last if "
    "left out.",
)
@click.option("--since", metavar="WHEN", help="Usage from then on; 30d if left out.")
@shared_options
def diff(
    *,
    against: str | None,
    since: str | None,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """What the file's prices change, and what recent usage comes to by them. Nothing is written."""
    settings = load_config(config_file, data_dir, as_json).settings
    since_ns, now = _time("--since", since or f"{MONTH_DAYS}d"), _now()
    from proxy.cli_price_asked import BookNotFoundError, bodies_against, differences, usage_change

    def ask(ledger: Ledger) -> dict[str, Any]:
        before = bodies_against(ledger, against, now)
        return {
            "against": before.name,
            "changes": differences(before, settings.prices, now),
            "usage": usage_change(ledger, settings.prices, since_ns, now),
        }

    try:
        body = _asked(settings, ask, as_json=as_json)
    except BookNotFoundError as error:
        fail(NOT_FOUND, str(error), as_json)
    if as_json:
        echo_json(body)
        return
    from proxy.cli_price_tables import difference as table

    print_table(table(body))


@prices.command("publish")
@click.option("--note", required=True, help="Why these prices, for the record.")
@click.option("--by", help="Who publishes; the user who is logged in if left out.")
@click.option("--back", is_flag=True, help="Although a newer book was published since.")
@click.option("--leave-past", is_flag=True, help="Leave what was rated otherwise since as it is.")
@shared_options
def publish(
    *,
    note: str,
    by: str | None,
    back: bool,
    leave_past: bool,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Put the file's prices on record in the ledger. A repeat changes nothing."""
    settings = load_config(config_file, data_dir, as_json).settings
    who, now = by or user_name(as_json), _now()
    from metering.settlement.ledger import price_books as books

    def act(ledger: Ledger) -> dict[str, Any]:
        if not leave_past:
            _refuse_past(ledger, settings.prices, now)
        found = books.publish(
            ledger, settings.prices, by=who, note=note, goes_back=back, now_ns=now
        )
        last = found or books.publications(ledger)[-1]
        return {
            "id": last.id,
            "is_new": found is not None,
            "cost_version": last.cost_version,
            "sell_version": last.sell_version,
            "by": last.by,
            "note": last.note,
        }

    try:
        body = _asked(settings, act, as_json=as_json)
    except books.PublishRefusedError as error:
        fail(FAILED, str(error), as_json)
    if as_json:
        echo_json(body)
        return
    state = "published" if body["is_new"] else "was published already"
    click.echo(f"{body['id']}: cost {body['cost_version']} sell {body['sell_version']} {state}")


def _refuse_past(ledger: Ledger, book: PriceBook, now: int) -> None:
    """A rule that begins in the past says nothing to what was rated before it was there."""
    from metering.settlement.ledger import price_books as books
    from metering.settlement.ledger.rerate_books import Asked, outlook
    from metering.settlement.rerating import eras_of
    from proxy.cli_times import rfc3339

    since = books.begun_late(books.eras_named(book), books.publications(ledger), now)
    if since is None:
        return
    changed = outlook(ledger, Asked(since, now), eras_of(book)).changed
    if changed:
        raise books.PublishRefusedError(
            f"rules begin at {rfc3339(since)}, which is over, and {count_of(changed, 'event')} "
            f"since then were rated otherwise: `weir rerate --from {rfc3339(since)} --apply` rates "
            "them again, --leave-past leaves them as they are"
        )


@prices.command("history")
@shared_options
def history(*, config_file: str | None, data_dir: Path | None, as_json: bool) -> None:
    """What was published, and what was rated again; newest first."""
    settings = load_config(config_file, data_dir, as_json).settings
    from proxy.cli_price_asked import price_history

    body = _asked(settings, price_history, as_json=as_json)
    if as_json:
        echo_json(body)
        return
    from proxy.cli_price_tables import history as table

    print_table(table(body))


@prices.command("review")
@click.option("--since", metavar="WHEN", help="Margins from then on; 91d if left out.")
@shared_options
def review(
    *, since: str | None, config_file: str | None, data_dir: Path | None, as_json: bool
) -> None:
    """Prices beside the vendors' lists, margins by model, and models whose cost has drifted."""
    settings = load_config(config_file, data_dir, as_json).settings
    since_ns, now = _time("--since", since or f"{QUARTER_DAYS}d"), _now()
    from proxy.cli_price_asked import reviewed

    body = _asked(settings, lambda ledger: reviewed(ledger, settings, since_ns, now), as_json)
    if as_json:
        echo_json(body)
        return
    from proxy.cli_price_tables import review as table

    print_table(table(body))


@prices.command("update")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write; the package's own file if left out.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def update(*, output: Path | None, as_json: bool) -> None:
    """Make the package's list prices anew from the installed `genai-prices`, for a release."""
    from datetime import UTC, datetime

    from metering.list_prices import packaged_path, read_list_prices
    from proxy.list_price_update import NoPricesError, make_list_prices

    today = datetime.fromtimestamp(_now() // 10**9, UTC).date()
    path = output or packaged_path()
    try:
        data, left = make_list_prices(today)
        path.write_bytes(data)
    except NoPricesError as error:
        fail(FAILED, str(error), as_json)
    except OSError as error:
        fail(FAILED, f"cannot write {path}: {error.strerror}: name another with --output", as_json)
    made = read_list_prices(data)
    models = sum(len(each.models) for each in made.providers)
    if as_json:
        echo_json({"file": str(path), "version": made.version, "models": models, "left_out": left})
        return
    for each in left:
        click.echo(f"left out: {each}", err=True)
    click.echo(f"{path}: {count_of(models, 'model')}, version {made.version}")


def _time(option: str, text: str | None) -> int:
    from proxy.cli_times import parse_since_ns

    if text is None:
        return _now()
    try:
        return parse_since_ns(text, _now())
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from None


def _now() -> int:
    from metering.clock import now_ns

    return now_ns()


def _asked(settings: Settings, ask: Callable[[Ledger], _Answer], as_json: bool) -> _Answer:
    """What the ledger answers, or the end of the process with the reason."""
    from metering.settlement.ledger.rerate_books import knows_reratings
    from proxy.cli_asked import asked

    return asked(settings, knows_reratings, ask, as_json=as_json)
