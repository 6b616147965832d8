"""`weir payments`: what was paid through Stripe, what it became, and what waits for a person."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from proxy.cli_options import (
    BAD_CONFIG,
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
    from proxy.settings import Settings

_Answer = TypeVar("_Answer")
_STATES = ("open", "booked", "unassigned", "review", "not_credit")


@click.group()
def payments() -> None:
    """Payments that became credit."""


@payments.command("list")
@click.option("--tenant", help="Only payments that were credited to this tenant.")
@click.option("--state", type=click.Choice(_STATES), help="Only payments in this state.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, help="At most so many.")
@shared_options
def list_(
    *,
    tenant: str | None,
    state: str | None,
    limit: int,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Payments, the newest first, and callbacks that are not settled."""
    settings = load_config(config_file, data_dir, as_json).settings
    from metering.settlement.ledger import payment_book as book

    def ask(ledger: Ledger) -> dict[str, Any]:
        with ledger.read() as connection:
            found = book.list_payments(connection, tenant=tenant, state=state, limit=limit)
            return {
                "payments": [_payment(row) for row in found],
                "callbacks": [_callback(row) for row in book.unsettled_callbacks(connection)],
            }

    body = _asked(settings, ask, as_json=as_json)
    if as_json:
        echo_json(body)
        return
    from proxy.cli_payments_tables import listing

    print_table(listing(body))


@payments.command("show")
@click.argument("payment")
@shared_options
def show(*, payment: str, config_file: str | None, data_dir: Path | None, as_json: bool) -> None:
    """One payment, and each step that was booked for it."""
    settings = load_config(config_file, data_dir, as_json).settings
    from metering.settlement.ledger import payment_book as book

    def ask(ledger: Ledger) -> dict[str, Any]:
        with ledger.read() as connection:
            return book.show(connection, payment) or {}

    row = _asked(settings, ask, as_json=as_json)
    if not row:
        fail(NOT_FOUND, f"no payment {payment}", as_json)
    body = {
        **_payment(row),
        "steps": [
            {
                "step": item["step"],
                "id": item["id"],
                "usd": _usd(item["amount_nano"]),
                "grant": item["grant_id"],
                "booked_ms": item["booked_at"] // 1_000_000,
            }
            for item in row["items"]
        ],
        "decided_by": row["decision"]["decided_by"] if row["decision"] else None,
    }
    if as_json:
        echo_json(body)
        return
    from proxy.cli_payments_tables import one

    print_table(one(body))


@payments.command("retry")
@click.argument("name", required=False)
@shared_options
def retry(
    *, name: str | None, config_file: str | None, data_dir: Path | None, as_json: bool
) -> None:
    """Look into a payment or a callback again, or into all that are not settled.

    The worker does, within seconds.
    """
    settings = load_config(config_file, data_dir, as_json).settings
    from metering.clock import now_ns
    from metering.settlement.ledger import payment_book as book

    count = _asked(settings, lambda ledger: book.retry(ledger, name, now_ns()), as_json=as_json)
    if name is not None and not count:
        fail(NOT_FOUND, f"no payment and no callback {name}", as_json)
    if as_json:
        echo_json({"retried": count})
        return
    click.echo(f"{count_of(count, 'thing')} to be looked into again")


@payments.command("dismiss")
@click.argument("callback")
@click.option("--by", help="Who decides; the user who is logged in if left out.")
@shared_options
def dismiss(
    *, callback: str, by: str | None, config_file: str | None, data_dir: Path | None, as_json: bool
) -> None:
    """Put a callback aside that Stripe does not know."""
    settings = load_config(config_file, data_dir, as_json).settings
    who = by or user_name(as_json)
    from metering.settlement.ledger import payment_book as book

    if not _asked(settings, lambda ledger: book.dismiss(ledger, callback, by=who), as_json=as_json):
        fail(NOT_FOUND, f"no callback {callback} is in review", as_json)
    if as_json:
        echo_json({"callback": callback, "dismissed_by": who})
        return
    click.echo(f"{callback} is put aside")


@payments.command("assign")
@click.argument("payment")
@click.option("--tenant", required=True, help="Whose credit it is.")
@click.option("--usd", help="How much credit, where it is not what was received in US dollars.")
@click.option("--by", help="Who decides; the user who is logged in if left out.")
@shared_options
def assign(
    *,
    payment: str,
    tenant: str,
    usd: str | None,
    by: str | None,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Say whose payment this is; the worker books it. Said once, it cannot be said otherwise."""
    settings = load_config(config_file, data_dir, as_json).settings
    if tenant not in settings.tenants:
        fail(NOT_FOUND, f"no tenant {tenant!r} in {settings.source}", as_json)
    credit_nano = None if usd is None else _nano(usd, as_json)
    who = by or user_name(as_json)
    from metering.clock import now_ns
    from metering.settlement.ledger import payment_book as book

    def ask(ledger: Ledger) -> str:
        try:
            book.assign(ledger, payment, tenant, credit_nano=credit_nano, by=who, now_ns=now_ns())
        except book.NoPaymentError as error:
            return str(error)
        return ""

    if refusal := _asked(settings, ask, as_json=as_json):
        fail(NOT_FOUND, refusal, as_json)
    if as_json:
        echo_json({"payment": payment, "tenant": tenant, "decided_by": who})
        return
    click.echo(f"{payment} is {tenant}'s: the worker books it")


def _nano(usd: str, as_json: bool) -> int:
    from metering.money import usd_to_nano

    try:
        amount = usd_to_nano(Decimal(usd))
    except (InvalidOperation, ValueError):
        fail(BAD_CONFIG, f"--usd {usd!r} is no amount in US dollars", as_json)
    if amount <= 0:
        fail(BAD_CONFIG, f"--usd {usd!r} must be above zero", as_json)
    return amount


def _payment(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": row["id"],
        "state": row["state"],
        "reason": row["reason"],
        "tenant": row["tenant"],
        "customer": row["customer"],
        "received": f"{row['received_minor'] / Decimal(100):.2f}",
        "currency": row["currency"],
        "credit_usd": _usd(row["credit_nano"]),
        "paid_ms": row["paid_s"] * 1_000,
    }


def _callback(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": row["event_id"],
        "type": row["type"],
        "state": row["state"],
        "reason": row["reason"],
        "attempts": row["attempts"],
        "created_ms": row["created_s"] * 1_000,
    }


def _usd(nano: int) -> str:
    from metering.money import format_short

    return format_short(nano)


def _asked(settings: Settings, ask: Callable[[Ledger], _Answer], *, as_json: bool) -> _Answer:
    """What the ledger answers, or the end of the process with the reason."""
    from metering.settlement.ledger.payment_book import knows_payments
    from proxy.cli_asked import asked

    return asked(settings, knows_payments, ask, as_json=as_json)
