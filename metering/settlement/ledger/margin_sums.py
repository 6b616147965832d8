"""What the ledger has for `weir margins`. Reads only."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import case, func, select

from metering.events import Kind
from metering.plans import Assignment, Plan
from metering.settlement.invoices import period_bounds_ns
from metering.settlement.ledger import tables
from metering.settlement.ledger.plan_books import Terms, closed_statement, statement_of
from metering.settlement.ledger.provider_books import Run, list_runs
from metering.settlement.ledger.store import Ledger
from metering.settlement.margins import Earned, chosen

RUNS_MAX = 200
"""Comparisons that are looked at, from the newest on."""

_EVENT = tables.usage_event.c
_COLUMNS: dict[str, Any] = {
    "model": _EVENT.model_upstream,
    "tenant": _EVENT.tenant,
    "feature": func.coalesce(_EVENT.feature, ""),
    "project": _EVENT.project,
}
_REQUESTS = case((_EVENT.kind == Kind.CORRECTION, -1), (_EVENT.kind == Kind.ADJUSTMENT, 0), else_=1)


def earned(ledger: Ledger, month: str, by: str) -> list[Earned]:
    """What was sold and what it cost by our books, in a UTC month. `requests` are attempts."""
    start_ns, end_ns = period_bounds_ns(month)
    column = _COLUMNS[by].label("name")
    query = (
        select(column, func.sum(_REQUESTS), func.sum(_EVENT.sell_nano), func.sum(_EVENT.cost_nano))
        .where(_EVENT.occurred_at >= start_ns, _EVENT.occurred_at < end_ns)
        .group_by(column)
    )
    with ledger.read() as connection:
        rows = connection.execute(query).all()
    return [Earned(row[0], int(row[1]), int(row[2]), int(row[3])) for row in rows]


def beside_list_prices(
    ledger: Ledger, month: str, tenant: str, plans: Sequence[Plan], assigned: Sequence[Assignment]
) -> int:
    """By how much a tenant's statement differs from its list prices, closed or as it stands."""
    closed = closed_statement(ledger, tenant, month)
    if closed is not None:
        return int(closed.body["total_nano"] - closed.body["list_nano"])
    if not assigned:
        return 0
    statement = statement_of(ledger, tenant, month, Terms(plans, assigned))
    return statement.total_nano - statement.list_nano


def with_statements(ledger: Ledger, month: str, assigned: Collection[str]) -> list[str]:
    """Tenants that have a plan, or had one when the month was closed."""
    table = tables.plan_statement.c
    with ledger.read() as connection:
        found = connection.execute(select(table.tenant).where(table.period == month)).scalars()
        return sorted({*found, *assigned})


def comparisons(ledger: Ledger, month: str) -> list[Run]:
    """The comparisons with providers that speak for the month, with what is proposed for it."""
    number = int(month[:4]) * 12 + int(month[5:])
    since, until = f"{month}-01", f"{number // 12:04d}-{number % 12 + 1:02d}-01"
    return chosen(list_runs(ledger, limit=RUNS_MAX), since, until)
