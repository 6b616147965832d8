"""Grants at the close of a month: what its statement draws from them, or gives back to them.

Events draw at their list price when they are settled. What a plan makes of the month is known when
it is closed, and is booked against the grants in the transaction that stores the statement: so a
grant has paid what the tenant was billed, never more. What came late settles its month again.
Nothing is drawn here before everything that was booked until then was drawn for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from metering.settlement.credits import (
    Entry,
    Grant,
    Paid,
    Standing,
    entries_transaction,
    month_root,
    settle,
)
from metering.settlement.invoices import period_bounds_ns
from metering.settlement.ledger import tables
from metering.settlement.ledger.credit_books import (
    lock_credits,
    tenant_grants,
    write_entries,
)
from metering.settlement.ledger.credit_tables import credit_grant, credit_watermark, grant_entry
from metering.settlement.ledger.posted import post

_EVENT, _ENTRY = tables.usage_event.c, grant_entry.c


@dataclass(frozen=True, slots=True)
class Settling:
    """What a close does to grants, by what causes it; `before` are they as they stood."""

    before: tuple[Standing, ...]
    moves: tuple[tuple[str, tuple[tuple[Grant, Entry], ...]], ...]


def undrawn_shards(connection: Connection, tenant: str) -> list[int]:
    """Where events of the tenant may be that were not drawn for; none when there is no grant.

    A tenant's own first grant may come after the close: it must not find events of the month that
    nobody has passed, for a month without late events is not settled again.
    """
    granted = select(credit_grant.c.id).limit(1)
    if connection.execute(granted).first() is None:
        return []
    mark, done = tables.watermark.c, credit_watermark.c
    mine = select(_EVENT.shard).where(_EVENT.tenant == tenant).distinct()
    query = (
        select(mark.shard)
        .join_from(tables.watermark, credit_watermark, done.shard == mark.shard, isouter=True)
        .where(mark.shard.in_(mine), mark.events > func.coalesce(done.seq, 0))
        .order_by(mark.shard)
    )
    return list(connection.execute(query).scalars())


def settling_of(
    connection: Connection, body: Mapping[str, Any], said: Mapping[str, int]
) -> Settling:
    """What the close of this statement's body does to its tenant's grants; nothing is written.

    `said` is what earlier statements said that each late month comes to.
    """
    tenant, period = body["tenant"], body["period"]
    before = tuple(tenant_grants(connection, [tenant]))
    if not before:
        return Settling((), ())
    standings, moves = list(before), []
    for month in (*sorted(body["late"]), period):
        found = body if month == period else body["late"][month]
        cause = month_root(tenant, period) + ("" if month == period else f":late:{month}")
        more = sum(found["entries"].values())
        entries = settle(
            paid_for_month(connection, tenant, month),
            standings,
            cause=cause,
            at_ns=period_bounds_ns(month)[1] - 1,
            more_nano=more,
            total_nano=said.get(month, 0) + found["list_nano"] + more,
        )
        if not entries:
            continue
        by_id = {entry.grant_id: entry for entry in entries}
        moves.append((cause, tuple(_of(standings, entries))))
        standings = [
            each.after(by_id[each.grant.id]) if each.grant.id in by_id else each
            for each in standings
        ]
    return Settling(before, tuple(moves))


def book_settling(
    connection: Connection, body: Mapping[str, Any], said: Mapping[str, int], now_ns: int
) -> None:
    """Book that, in the transaction of the close."""
    lock_credits(connection)
    found = settling_of(connection, body, said)
    made = [
        entries_transaction(body["tenant"], moved, idem_key=f"settle:{cause}")
        for cause, moved in found.moves
    ]
    booked = post(connection, made, now_ns)
    ids = {transaction.idem_key: txn_id for transaction, txn_id in booked.items()}
    entries = [
        (entry, ids[f"settle:{cause}"]) for cause, moved in found.moves for _, entry in moved
    ]
    write_entries(connection, found.before, entries)


def _of(standings: Sequence[Standing], entries: Sequence[Entry]) -> list[tuple[Grant, Entry]]:
    grants = {each.grant.id: each.grant for each in standings}
    return [(grants[entry.grant_id], entry) for entry in entries]


def paid_for_month(connection: Connection, tenant: str, month: str) -> Paid:
    """What each grant gave for a month: for its events, and when it was closed."""
    start_ns, end_ns = period_bounds_ns(month)
    given = func.sum(_ENTRY.owed_nano - _ENTRY.amount_nano)
    of_events = (
        select(_ENTRY.grant_id, given)
        .join(tables.usage_event, _EVENT.event_id == _ENTRY.event_id)
        .where(_EVENT.tenant == tenant, _EVENT.occurred_at >= start_ns, _EVENT.occurred_at < end_ns)
        .group_by(_ENTRY.grant_id)
    )
    root = month_root(tenant, month)
    of_month = select(_ENTRY.grant_id, given).where(_ENTRY.root == root).group_by(_ENTRY.grant_id)
    sums: dict[str, int] = {}
    for query in (of_events, of_month):
        for grant_id, amount in connection.execute(query):
            sums[grant_id] = sums.get(grant_id, 0) + int(amount)
    return Paid(root, 0, tuple(sorted(sums.items())))
