"""Questions to the ledger: what was used, and what an invoice is made of.

Reads only. Each report is one consistent view; `pending` is passed in by whoever asked the
streams, so that a number is never shown without saying what it may still lack.

`settled_through` is when the newest attempt in the ledger was over. It is all there is up to now
when nothing is pending; while something is, older attempts may be among that.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, Row, Select, case, func, select

from metering.events import Kind
from metering.settlement.invoices import (
    Charge,
    InvoiceReport,
    events_digest,
    invoice_bytes,
    line_kind,
    make_invoice,
    period_bounds_ns,
)
from metering.settlement.ledger.rows import decode_amounts
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.tables import quantity_column, usage_event, watermark
from metering.settlement.rating import SLA_CREDIT
from metering.usage import TOKEN_CLASSES

_EVENT = usage_event.c
_FETCH = 1_000
"""Rows read at a time: a month may have millions."""

_UNPRICED = (
    (_EVENT.unpriced.is_(False), 0),
    (_EVENT.kind == Kind.CORRECTION, -1),
    (_EVENT.unpriced.is_(True), 1),
)
"""How many unpriced events a row stands for: a correction takes one back."""

_EXCHANGE_NS_MAX = 24 * 3_600_000_000_000
"""No exchange lasts longer."""


def usage_report(
    ledger: Ledger,
    tenant: str | None = None,
    since_ns: int | None = None,
    *,
    pending: int | None = None,
) -> dict[str, Any] | None:
    """Usage by tenant and upstream model; None when the ledger does not know the tenant.

    `{rows: [{tenant, model, requests, units: {unit: n}, cost_nano, admission_nano}], totals,
    settled_through, pending}`. Requests are exchanges, however many attempts each took; an
    exchange counts in the row of its last attempt, so `totals` is the sum of the rows. A row with
    nothing to show (every attempt failed, and something else answered) is left out.
    `totals.unpriced` counts the events that hold a unit without a rate.
    """
    chosen: list[ColumnElement[bool]] = []
    if tenant is not None:
        chosen.append(_EVENT.tenant == tenant)
    if since_ns is not None:
        chosen.append(_EVENT.occurred_at >= since_ns)
    with ledger.read() as connection:
        if tenant is not None and not _knows(connection, tenant):
            return None
        other = _other_units(connection, chosen)
        requests = _requests(connection, chosen)
        found = sorted(  # here, since each database sorts text by rules of its own
            connection.execute(_usage_query(chosen)).all(),
            key=lambda row: (row.tenant, row.model_upstream),
        )
        rows = [_usage_row(row, other, requests) for row in found]
        rows = [row for row in rows if _shows_something(row)]
        return {
            "rows": rows,
            "totals": _totals(rows, unpriced=sum(row.unpriced for row in found)),
            "settled_through": _settled_through(connection, tenant),
            "pending": pending,
        }


def invoice_report(
    ledger: Ledger, tenant: str, period: str, *, pending: int | None = None
) -> InvoiceReport | None:
    """A tenant's invoice for a UTC month (`YYYY-MM`); None when the ledger does not know it.

    Only billable events whose occurred_at lies in the month. ValueError for a malformed period.
    """
    with ledger.read() as connection:
        return invoice_in(connection, tenant, period, pending=pending)


def invoice_in(
    connection: Connection, tenant: str, period: str, *, pending: int | None = None
) -> InvoiceReport | None:
    """`invoice_report` in a view of the ledger that is open already."""
    start_ns, end_ns = period_bounds_ns(period)
    query: Select[Any] = (
        select(
            _EVENT.kind,
            _EVENT.project,
            _EVENT.model_upstream,
            _EVENT.sell_version,
            _EVENT.amounts,
            _EVENT.payload_hash,
            _EVENT.unpriced,
        )
        .where(_EVENT.tenant == tenant, _EVENT.billable.is_(True))
        .where(_EVENT.occurred_at >= start_ns, _EVENT.occurred_at < end_ns)
        .execution_options(yield_per=_FETCH)
    )
    charges: list[Charge] = []
    hashes: list[str] = []
    unpriced = 0
    if not _knows(connection, tenant):
        return None
    for row in connection.execute(query):
        charges += _charges(row)
        hashes.append(row.payload_hash)
        unpriced += -row.unpriced if row.kind == Kind.CORRECTION else row.unpriced
    settled_through = _settled_through(connection, tenant)
    invoice = make_invoice(tenant, period, charges)
    body = invoice_bytes(invoice)
    return InvoiceReport(
        invoice=invoice,
        body=body,
        sha256=hashlib.sha256(body).hexdigest(),
        event_count=len(hashes),
        event_digest=events_digest(hashes),
        unpriced=unpriced,
        settled_through=settled_through,
        pending=pending,
    )


def _charges(row: Row[Any]) -> list[Charge]:
    return [
        Charge(
            kind="credit" if unit == SLA_CREDIT else line_kind(row.kind),
            project=row.project,
            model=row.model_upstream,
            unit=unit,
            quantity=quantity,
            rate_pico=rate_pico,
            amount_nano=sell_nano,
            price_version=row.sell_version,
        )
        for unit, (quantity, rate_pico, sell_nano, _) in decode_amounts(row.amounts).items()
        if rate_pico is not None
    ]


def _knows(connection: Connection, tenant: str) -> bool:
    query = select(_EVENT.event_id).where(_EVENT.tenant == tenant).limit(1)
    return connection.execute(query).first() is not None


def _usage_query(chosen: list[ColumnElement[bool]]) -> Select[Any]:
    quantities = [
        func.sum(_EVENT[quantity_column(unit)]).label(quantity_column(unit))
        for unit in TOKEN_CLASSES
    ]
    return (
        select(
            _EVENT.tenant,
            _EVENT.model_upstream,
            func.sum(_EVENT.cost_nano).label("cost_nano"),
            func.sum(_EVENT.admission_nano).label("admission_nano"),
            func.sum(case(*_UNPRICED, else_=0)).label("unpriced"),
            *quantities,
        )
        .where(*chosen)
        .group_by(_EVENT.tenant, _EVENT.model_upstream)
    )


def _requests(
    connection: Connection, chosen: list[ColumnElement[bool]]
) -> dict[tuple[str, str], int]:
    """By tenant and model, the exchanges whose last attempt went there."""
    place = func.row_number().over(
        partition_by=(_EVENT.tenant, _EVENT.exchange_id),
        order_by=(_EVENT.attempt.desc(), _EVENT.event_id.desc()),
    )
    attempts = (
        select(_EVENT.tenant, _EVENT.model_upstream, place.label("place"))
        .where(_EVENT.kind == Kind.USAGE, *chosen)  # a correction is no request
        .subquery()
        .c
    )
    query = (
        select(attempts.tenant, attempts.model_upstream, func.count())
        .where(attempts.place == 1)
        .group_by(attempts.tenant, attempts.model_upstream)
    )
    return {(tenant, model): count for tenant, model, count in connection.execute(query)}


def _usage_row(
    row: Row[Any],
    other: dict[tuple[str, str], dict[str, int]],
    requests: dict[tuple[str, str], int],
) -> dict[str, Any]:
    sums = {unit: getattr(row, quantity_column(unit)) for unit in TOKEN_CLASSES}
    units = {unit: int(n) for unit, n in sums.items() if n is not None}
    units.update(other.get((row.tenant, row.model_upstream), {}))
    return {
        "tenant": row.tenant,
        "model": row.model_upstream,
        "requests": requests.get((row.tenant, row.model_upstream), 0),
        "units": units,
        "cost_nano": int(row.cost_nano),
        "admission_nano": int(row.admission_nano),
    }


def _shows_something(row: dict[str, Any]) -> bool:
    amounts = (row["requests"], row["cost_nano"], row["admission_nano"])
    return any(amounts) or any(row["units"].values())


def _other_units(
    connection: Connection, chosen: list[ColumnElement[bool]]
) -> dict[tuple[str, str], dict[str, int]]:
    """Units that are no tokens, by tenant and model; rare, so they are summed here."""
    query = (
        select(_EVENT.tenant, _EVENT.model_upstream, _EVENT.q_other)
        .where(_EVENT.q_other.is_not(None), *chosen)
        .execution_options(yield_per=_FETCH)
    )
    sums: dict[tuple[str, str], dict[str, int]] = {}
    for row in connection.execute(query):
        _add(sums.setdefault((row.tenant, row.model_upstream), {}), orjson.loads(row.q_other))
    return sums


def _totals(rows: list[dict[str, Any]], *, unpriced: int) -> dict[str, Any]:
    units: dict[str, int] = {}
    for row in rows:
        _add(units, row["units"])
    return {
        "requests": sum(row["requests"] for row in rows),
        "units": units,
        "cost_nano": sum(row["cost_nano"] for row in rows),
        "admission_nano": sum(row["admission_nano"] for row in rows),
        "unpriced": int(unpriced),
    }


def _add(sums: dict[str, int], more: dict[str, int]) -> None:
    for unit, quantity in more.items():
        sums[unit] = sums.get(unit, 0) + quantity


def _settled_through(connection: Connection, tenant: str | None) -> str | None:
    """When the newest attempt in the ledger was over: of a tenant, or of all."""
    if tenant is None:
        chosen = []
        began = select(func.max(watermark.c.occurred_at)).where(watermark.c.events > 0)
    else:
        chosen = [_EVENT.tenant == tenant]
        began = select(func.max(_EVENT.occurred_at)).where(*chosen)
    began_ns = connection.execute(began).scalar()
    if began_ns is None:
        return None
    # Only the beginnings have an index.
    chosen.append(_EVENT.occurred_at >= began_ns - _EXCHANGE_NS_MAX)
    ended_ns = connection.execute(select(func.max(_EVENT.completed_at)).where(*chosen)).scalar()
    return None if ended_ns is None else _rfc3339(int(ended_ns))


def _rfc3339(time_ns: int) -> str:
    """UTC to the microsecond, in integers: a float would round the nanoseconds."""
    whole = datetime.fromtimestamp(time_ns // 1_000_000_000, UTC)
    stamp = whole + timedelta(microseconds=time_ns % 1_000_000_000 // 1_000)
    return stamp.isoformat(timespec="microseconds").replace("+00:00", "Z")
