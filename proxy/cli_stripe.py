"""`weir stripe`: what Stripe's meters were told, telling them now, and comparing the two."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

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
    from metering.settlement.ledger.store import Ledger
    from metering.settlement.stripe_moves import Hour
    from metering.settlement.stripe_sync import Turn
    from proxy.settings import Settings

_Answer = TypeVar("_Answer")


@click.group()
def stripe() -> None:
    """Usage that is told to Stripe's meters."""


@stripe.command("status")
@shared_options
def status(*, config_file: str | None, data_dir: Path | None, as_json: bool) -> None:
    """What the ledger says, what Stripe has taken, and what waits for a person."""
    settings = load_config(config_file, data_dir, as_json).settings
    from metering.settlement.ledger import stripe_book as book

    def ask(ledger: Ledger) -> dict[str, Any]:
        with ledger.read() as connection:
            return {
                "meters": [_row(row) for row in book.standing(connection)],
                "held": [_held(each) for each in book.held(connection)],
            }

    body = {"configured": settings.stripe is not None, **_asked(settings, ask, as_json=as_json)}
    if as_json:
        echo_json(body)
        return
    from proxy.cli_stripe_tables import standing

    print_table(standing(body))


@stripe.command("sync")
@click.option("--held", is_flag=True, help="Also what is held, once more.")
@shared_options
def sync(*, held: bool, config_file: str | None, data_dir: Path | None, as_json: bool) -> NoReturn:
    """Tell Stripe what it lacks, now. Exit code 1 when something is left."""
    settings = load_config(config_file, data_dir, as_json).settings
    turn, _ = _turn(settings, as_json, reopen=held)
    _end(turn, as_json, is_well=turn.trouble is None and not turn.waiting and not turn.held)


@stripe.command("verify")
@click.option("--repair", is_flag=True, help="Send what Stripe lacks, of raw meters as well.")
@shared_options
def verify(
    *, repair: bool, config_file: str | None, data_dir: Path | None, as_json: bool
) -> NoReturn:
    """Compare what Stripe was told with what it shows. Exit code 1 when they differ.

    Only hours that were told an hour ago or earlier: Stripe's summaries lag behind.
    """
    settings = load_config(config_file, data_dir, as_json).settings
    turn, hours = _turn(
        settings, as_json, verify=True, repair=repair, raw_too=repair, reopen=False, send=repair
    )
    found = [each for each in hours if each.seen is not None and each.seen != each.acked]
    if not as_json and found:
        from proxy.cli_stripe_tables import differing

        print_table(differing([_held(each) for each in found]))
    _end(
        turn,
        as_json,
        is_well=turn.trouble is None and not turn.differing,
        differences=[_held(each) for each in found],
    )


@stripe.command("carry")
@click.option("--tenant", required=True, help="Whose hours.")
@click.option("--write-off", is_flag=True, help="Into no hour at all: Stripe never bills it.")
@click.option("--by", help="Who decides; the user who is logged in if left out.")
@shared_options
def carry(
    *,
    tenant: str,
    write_off: bool,
    by: str | None,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Count what is too old for Stripe in the current hour instead, more or less than nothing."""
    settings = load_config(config_file, data_dir, as_json).settings
    who = by or user_name(as_json)
    from metering.clock import now_ns
    from metering.settlement.ledger import stripe_book as book
    from metering.settlement.stripe_moves import TOO_OLD

    def ask(ledger: Ledger) -> list[Hour]:
        with ledger.write() as connection:
            late = [
                each
                for each in book.held(connection)
                if each.tenant == tenant and each.reason == TOO_OLD
            ]
            into = None if write_off else now_ns()
            book.carry(connection, late, into_hour=into, by=who, now_ns=now_ns())
            return late

    hours = _asked(settings, ask, as_json=as_json)
    if as_json:
        echo_json({"carried": [_held(each) for each in hours]})
        return
    what = "written off" if write_off else "carried into this hour"
    click.echo(f"{count_of(len(hours), 'hour')} {what}")


def _turn(settings: Settings, as_json: bool, **how: bool) -> tuple[Turn, list[Hour]]:
    if settings.stripe is None:
        fail(NOT_FOUND, f"no section stripe in {settings.source}", as_json)
    wanted = settings.stripe
    from metering.settlement.ledger import stripe_book as book
    from metering.settlement.stripe_loop import holder_name
    from metering.settlement.stripe_port import Sdk, StripeMissingError
    from metering.settlement.stripe_sync import Sync

    try:
        port = Sdk(wanted)
    except StripeMissingError as error:
        fail(FAILED, str(error), as_json)

    def ask(ledger: Ledger) -> tuple[Turn, list[Hour]]:
        turn = Sync(ledger, wanted, port, holder=holder_name()).turn(**how)
        with ledger.read() as connection:
            return turn, book.hours_since(connection, 0)

    turn, hours = _asked(settings, ask, as_json=as_json)
    if not turn.had_lease:
        fail(FAILED, "the worker is telling Stripe right now: try again in a moment", as_json)
    return turn, hours


def _end(turn: Turn, as_json: bool, *, is_well: bool, **more: Any) -> NoReturn:
    body = {
        "requests": dict(turn.outcomes),
        "waiting": turn.waiting,
        "held": turn.held,
        "verified": turn.verified,
        "differing": turn.differing,
        "trouble": turn.trouble,
    }
    if as_json:
        echo_json({**body, **more})
    else:
        outcomes = ", ".join(f"{count} {name}" for name, count in sorted(turn.outcomes.items()))
        click.echo(f"requests: {outcomes or 'none'}")
        click.echo(f"hours: {turn.waiting} waiting, {turn.held} held")
        if turn.verified or turn.differing:
            click.echo(f"compared: {turn.verified} agree, {turn.differing} differ")
        if turn.trouble is not None:
            click.echo(f"weir: {turn.trouble}", err=True)
    sys.exit(0 if is_well else FAILED)


def _row(row: dict[str, Any]) -> dict[str, Any]:
    at = row.pop("acked_at")
    return {**row, "last_taken_ms": None if at is None else at // 1_000_000}


def _held(each: Hour) -> dict[str, Any]:
    return {
        "tenant": each.tenant,
        "event_name": each.event_name,
        "customer": each.customer,
        "hour_ms": each.hour // 1_000_000,
        "ledger": each.wanted,
        "stripe": each.acked,
        "seen": each.seen,
        "state": str(each.state),
        "reason": each.reason,
    }


def _asked(settings: Settings, ask: Callable[[Ledger], _Answer], *, as_json: bool) -> _Answer:
    """What the ledger answers, or the end of the process with the reason."""
    from metering.settlement.ledger.stripe_book import knows_stripe
    from proxy.cli_asked import asked

    return asked(settings, knows_stripe, ask, as_json=as_json)
