"""What `weir doctor` asks the ledger of one tenant's month. Reads only; `doctor_tenant` judges."""

from __future__ import annotations

from collections import Counter

from sqlalchemy import Connection, func, select

from metering.events import Kind
from metering.settlement.doctor_facts import Asked, Billed, TenantUsage
from metering.settlement.invoices import period_bounds_ns
from metering.settlement.ledger import tables
from metering.settlement.ledger.plan_books import Terms, closed_statement, statement_of
from metering.settlement.ledger.queries import invoice_report
from metering.settlement.ledger.store import Ledger
from metering.settlement.statements import sha256_of, statement_bytes

NEAR = 6
"""Months before and after that are looked at for usage."""

_EVENT = tables.usage_event.c


def read_usage(ledger: Ledger, asked: Asked) -> TenantUsage:
    """What the tenant used in the month, and when else it used something."""
    assert asked.tenant is not None
    columns = (
        _EVENT.kind,
        _EVENT.billable,
        _EVENT.reason_code,
        _EVENT.model_upstream,
        _EVENT.api_key_id,
        _EVENT.unpriced,
    )
    within = (_EVENT.occurred_at >= asked.start_ns, _EVENT.occurred_at < asked.end_ns)
    query = select(*columns, func.count().label("n"), func.sum(_EVENT.sell_nano).label("sell"))
    free: Counter[str] = Counter()
    unpriced: Counter[str] = Counter()
    models: Counter[str] = Counter()
    keys: Counter[str] = Counter()
    events = billable = sell = 0
    with ledger.read() as connection:
        grouped = query.where(_EVENT.tenant == asked.tenant, *within).group_by(*columns)
        for row in connection.execute(grouped):
            sell += int(row.sell) if row.billable else 0
            if row.unpriced:
                unpriced[row.model_upstream] += -row.n if row.kind == Kind.CORRECTION else row.n
            if row.kind in (Kind.CORRECTION, Kind.ADJUSTMENT):
                continue
            events += row.n
            models[row.model_upstream] += row.n
            keys[row.api_key_id] += row.n
            if row.billable:
                billable += row.n
            else:
                free[row.reason_code] += row.n
        first, last = connection.execute(
            select(func.min(_EVENT.occurred_at), func.max(_EVENT.occurred_at)).where(
                _EVENT.tenant == asked.tenant
            )
        ).one()
        cost, sold = _versions(connection, asked.tenant)
        months = tuple(m for m in _around(asked.month) if _has(connection, asked.tenant, m))
    return TenantUsage(
        events=events,
        billable=billable,
        sell_nano=sell,
        free=dict(free),
        unpriced={model: count for model, count in unpriced.items() if count > 0},
        models=dict(models),
        keys=dict(keys),
        first_ns=first,
        last_ns=last,
        months=months,
        cost_version=cost,
        sell_version=sold,
    )


def _versions(connection: Connection, tenant: str) -> tuple[str | None, str | None]:
    """The price versions of the newest event that has any."""
    query = (
        select(_EVENT.cost_version, _EVENT.sell_version)
        .where(_EVENT.tenant == tenant, _EVENT.kind == Kind.USAGE, _EVENT.sell_version.is_not(None))
        .order_by(_EVENT.occurred_at.desc())
        .limit(1)
    )
    found = connection.execute(query).first()
    return (None, None) if found is None else (found.cost_version, found.sell_version)


def _around(month: str) -> list[str]:
    number = int(month[:4]) * 12 + int(month[5:]) - 1
    months = [number + n for n in range(-NEAR, NEAR + 1) if n and number + n >= 1970 * 12]
    return [f"{each // 12:04d}-{each % 12 + 1:02d}" for each in months]


def _has(connection: Connection, tenant: str, month: str) -> bool:
    start_ns, end_ns = period_bounds_ns(month)
    query = select(_EVENT.event_id).where(
        _EVENT.tenant == tenant, _EVENT.occurred_at >= start_ns, _EVENT.occurred_at < end_ns
    )
    return connection.execute(query.limit(1)).first() is not None


def read_billed(ledger: Ledger, asked: Asked, terms: Terms) -> Billed:
    """The month's invoice: its statement, closed or as it stands, or its events at list prices."""
    assert asked.tenant is not None
    closed = closed_statement(ledger, asked.tenant, asked.month)
    if closed is not None:
        return Billed(closed.body["total_nano"], closed.closed_at, closed.sha256, closed.body)
    fault = ""
    if terms.assignments:
        try:
            body = statement_of(ledger, asked.tenant, asked.month, terms).body()
            return Billed(body["total_nano"], None, sha256_of(statement_bytes(body)), body)
        except LookupError as error:
            fault = str(error)
    report = invoice_report(ledger, asked.tenant, asked.month)
    if report is None:
        return Billed(0, None, "", None, fault)
    return Billed(report.invoice["total_nano"], None, report.sha256, None, fault)
