"""Grants against the books: a part of `weir ledger verify`.

Recomputes from grants, entries and events alone: what stands of each grant, what each transaction
of kind `credit` posts, that an event drew no more than it sells for, that what a close moved is of
a closed month and its own tenant's, and what Redis has counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, func, inspect, select

from metering.caps import BALANCE, ScopeKind
from metering.settlement.counting import Series
from metering.settlement.credits import (
    MONTH_ROOT,
    Entry,
    EntryKind,
    Grant,
    Standing,
    entries_transaction,
    grant_transaction,
    month_root,
)
from metering.settlement.journal import Transaction
from metering.settlement.ledger import tables
from metering.settlement.ledger.credit_tables import (
    credit_grant,
    credit_tenant,
    grant_entry,
    grant_standing,
)
from metering.settlement.ledger.spending import spent_by_bucket

_FETCH = 1_000
_TXN, _POSTING = tables.txn.c, tables.posting.c
_NUMBERS = ("entries", "left_nano", "drawn_nano", "expired_nano", "taken_nano", "owed_nano")
_FIELDS = ("id", "tenant", "kind", "priority", "amount_nano", "effective_at", "expires_at")


def verify_credits(connection: Connection) -> Iterator[str]:
    """What does not hold, in words. A ledger from before there was credit has nothing to say."""
    if not inspect(connection).has_table(credit_grant.name):
        return
    grants = {row.id: (_grant(row), row.txn_id) for row in connection.execute(select(credit_grant))}
    yield from _verify_standings(connection, grants)
    yield from _verify_transactions(connection, grants)
    yield from _verify_draws(connection)
    yield from _verify_closes(connection)
    yield from _verify_counts(connection)


def _verify_standings(
    connection: Connection, grants: dict[str, tuple[Grant, int]]
) -> Iterator[str]:
    made = {name: Standing(grant, grant.amount_nano) for name, (grant, _) in grants.items()}
    query = select(grant_entry).order_by(grant_entry.c.grant_id, grant_entry.c.number)
    for row in connection.execute(query.execution_options(yield_per=_FETCH)):
        if row.grant_id not in made:
            yield f"grant {row.grant_id}: an entry of no grant"
            continue
        standing = made[row.grant_id] = made[row.grant_id].after(_entry(row))
        if row.number != standing.entries:
            yield f"grant {row.grant_id}: entry {standing.entries} is missing"
        if not standing.is_whole:
            yield f"grant {row.grant_id}: entry {row.number} takes more than there was"
    kept = {row.grant_id: row for row in connection.execute(select(grant_standing))}
    for name in sorted(made.keys() | kept.keys()):
        if name not in made or name not in kept:
            yield f"grant {name}: no standing, or the standing of no grant"
            continue
        found = tuple(int(getattr(kept[name], each)) for each in _NUMBERS)
        wanted = tuple(getattr(made[name], each) for each in _NUMBERS)
        if found != wanted or kept[name].tenant != made[name].grant.tenant:
            yield f"grant {name}: its standing is not the sum of its entries"


def _verify_transactions(
    connection: Connection, grants: dict[str, tuple[Grant, int]]
) -> Iterator[str]:
    """Each transaction of credit posts what its grant, or its entries, come to; and is of some."""
    granted = {txn_id: grant for grant, txn_id in grants.values()}
    posted = _posted(connection)
    entries = groupby(_entries(connection), key=lambda row: row.txn_id)
    at, rows = next(entries, (None, iter(())))
    for txn in connection.execute(
        select(_TXN.id, _TXN.tenant, _TXN.idem_key).where(_TXN.kind == "credit").order_by(_TXN.id)
    ):
        if txn.id in granted:
            wanted = grant_transaction(granted[txn.id])
        elif at == txn.id:
            made = [(grants[row.grant_id][0], _entry(row)) for row in rows]
            wanted = entries_transaction(made[0][0].tenant, made, idem_key=txn.idem_key)
            at, rows = next(entries, (None, iter(())))
        else:
            yield f"transaction {txn.id} is of credit, and of no grant"
            continue
        if (txn.tenant, txn.idem_key) != (wanted.tenant, wanted.idem_key):
            yield f"transaction {txn.id} is not that of its grant"
        if posted.get(txn.id, {}) != _sums(wanted):
            yield f"transaction {txn.id} does not post what its grants' entries come to"
    if at is not None:
        yield f"transaction {at} has entries of grants, and is not of credit"


def _entries(connection: Connection) -> Iterator[Any]:
    known = grant_entry.c.grant_id.in_(select(credit_grant.c.id))
    query = select(grant_entry).where(known).order_by(grant_entry.c.txn_id)
    yield from connection.execute(query).all()


def _posted(connection: Connection) -> dict[int, dict[str, int]]:
    query = (
        select(_POSTING.txn_id, _POSTING.account, _POSTING.amount_nano)
        .join_from(tables.txn, tables.posting, _POSTING.txn_id == _TXN.id)
        .where(_TXN.kind == "credit")
    )
    found: dict[int, dict[str, int]] = {}
    for row in connection.execute(query):
        sums = found.setdefault(row.txn_id, {})
        sums[row.account] = sums.get(row.account, 0) + int(row.amount_nano)
    return found


def _sums(transaction: Transaction) -> dict[str, int]:
    return {str(each.account): each.amount_nano for each in transaction.postings}


def _verify_draws(connection: Connection) -> Iterator[str]:
    """An event draws for itself, no more than it sells for, from grants of its tenant."""
    entry, event = grant_entry.c, tables.usage_event.c
    drawn = func.sum(-entry.amount_nano)
    query = (
        select(entry.event_id, drawn.label("drawn"), func.max(event.sell_nano).label("sell"))
        .join_from(grant_entry, tables.usage_event, event.event_id == entry.event_id, isouter=True)
        .where(entry.kind == EntryKind.DRAW, entry.root.not_like(f"{MONTH_ROOT}%"))
        .group_by(entry.event_id)
    )
    for row in connection.execute(query.execution_options(yield_per=_FETCH)):
        if row.sell is None:
            yield f"event {row.event_id} draws from a grant, and is not in the ledger"
        elif int(row.drawn) > int(row.sell):
            yield f"event {row.event_id} draws {row.drawn} nano-USD and sells for {row.sell}"
    others = (
        select(entry.event_id, entry.grant_id)
        .join(credit_grant, credit_grant.c.id == entry.grant_id)
        .join(tables.usage_event, event.event_id == entry.event_id)
        .where(credit_grant.c.tenant != event.tenant)
    )
    for other in connection.execute(others):
        yield f"event {other.event_id} draws from grant {other.grant_id} of another tenant"


def _verify_closes(connection: Connection) -> Iterator[str]:
    """What is of a month was moved by the close of a month that has a statement."""
    entry, statement = grant_entry.c, tables.plan_statement.c
    closed = {
        month_root(row.tenant, row.period)
        for row in connection.execute(select(statement.tenant, statement.period))
    }
    query = (
        select(entry.grant_id, entry.number, entry.event_id, entry.root, credit_grant.c.tenant)
        .join(credit_grant, credit_grant.c.id == entry.grant_id)
        .where(entry.root.like(f"{MONTH_ROOT}%"))
        .order_by(entry.grant_id, entry.number)
    )
    for row in connection.execute(query).all():
        cause, _, late = row.event_id.partition(":late:")
        month = row.root if not late else month_root(row.tenant, late)
        if not {cause, row.root} <= closed or row.root != month:
            yield f"grant {row.grant_id}: entry {row.number} is of {row.event_id}, no close"
        elif not cause.startswith(month_root(row.tenant, "")):
            yield f"grant {row.grant_id}: entry {row.number} is of another tenant's month"


def _verify_counts(connection: Connection) -> Iterator[str]:
    series, now_ms = Series(ScopeKind.TENANT, BALANCE), 0  # its one bucket is as good as any time
    for row in connection.execute(select(credit_tenant)).all():
        sums = spent_by_bucket(
            connection, row.shard, series, [row.tenant], now_ms=now_ms, through_seq=row.seq
        )
        counted = sum(one.amounts[0] for one in sums if one.tenant == row.tenant)
        if counted != row.counted_nano:
            yield (
                f"credit_tenant {row.tenant}: {row.counted_nano} nano-USD counted, "
                f"its events come to {counted}"
            )


def _grant(row: Any) -> Grant:
    return Grant(**{name: getattr(row, name) for name in (*_FIELDS, "source", "note")})


def _entry(row: Any) -> Entry:
    return Entry(
        row.grant_id,
        EntryKind(row.kind),
        int(row.amount_nano),
        int(row.expired_nano),
        int(row.owed_nano),
        row.event_id,
        row.root,
    )
