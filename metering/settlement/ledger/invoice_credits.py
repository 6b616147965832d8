"""What grants have paid of a tenant's usage, as invoices show it. Reads only.

The tables are named here by what is read of them alone: a ledger from before there were grants has
none, and nothing was paid by them.
"""

from __future__ import annotations

from sqlalchemy import Connection, column, func, inspect, select, table

from metering.settlement.documents import Applied
from metering.settlement.ledger.tables import usage_event

_GRANT = table("credit_grant", *map(column, ("id", "tenant", "kind", "note")))
_ENTRY = table("grant_entry", *map(column, ("grant_id", "event_id", "amount_nano")))


def credits_of(connection: Connection, tenant: str, *, before_ns: int) -> list[Applied]:
    """By grant, what was drawn for usage that began before then, less what was given back."""
    if not inspect(connection).has_table(_ENTRY.name):
        return []
    query = (
        select(_GRANT.c.id, _GRANT.c.kind, _GRANT.c.note, func.sum(_ENTRY.c.amount_nano))
        .join_from(_ENTRY, _GRANT, _GRANT.c.id == _ENTRY.c.grant_id)
        .join(usage_event, usage_event.c.event_id == _ENTRY.c.event_id)
        .where(_GRANT.c.tenant == tenant, usage_event.c.occurred_at < before_ns)
        .group_by(_GRANT.c.id, _GRANT.c.kind, _GRANT.c.note)
        .order_by(_GRANT.c.id)
    )
    return [
        Applied(grant, kind, -int(amount), note or "")
        for grant, kind, note, amount in connection.execute(query)
    ]
