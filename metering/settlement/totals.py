"""Rollups and invoices against the events they are made from: a part of I2.

One view of the ledger for all of it, so a worker that goes on booking changes nothing here. What
the rollups do not have yet, by their own watermarks, is a note; what they have must be right.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from sqlalchemy import Connection, func, select

from metering.settlement.invariants import Check
from metering.settlement.ledger import tables
from metering.settlement.ledger.queries import invoice_in
from metering.settlement.ledger.store import Ledger

_EVENT, _MARK = tables.usage_event.c, tables.rollup_watermark.c
_ROLLED = select(
    tables.rollup.c.tenant, func.sum(tables.rollup.c.sell_nano).label("sold")
).group_by(tables.rollup.c.tenant)
_SOLD = select(_EVENT.tenant, func.sum(_EVENT.sell_nano).label("sold")).group_by(_EVENT.tenant)
_SUMMED = _SOLD.join(
    tables.rollup_watermark, (_MARK.shard == _EVENT.shard) & (_EVENT.seq <= _MARK.seq)
)
_BEHIND = (
    select(func.count())
    .select_from(tables.usage_event)
    .outerjoin(tables.rollup_watermark, _MARK.shard == _EVENT.shard)
    .where(_EVENT.seq > func.coalesce(_MARK.seq, 0))
)
_MONTHS = select(
    _EVENT.tenant, func.min(_EVENT.occurred_at), func.max(_EVENT.occurred_at)
).group_by(_EVENT.tenant)


def check_totals(ledger: Ledger) -> Check:
    """What rollups and invoices come to, tenant by tenant."""
    check = Check("I2")
    with ledger.read() as connection:
        _check_rollups(connection, check)
        _check_invoices(connection, check)
    return check


def _check_rollups(connection: Connection, check: Check) -> None:
    rolled = {row.tenant: int(row.sold) for row in connection.execute(_ROLLED)}
    events = {row.tenant: int(row.sold) for row in connection.execute(_SUMMED)}
    for tenant in sorted(rolled.keys() | events.keys()):
        check.looked_at += 1
        if rolled.get(tenant, 0) != events.get(tenant, 0):
            check.find(
                f"tenant {tenant}: rollups sell {rolled.get(tenant, 0)} nano-USD, "
                f"the events {events.get(tenant, 0)}"
            )
    if behind := connection.execute(_BEHIND).scalar_one():
        check.note(f"{behind} events are settled and not in the rollups yet")


def _check_invoices(connection: Connection, check: Check) -> None:
    sold = {row.tenant: int(row.sold) for row in connection.execute(_SOLD)}
    for tenant, first, last in connection.execute(_MONTHS).all():
        lines = 0
        for month in _months(int(first), int(last)):
            report = invoice_in(connection, tenant, month, pending=0)
            if report is not None:
                lines += sum(int(line["amount_nano"]) for line in report.invoice["lines"])
        check.looked_at += 1
        if lines != sold[tenant]:
            check.find(
                f"tenant {tenant}: invoices come to {lines} nano-USD, the events to {sold[tenant]}"
            )


def _months(first_ns: int, last_ns: int) -> Iterator[str]:
    """The UTC months from one moment to another, as invoices name them."""
    first, last = (datetime.fromtimestamp(ns // 10**9, UTC) for ns in (first_ns, last_ns))
    for number in range(first.year * 12 + first.month - 1, last.year * 12 + last.month):
        yield f"{number // 12:04d}-{number % 12 + 1:02d}"
