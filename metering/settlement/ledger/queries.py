"""Questions to the ledger: what an invoice is made of, and how far the books go.

Reads only. Each report is one consistent view; `pending` is passed in by whoever asked the
streams, so that a number is never shown without saying what it may still lack.

`settled_through` is when the newest attempt in the ledger was over. It is all there is up to now
when nothing is pending; while something is, older attempts may be among that.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select

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
from metering.settlement.ledger.tables import usage_event, watermark
from metering.settlement.rating import SLA_CREDIT

_EVENT = usage_event.c
_FETCH = 1_000
"""Rows read at a time: a month may have millions."""

_EXCHANGE_NS_MAX = 24 * 3_600_000_000_000
"""No exchange lasts longer."""


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
    if not knows(connection, tenant):
        return None
    for row in connection.execute(query):
        charges += _charges(row)
        hashes.append(row.payload_hash)
        takes_back = row.kind in (Kind.CORRECTION, Kind.ADJUSTMENT)
        unpriced += -row.unpriced if takes_back else row.unpriced
    through = settled_through(connection, tenant)
    invoice = make_invoice(tenant, period, charges)
    body = invoice_bytes(invoice)
    return InvoiceReport(
        invoice=invoice,
        body=body,
        sha256=hashlib.sha256(body).hexdigest(),
        event_count=len(hashes),
        event_digest=events_digest(hashes),
        unpriced=unpriced,
        settled_through=through,
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
            variant=words[0] if words else None,
        )
        for unit, (quantity, rate_pico, sell_nano, _, *words) in decode_amounts(row.amounts).items()
        if rate_pico is not None
    ]


def knows(connection: Connection, tenant: str) -> bool:
    """Whether the ledger has an event of this tenant."""
    query = select(_EVENT.event_id).where(_EVENT.tenant == tenant).limit(1)
    return connection.execute(query).first() is not None


def settled_through(connection: Connection, tenant: str | None) -> str | None:
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
    return None if ended_ns is None else rfc3339(int(ended_ns))


def rfc3339(time_ns: int) -> str:
    """UTC to the microsecond, in integers: a float would round the nanoseconds."""
    whole = datetime.fromtimestamp(time_ns // 1_000_000_000, UTC)
    stamp = whole + timedelta(microseconds=time_ns % 1_000_000_000 // 1_000)
    return stamp.isoformat(timespec="microseconds").replace("+00:00", "Z")
