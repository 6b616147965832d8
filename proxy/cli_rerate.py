"""`weir rerate`: what booked usage comes to by other prices, and booking the difference."""

from __future__ import annotations

import sys
from functools import partial
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
    shared_options,
    user_name,
)
from proxy.cli_progress import progress

if TYPE_CHECKING:
    from metering.settlement.ledger.rerate_books import Outlook
    from metering.settlement.ledger.store import Ledger


@click.command()
@click.option("--from", "since", required=True, metavar="WHEN", help="RFC 3339, a date, or 7d.")
@click.option("--to", "until", metavar="WHEN", help="Before this time; now if left out.")
@click.option("--tenant", help="Only this tenant.")
@click.option("--model", help="Only this model, by the upstream's name or the one asked for.")
@click.option(
    "--version",
    "versions",
    multiple=True,
    metavar="VERSION",
    help="A price version of the ledger, twice for cost and sell; the file's prices, each event by "
    "those of its time, if left out.",
)
@click.option("--apply", "applies", is_flag=True, help="Book the differences.")
@click.option("--reason", help="With --apply: why, for the books.")
@click.option("--by", help="Who does it; the user who is logged in if left out.")
@shared_options
def rerate(
    *,
    since: str,
    until: str | None,
    tenant: str | None,
    model: str | None,
    versions: tuple[str, ...],
    applies: bool,
    reason: str | None,
    by: str | None,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """What booked usage comes to by other prices; with --apply, book the differences.

    What is booked stays: every changed event gets an adjustment. A repeat books nothing.
    """
    if applies and not (reason or "").strip():
        raise click.UsageError("--apply needs a --reason, for whoever reads the books")
    settings = load_config(config_file, data_dir, as_json).settings
    from metering.clock import now_ns
    from metering.redis_keys import RedisKeys
    from metering.settlement.ledger import rerate_books as books
    from proxy.cli_asked import asked
    from proxy.cli_price_asked import BookNotFoundError, outlook_rows, target_of

    now = now_ns()
    chosen = books.Asked(_time("--from", since, now), _time("--to", until, now), tenant, model)
    if chosen.since_ns >= chosen.until_ns:
        raise click.BadParameter("comes after --to", param_hint="--from")
    redis = settings.redis
    keys = RedisKeys(redis.prefix, redis.shards, settings.metering.queue)
    who = (by or user_name(as_json)) if applies else ""

    def act(ledger: Ledger) -> Outlook:
        eras, bodies = target_of(ledger, settings.prices, versions)
        if not applies:
            return books.outlook(ledger, chosen, eras, tell=tell)
        booked = partial(books.apply, by=who, reason=reason or "", now_ns=now, tell=tell)
        return booked(ledger, keys, chosen, eras, bodies=bodies)

    try:
        with progress("Rating events", as_json=as_json) as tell:
            found = asked(settings, books.knows_reratings, act, as_json=as_json)
    except BookNotFoundError as error:
        fail(NOT_FOUND, str(error), as_json)
    except ValueError as error:
        fail(BAD_CONFIG, str(error), as_json)
    except books.RerateConflictError as error:
        fail(FAILED, str(error), as_json)
    body: dict[str, Any] = {"applied": applies, "rows": outlook_rows(found)}
    _show(body, found, as_json)


def _show(body: dict[str, Any], found: Outlook, as_json: bool) -> None:
    if as_json:
        echo_json({**body, "changed": found.changed})
        return
    if not body["rows"]:
        click.echo("no events there")
        return
    from proxy.cli_price_tables import outlook as table
    from proxy.cli_tables import console

    done = "Booked" if body["applied"] else "Not booked (--apply does)"
    console().print(table(body["rows"], f"{done}: {found.changed} adjustments"))
    sys.stdout.flush()


def _time(option: str, text: str | None, now: int) -> int:
    from proxy.cli_times import parse_since_ns

    if text is None:
        return now
    try:
        return parse_since_ns(text, now)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from None
