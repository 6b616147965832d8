"""What grants have paid of a tenant's usage and statements, as invoices show it. Reads only.

Paid is what was drawn, less what was given back and what the tenant owes again because the money
of the grant went back. A ledger from before there were grants has no tables of them, and nothing
was paid by any.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import Connection, func, inspect, select

from metering.settlement.credits import MONTH_ROOT, EntryKind
from metering.settlement.documents import Applied
from metering.settlement.invoices import period_bounds_ns
from metering.settlement.ledger.credit_closing import Settling
from metering.settlement.ledger.credit_tables import credit_grant, grant_entry
from metering.settlement.ledger.tables import txn, usage_event

_GRANT, _ENTRY = credit_grant.c, grant_entry.c


def credits_of(
    connection: Connection, tenant: str, period: str, *, ahead: Settling | None = None
) -> list[Applied]:
    """By grant, what it has paid through that month: for what began before its end, and at closes
    up to its own. `ahead` is what its close would do, while it is open."""
    if not inspect(connection).has_table(grant_entry.name):
        return []
    sums: dict[str, int] = {}
    for grant_id, amount in _paid(connection, tenant, period):
        sums[grant_id] = sums.get(grant_id, 0) + amount
    for _, moved in ahead.moves if ahead is not None else ():
        for grant, entry in moved:
            sums[grant.id] = sums.get(grant.id, 0) - entry.amount_nano
    query = select(_GRANT.id, _GRANT.kind, _GRANT.note).where(_GRANT.tenant == tenant)
    return [
        Applied(row.id, row.kind, sums[row.id], row.note)
        for row in connection.execute(query.order_by(_GRANT.id))
        if row.id in sums
    ]


def _paid(connection: Connection, tenant: str, period: str) -> Iterator[tuple[str, int]]:
    _, end_ns = period_bounds_ns(period)
    mine = select(_GRANT.id).where(_GRANT.tenant == tenant)
    sums = select(_ENTRY.grant_id, func.sum(-_ENTRY.amount_nano)).group_by(_ENTRY.grant_id)
    of_events = (
        sums.join(usage_event, usage_event.c.event_id == _ENTRY.event_id)
        .where(_ENTRY.grant_id.in_(mine))
        .where(usage_event.c.occurred_at < end_ns)
    )
    owed = (
        select(_ENTRY.grant_id, func.sum(-_ENTRY.owed_nano))
        .join(txn, txn.c.id == _ENTRY.txn_id)
        .where(_ENTRY.kind.in_([EntryKind.TAKE, EntryKind.AGAIN]), _ENTRY.grant_id.in_(mine))
        .where(txn.c.booked_at < end_ns)
        .group_by(_ENTRY.grant_id)
    )
    for query in (of_events, owed):
        yield from _numbers(connection.execute(query))
    of_closes = select(_ENTRY.grant_id, _ENTRY.event_id, -_ENTRY.amount_nano).where(
        _ENTRY.grant_id.in_(mine), _ENTRY.root.startswith(MONTH_ROOT, autoescape=True)
    )
    for grant_id, cause, amount in connection.execute(of_closes):
        if cause.split(":")[2] <= period:
            yield grant_id, int(amount)


def _numbers(rows: Iterable[Any]) -> Iterator[tuple[str, int]]:
    for grant_id, amount in rows:
        yield grant_id, int(amount)
