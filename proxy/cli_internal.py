"""`weir reconcile internal`: what we say ourselves, from the streams to the invoice and Stripe."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from proxy.cli_options import FAILED, echo_json, load_config, shared_options

if TYPE_CHECKING:
    from metering.settlement.internal import Books
    from metering.settlement.ledger.store import Ledger
    from proxy.settings import Settings


@click.command("internal")
@click.option("--month", metavar="YYYY-MM", help="UTC month; the current one if left out.")
@click.option("--tenant", help="Show only this tenant.")
@shared_options
def internal(
    *,
    month: str | None,
    tenant: str | None,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> NoReturn:
    """Compare streams, ledger, rollups, invoices and Stripe's hours, tenant by tenant.

    Reads only. Exit code 1 when two of them do not agree; what is on its way is no difference.
    """
    from metering.clock import now_ns
    from proxy.cli_times import parse_month

    try:
        period = parse_month(month, now_ns())
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--month") from None
    settings = load_config(config_file, data_dir, as_json).settings
    from metering.settlement.ledger.stripe_book import knows_stripe
    from proxy.cli_asked import asked

    books, away = asked(
        settings, knows_stripe, lambda ledger: _compare(ledger, settings, period), as_json=as_json
    )
    rows = [row.body() for row in books.rows if tenant in (None, row.tenant)]
    differing = sum(len(row["differences"]) for row in rows)
    body = {"month": period, "ok": not differing, "tenants": rows, "streams_unread": away}
    if as_json:
        echo_json(body)
    else:
        from proxy.cli_internal_tables import comparison
        from proxy.cli_tables import console

        console().print(comparison(body))
    sys.exit(FAILED if differing else 0)


def _compare(ledger: Ledger, settings: Settings, month: str) -> tuple[Books, str | None]:
    """All of it, and why the streams could not be read, if so."""
    import asyncio

    from metering.settlement.internal import IDS_MAX, Books
    from metering.settlement.ledger import internal_sums as sums
    from metering.settlement.ledger.plan_books import Terms

    books = Books()
    away = asyncio.run(_read_streams(ledger, settings, month, books))
    mine, rolled, behind = sums.hourly(ledger, month)
    for place in books.rollups(mine, rolled, behind):
        books.name_events(place, sums.events_of(ledger, place, limit=10 * IDS_MAX))
    names = [row.tenant for row in books.rows]
    assigned = settings.assignments
    terms = {name: Terms(settings.plans, assigned.get(name, ())) for name in names}
    for name, billed in sums.billed(ledger, month, names, terms.__getitem__):
        books.statement(name, billed)
    if settings.stripe is not None:
        books.stripe(sums.stripe_hours(ledger, settings.stripe, month))
    return books, away


async def _read_streams(ledger: Ledger, settings: Settings, month: str, books: Books) -> str | None:
    import asyncio

    from redis.exceptions import RedisError

    from metering.settlement.internal_stream import events_in_streams
    from metering.settlement.invoices import period_bounds_ns
    from metering.settlement.ledger.internal_sums import fates
    from metering.settlement.redis_client import connect
    from proxy.embedded_redis import redis_url
    from proxy.settings import redis_keys

    url = settings.redis.url
    start_ns, end_ns = period_bounds_ns(month)
    try:
        async with connect(redis_url(settings.data_dir) if url is None else url.reveal()) as client:
            pages: Any = events_in_streams(
                client, redis_keys(settings), start_ns=start_ns, end_ns=end_ns
            )
            async for page in pages:
                books.stream(await asyncio.to_thread(fates, ledger, page))
    except (RedisError, OSError, ValueError) as error:
        return str(error) or type(error).__name__
    return None
