"""`weir plans`: which plans there are, what they charge, what a month comes to, and its close."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from proxy.cli_options import (
    FAILED,
    NOT_FOUND,
    echo_json,
    fail,
    load_config,
    print_table,
    shared_options,
)

if TYPE_CHECKING:
    from metering.plans import Plan
    from metering.settlement.ledger.plan_books import Closed
    from metering.settlement.ledger.store import Ledger
    from proxy.settings import Settings
    from proxy.settling_months import Ends

_Answer = TypeVar("_Answer")


@click.group()
def plans() -> None:
    """What tenants pay by the month."""


@plans.command("list")
@shared_options
def list_plans(*, config_file: str | None, data_dir: Path | None, as_json: bool) -> None:
    """Every version of every plan, of the file and of the ledger."""
    settings = load_config(config_file, data_dir, as_json).settings
    rows = [_row(plan, kept_in, settings) for plan, kept_in in _versions(settings, as_json)]
    if as_json:
        echo_json({"plans": rows})
        return
    from proxy.cli_plan_tables import plans as table

    print_table(table(rows))


@plans.command("show")
@click.argument("plan")
@click.option("--version", help="This version; the latest if left out.")
@shared_options
def show(
    plan: str, *, version: str | None, config_file: str | None, data_dir: Path | None, as_json: bool
) -> None:
    """The terms of a plan."""
    settings = load_config(config_file, data_dir, as_json).settings
    found = [
        each
        for each, _ in _versions(settings, as_json)
        if each.id == plan and version in (None, each.version)
    ]
    if not found:
        what = plan if version is None else f"{plan} {version}"
        fail(NOT_FOUND, f"no plan {what}, neither in {settings.source} nor in the ledger", as_json)
    chosen = max(found, key=lambda each: each.effective_from)
    if as_json:
        import json

        echo_json({"version": chosen.version, **json.loads(chosen.body())})
        return
    from proxy.cli_plan_tables import plan as table

    print_table(table(chosen))


@plans.command("preview")
@click.option("--tenant", required=True, help="Whose month.")
@click.option("--month", metavar="YYYY-MM", help="UTC month; the current one if left out.")
@click.option("--plan", help="As if the tenant had this plan for the whole month.")
@shared_options
def preview(
    *,
    tenant: str,
    month: str | None,
    plan: str | None,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """What a month comes to by the tenant's plan, as things are. Nothing is written."""
    settings = load_config(config_file, data_dir, as_json).settings
    period = _month(month)
    from metering.settlement.ledger.plan_books import Terms, statement_of

    assigned = settings.assignments.get(tenant, ())
    if plan is not None:
        assigned = (_whole_month(plan, period),)
    elif tenant not in settings.tenants:
        fail(NOT_FOUND, f"no tenant {tenant!r} in {settings.source}", as_json)
    elif not assigned:
        fail(NOT_FOUND, f"tenant {tenant!r} has no plan: try one with --plan", as_json)
    terms = Terms(settings.plans, assigned)
    made = _asked(
        settings, lambda ledger: statement_of(ledger, tenant, period, terms), as_json=as_json
    )
    body = {**made.body(), "closed_at": None}
    if as_json:
        echo_json(body)
        return
    from proxy.cli_plan_tables import statement as table

    print_table(table(body))


@plans.command("close")
@click.option("--month", required=True, metavar="YYYY-MM", help="UTC month, which must be over.")
@click.option("--tenant", help="Only this tenant; everybody with usage or a plan if left out.")
@click.option("--force", is_flag=True, help="Although something may be missing.")
@shared_options
def close(
    *,
    month: str,
    tenant: str | None,
    force: bool,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> NoReturn:
    """Close a month: store what it comes to and book it. A repeat changes nothing.

    Its invoices are issued by `weir invoices issue`, which closes what is not closed.

    Exit code 1 when some tenant's could not be closed; the others' are.
    """
    settings = load_config(config_file, data_dir, as_json).settings
    period = _month(month)
    from metering.clock import now_ns
    from proxy.settling_months import close_all, unsettled

    def ask(ledger: Ledger) -> Ends | str:
        if not force and (why := unsettled(settings, ledger, period, now_ns())) is not None:
            return why
        return close_all(ledger, settings, period, tenant=tenant, now_ns=now_ns())

    made = _asked(settings, ask, as_json=as_json)
    if isinstance(made, str):
        fail(FAILED, f"not closed: {made}; run the worker first, or --force", as_json)
    rows = [_closed_row(name, found) for name, found in made.closed.items()]
    failed = made.failed
    if as_json:
        echo_json({"month": period, "closed": rows, "failed": failed})
    else:
        for row in rows:
            state = "closed" if row["is_new"] else "was closed already"
            words = f"{row['total']} USD, {state} (sha256 {row['sha256'][:12]})"
            click.echo(f"{row['tenant']}: {words}")
        if not rows and not failed:
            click.echo("nobody has anything to pay for")
        for name, why in failed.items():
            click.echo(f"weir: {name}: {why}", err=True)
    sys.exit(FAILED if failed else 0)


def _whole_month(plan: str, period: str) -> Any:
    from datetime import date

    from metering.plans import Assignment

    return Assignment(plan, date.fromisoformat(f"{period}-01"))


def _month(text: str | None) -> str:
    from metering.clock import now_ns
    from proxy.cli_times import parse_month

    try:
        return parse_month(text, now_ns())
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--month") from None


def _versions(settings: Settings, as_json: bool) -> list[tuple[Plan, list[str]]]:
    """Every version with where it stands, in the order of plans and dates."""
    from metering.settlement.ledger.plan_books import kept_plans, knows_plans
    from proxy import cli_reports

    def ask(ledger: Ledger) -> dict[str, Plan]:
        if not knows_plans(ledger):
            return {}
        with ledger.read() as connection:
            return kept_plans(connection)

    try:
        kept = cli_reports.read_ledger(settings, ask) or {}
    except cli_reports.NotFoundError:  # a file can be looked at before anything is served
        kept = {}
    except cli_reports.LedgerError as error:
        fail(FAILED, str(error), as_json)
    from proxy.admin.rows import plan_versions

    return plan_versions(settings.plans, kept)


def _asked(settings: Settings, ask: Callable[[Ledger], _Answer], *, as_json: bool) -> _Answer:
    """What the ledger answers, or the end of the process with the reason."""
    from metering.settlement.ledger.plan_books import knows_plans
    from proxy.cli_asked import asked

    return asked(settings, knows_plans, ask, as_json=as_json)


def _row(plan: Plan, kept_in: list[str], settings: Settings) -> dict[str, Any]:
    from proxy.admin.rows import plan_row

    return plan_row(plan, kept_in, settings)


def _closed_row(tenant: str, found: Closed) -> dict[str, Any]:
    from proxy.admin.rows import closed_row

    return closed_row(tenant, found)
