"""`weir review`: spend that was out of the ordinary, and what a person decides about it.

A decision is a row of the ledger first, and then a flag in Redis: whatever comes in between, the
settlement worker finishes. Repeating a decision changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from proxy.cli_options import (
    FAILED,
    NOT_FOUND,
    echo_json,
    fail,
    load_config,
    shared_options,
)

if TYPE_CHECKING:
    from metering.settlement.ledger.reviews import Item
    from metering.settlement.ledger.store import Ledger
    from proxy.settings import Settings

_Answer = TypeVar("_Answer")
_Command = TypeVar("_Command", bound=Callable[..., Any])


@click.group()
def review() -> None:
    """Look at spend that was out of the ordinary, and decide what becomes of it."""


@review.command("list")
@click.option("--all", "every", is_flag=True, help="Also what is decided, over, or shadow.")
@click.option("--tenant", help="Only this tenant.")
@shared_options
def review_list(
    *,
    every: bool,
    tenant: str | None,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """What waits for a decision, oldest first."""
    settings = load_config(config_file, data_dir, as_json).settings
    from metering.settlement.anomalies import is_waiting
    from metering.settlement.ledger.reviews import all_items

    found = _ask(settings, lambda ledger: all_items(ledger, tenant=tenant), as_json)
    rows = [_row(item) for item in found if every or is_waiting(item.case)]
    if as_json:
        echo_json({"review_items": rows})
        return
    from proxy.cli_tables import console, review_items

    console().print(review_items(rows))


@review.command("show")
@click.argument("number", type=int, metavar="ID")
@shared_options
def review_show(
    *, number: int, config_file: str | None, data_dir: Path | None, as_json: bool
) -> None:
    """One item: the numbers, what was done, and what was decided."""
    settings = load_config(config_file, data_dir, as_json).settings
    row = _row(_find(settings, number, as_json))
    if as_json:
        echo_json(row)
        return
    steps, decisions = row.pop("steps"), row.pop("decisions")
    from proxy.cli_tables import money

    for name, value in row.items():
        if name.endswith("_nano"):  # people read dollars, programs `--json`
            click.echo(f"{name.removesuffix('_nano')}: ${money(value)}")
        elif value is not None:
            click.echo(f"{name}: {value}")
    for name, at in steps.items():
        click.echo(f"{at} {name}")
    for each in decisions:
        click.echo(f"{each['at']} {each['verdict']} by {each['by']}: {each['reason']}")


def _decision(command: _Command) -> _Command:
    for option in (
        click.option("--reason", metavar="TEXT", required=True, help="Why, for the books."),
        click.option("--by", metavar="NAME", required=True, help="Who decides, for the books."),
        click.argument("number", type=int, metavar="ID"),
    ):
        command = option(command)
    return shared_options(command)


@review.command("approve")
@_decision
def review_approve(**options: Any) -> None:
    """Let it go on; what is usual stays what it was."""
    _decide("approve", **options)


@review.command("keep")
@_decision
def review_keep(**options: Any) -> None:
    """Leave it paused."""
    _decide("keep", **options)


@review.command("rebase")
@click.option("--level", metavar="USD", help="The new level; the highest seen if left out.")
@_decision
def review_rebase(**options: Any) -> None:
    """Let it go on, and take its level for usual from now on."""
    _decide("rebase", **options)


def _decide(
    verdict: str,
    *,
    number: int,
    by: str,
    reason: str,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
    level: str | None = None,
) -> None:
    if not by.strip() or not reason.strip():
        raise click.UsageError("say with --by and --reason who decides, and why")
    level_nano = None if level is None else _level_nano(level)
    settings = load_config(config_file, data_dir, as_json).settings
    from metering.clock import now_ns
    from metering.settlement.anomalies import Verdict
    from metering.settlement.ledger.reviews import DecidedBeforeError, Decision, decide

    item = _find(settings, number, as_json)
    if verdict == Verdict.REBASE and level_nano is None:
        from proxy.admin.deciding import seen_nano

        level_nano = _ask(settings, lambda ledger: seen_nano(ledger, item), as_json)
    decision = Decision(Verdict(verdict), level_nano, by.strip(), reason.strip(), now_ns())
    try:
        is_new = _ask(settings, lambda ledger: decide(ledger, number, decision), as_json)
    except DecidedBeforeError as error:
        fail(FAILED, str(error), as_json)
    left = _ask(settings, lambda ledger: _lift(settings, ledger, number), as_json)
    row = _row(_find(settings, number, as_json))
    if as_json:
        echo_json({**row, "was_new": is_new, "left_to_worker": left})
        return
    click.echo(f"{number} {verdict}{'' if is_new else ' (as before)'}")
    if left:
        click.echo("Redis cannot be reached: the settlement worker will lift what is set")


def _level_nano(level: str) -> int:
    from metering.money import AMOUNT_NANO_MAX, parse_decimal, usd_to_nano

    try:
        nano = usd_to_nano(parse_decimal(level))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--level") from None
    if not 0 < nano <= AMOUNT_NANO_MAX:
        raise click.BadParameter(f"{level} USD is no level", param_hint="--level")
    return nano


def _lift(settings: Settings, ledger: Ledger, number: int) -> bool:
    """Lift what the decision lets go; whether that is left to the worker, Redis being away."""
    from redis.exceptions import RedisError

    from metering.settlement.redis_client import connect
    from proxy.admin.deciding import lift
    from proxy.embedded_redis import redis_url

    url = settings.redis.url

    async def settle() -> None:
        client = connect(redis_url(settings.data_dir) if url is None else url.reveal())
        try:
            await lift(settings, ledger, client, number)
        finally:
            await client.aclose()

    try:
        asyncio.run(settle())
    except (RedisError, OSError):
        return True
    return False


def _find(settings: Settings, number: int, as_json: bool) -> Item:
    from metering.settlement.ledger.reviews import find_item

    item = _ask(settings, lambda ledger: find_item(ledger, number), as_json)
    if item is None:
        fail(NOT_FOUND, f"no review item {number}: `weir review list --all` has them", as_json)
    return item


def _ask(settings: Settings, ask: Callable[[Ledger], _Answer], as_json: bool) -> _Answer:
    """What the ledger answers, or the end of the process."""
    from proxy.cli_dead import ask_ledger

    return ask_ledger(settings, ask, as_json)


def _row(item: Item) -> dict[str, Any]:
    from proxy.admin.rows import review_row

    return review_row(item)
