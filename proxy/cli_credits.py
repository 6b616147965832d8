"""`weir credits`: what tenants were granted, granting by hand, and what is left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from metering.ids import ID_PATTERN
from proxy.cli_options import NOT_FOUND, echo_json, fail, load_config, print_table, shared_options

if TYPE_CHECKING:
    from metering.settlement.credits import Grant, Standing
    from metering.settlement.ledger.credit_books import Balance
    from metering.settlement.ledger.store import Ledger
    from proxy.settings import Settings

_Answer = TypeVar("_Answer")

_PRIORITY = 100


@click.group("credits")
def credit() -> None:
    """Credit of tenants: grants, and what is left of them."""


@credit.command("list")
@click.option("--tenant", help="Of this tenant alone.")
@shared_options
def list_(
    *, tenant: str | None, config_file: str | None, data_dir: Path | None, as_json: bool
) -> None:
    """Every grant, in the order in which it is drawn from."""
    settings = load_config(config_file, data_dir, as_json).settings
    found = _balances(settings, tenant, as_json=as_json)
    rows = [_grant_row(each) for balance in found for each in balance.grants]
    if as_json:
        echo_json({"grants": rows})
        return
    from proxy.cli_credit_tables import grants_table

    print_table(grants_table(rows))


@credit.command("balance")
@click.option("--tenant", help="Of this tenant alone.")
@shared_options
def balance_(
    *, tenant: str | None, config_file: str | None, data_dir: Path | None, as_json: bool
) -> None:
    """What is left for each tenant, and what became of the rest."""
    settings = load_config(config_file, data_dir, as_json).settings
    rows = [_balance_row(each) for each in _balances(settings, tenant, as_json=as_json)]
    if as_json:
        echo_json({"balances": rows})
        return
    from proxy.cli_credit_tables import balances_table

    print_table(balances_table(rows))


@credit.command("show")
@click.argument("grant_id")
@shared_options
def show(*, grant_id: str, config_file: str | None, data_dir: Path | None, as_json: bool) -> None:
    """One grant, and everything that became of it."""
    settings = load_config(config_file, data_dir, as_json).settings
    from metering.settlement.ledger import credit_books as books

    def ask(ledger: Ledger) -> dict[str, Any]:
        standing = books.grant_of(ledger, grant_id)
        if standing is None:
            raise LookupError(f"the ledger has no grant {grant_id}")
        entries = books.entries_of_grant(ledger, grant_id)
        return {**_grant_row(standing), "entries": [_entry_row(each) for each in entries]}

    body = _asked(settings, ask, as_json=as_json)
    if as_json:
        echo_json(body)
        return
    from proxy.cli_credit_tables import grant_page

    print_table(grant_page(body))


@credit.command("grant")
@click.option("--tenant", required=True, help="Who may use it.")
@click.option("--usd", required=True, help="How much, in USD.")
@click.option("--id", "grant_id", help="Its name: a repeat under the same changes nothing.")
@click.option("--kind", type=click.Choice(["paid", "promo"]), default="promo", show_default=True)
@click.option("--priority", type=int, default=_PRIORITY, show_default=True, help="Least first.")
@click.option("--from", "since", help="From when on: RFC 3339; now if left out.")
@click.option("--expires", help="RFC 3339, or how long it lasts (`90d`); never if left out.")
@click.option("--reference", help="What it is for; of a paid one, the payment.")
@shared_options
def grant(
    *,
    tenant: str,
    usd: str,
    grant_id: str | None,
    kind: Literal["paid", "promo"],
    priority: int,
    since: str | None,
    expires: str | None,
    reference: str | None,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Give a tenant credit by hand: given, or paid for in some other way than through Stripe."""
    settings = load_config(config_file, data_dir, as_json).settings
    if tenant not in settings.tenants:
        fail(NOT_FOUND, f"no tenant {tenant!r} in {settings.source}", as_json)
    if kind == "paid" and not reference:
        raise click.UsageError("a paid grant needs --reference: the payment that it stands for")
    if grant_id is not None and not ID_PATTERN.fullmatch(grant_id):
        raise click.BadParameter(
            "1 to 64 of A-Z a-z 0-9 . _ -; those of payments have a `:`, and one that was taken "
            "would keep its payment from being booked",
            param_hint="--id",
        )
    amount_nano = _amount(usd)
    from metering.clock import now_ns
    from metering.settlement.credits import Grant
    from metering.settlement.ledger import credit_books as books

    at_ns = now_ns()
    name = grant_id or _new_id()

    def ask(ledger: Ledger) -> tuple[Grant, bool]:
        known = books.grant_of(ledger, name)
        begins = _begins(since, at_ns, known)
        wanted = Grant(
            id=name,
            tenant=tenant,
            kind=kind,
            priority=priority,
            amount_nano=amount_nano,
            effective_at=begins,
            expires_at=_ends(expires, begins),
            source="manual",
            note=reference or "",
        )
        try:
            return wanted, books.add_grant(ledger, wanted, at_ns)
        except (books.GrantConflictError, ValueError) as error:
            raise LookupError(str(error)) from error

    made, is_new = _asked(settings, ask, as_json=as_json)
    if as_json:
        echo_json({"id": made.id, "tenant": tenant, "usd": _usd(amount_nano), "is_new": is_new})
        return
    what = "granted" if is_new else "was granted before"
    click.echo(f"{made.id}: {_usd(amount_nano)} USD {what} to {tenant}")


@credit.command("void")
@click.argument("grant_id")
@shared_options
def void(*, grant_id: str, config_file: str | None, data_dir: Path | None, as_json: bool) -> None:
    """Take away what is left of a grant; what was spent of it stays spent."""
    settings = load_config(config_file, data_dir, as_json).settings
    from metering.clock import now_ns
    from metering.settlement.ledger import credit_books as books

    taken = _asked(
        settings, lambda ledger: books.void_rest(ledger, grant_id, now_ns=now_ns()), as_json=as_json
    )
    if as_json:
        echo_json({"id": grant_id, "taken_usd": _usd(taken.left_nano)})
    elif taken.is_new:
        click.echo(f"{grant_id}: {_usd(taken.left_nano)} USD taken away")
    else:
        click.echo(f"{grant_id}: nothing was left")


def _balances(settings: Settings, tenant: str | None, *, as_json: bool) -> list[Balance]:
    from metering.clock import now_ns
    from metering.settlement.ledger import credit_books as books

    def ask(ledger: Ledger) -> list[Balance]:
        if tenant is not None:
            return [books.balance_of(ledger, tenant, now_ns())]
        return books.balances(ledger, now_ns())

    return _asked(settings, ask, as_json=as_json)


def _amount(usd: str) -> int:
    from metering.money import AMOUNT_NANO_MAX, parse_decimal, usd_to_nano

    try:
        nano = usd_to_nano(parse_decimal(usd))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--usd") from None
    if not 0 < nano <= AMOUNT_NANO_MAX:
        raise click.BadParameter(f"{usd} USD is no amount to grant", param_hint="--usd")
    return nano


def _begins(since: str | None, at_ns: int, known: Standing | None) -> int:
    """A repeat that does not say from when on means what it said the first time: now."""
    if since is not None:
        return _time(since, "--from")
    return at_ns if known is None else known.grant.effective_at


def _ends(expires: str | None, begins_ns: int) -> int | None:
    if expires is None:
        return None
    from proxy.cli_times import parse_since_ns

    if expires[-1:].isalpha() and expires[:1].isdigit() and expires[:-1].isdigit():
        try:
            lasts_ns = 2**62 - parse_since_ns(expires, 2**62)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--expires") from None
        return begins_ns + lasts_ns
    return _time(expires, "--expires")


def _time(text: str, option: str) -> int:
    from proxy.cli_times import parse_since_ns

    try:
        return parse_since_ns(text, 0) if not text[-1:].isalpha() or text[-1:] == "Z" else _no(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from None


def _no(text: str) -> int:
    raise ValueError(f"{text!r} is no RFC 3339 time")


def _usd(nano: int) -> str:
    from metering.money import format_usd

    return format_usd(nano)


def _asked(settings: Settings, ask: Callable[[Ledger], _Answer], *, as_json: bool) -> _Answer:
    """What the ledger answers, or the end of the process with the reason."""
    from metering.settlement.ledger.credit_books import knows_credits
    from proxy.cli_asked import asked

    return asked(settings, knows_credits, ask, as_json=as_json)


def _grant_row(standing: Standing) -> dict[str, Any]:
    from metering.clock import now_ns
    from proxy.admin.rows import grant_row

    return grant_row(standing, now_ns())


def _balance_row(found: Balance) -> dict[str, Any]:
    from proxy.admin.rows import balance_row

    return balance_row(found)


def _entry_row(row: dict[str, Any]) -> dict[str, Any]:
    from proxy.admin.rows import entry_row

    return entry_row(row)


def _new_id() -> str:
    from proxy.admin.rows import new_grant_id

    return new_grant_id()
