"""What the ledger says for `weir reconcile internal`: events, rollups, statements, Stripe's hours.

Reads only. What is asked together is asked in one view, so that a worker may go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import Connection, case, func, select

from metering.events import Kind
from metering.settlement.internal import AtStripe, Billed, Fate, InStream, Sums
from metering.settlement.invoices import events_digest, period_bounds_ns
from metering.settlement.ledger import tables
from metering.settlement.ledger.plan_books import (
    Terms,
    closed_statement,
    late_counts,
    statement_of,
)
from metering.settlement.ledger.queries import invoice_in
from metering.settlement.ledger.rollups import ATTEMPT, HOUR_NS
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.stripe_tables import stripe_hour
from metering.settlement.ledger.stripe_totals import wanted_of
from metering.settlement.statements import entries_of
from metering.stripe_settings import StripeSettings

_EVENT, _ROLLUP, _ROLLED = tables.usage_event.c, tables.rollup.c, tables.rollup_watermark.c
_ATTEMPTS = case((_EVENT.kind == Kind.CORRECTION, -1), (_EVENT.kind == Kind.ADJUSTMENT, 0), else_=1)
_FETCH = 1_000

LOOKS = 3
"""How often an open month is looked at again because somebody booked to it meanwhile."""

Places = Mapping[tuple[str, str], Sums]


def fates(ledger: Ledger, entries: Sequence[InStream]) -> list[tuple[InStream, Fate]]:
    """What became of these."""
    ids = [each.event_id for each in entries]
    hashes = [each.payload_hash for each in entries]
    conflict, dead = tables.event_conflict.c, tables.dead_letter.c
    with ledger.read() as connection:
        booked = {
            row.event_id: row.payload_hash
            for row in connection.execute(
                select(_EVENT.event_id, _EVENT.payload_hash).where(_EVENT.event_id.in_(ids))
            )
        }
        aside = set(
            connection.execute(
                select(conflict.payload_hash).where(conflict.payload_hash.in_(hashes))
            ).scalars()
        )
        aside |= set(
            connection.execute(select(dead.raw_hash).where(dead.raw_hash.in_(hashes))).scalars()
        )
    return [(e, Fate(booked.get(e.event_id), e.payload_hash in aside)) for e in entries]


def hourly(ledger: Ledger, month: str) -> tuple[Places, Places, dict[str, int]]:
    """By tenant and hour, what the events come to that are rolled up, and what the rollups say; and
    by tenant, how many events are not rolled up yet."""
    start_ns, end_ns = period_bounds_ns(month)
    hour = (_EVENT.occurred_at - _EVENT.occurred_at % HOUR_NS).label("hour")
    within = (_EVENT.occurred_at >= start_ns, _EVENT.occurred_at < end_ns)
    mark = tables.rollup_watermark
    sums = (func.sum(_ATTEMPTS), func.sum(_EVENT.sell_nano), func.sum(_EVENT.cost_nano))
    events = (
        select(_EVENT.tenant, hour, *sums)
        .join(mark, (_ROLLED.shard == _EVENT.shard) & (_EVENT.seq <= _ROLLED.seq))
        .where(*within)
        .group_by(_EVENT.tenant, hour)
    )
    attempts = func.sum(case((_ROLLUP.unit == ATTEMPT, _ROLLUP.quantity), else_=0))
    rolled = (
        select(
            _ROLLUP.tenant,
            _ROLLUP.hour,
            attempts,
            func.sum(_ROLLUP.sell_nano),
            func.sum(_ROLLUP.cost_nano),
        )
        .where(_ROLLUP.hour >= start_ns, _ROLLUP.hour < end_ns)
        .group_by(_ROLLUP.tenant, _ROLLUP.hour)
    )
    behind = (
        select(_EVENT.tenant, func.count())
        .outerjoin(mark, _ROLLED.shard == _EVENT.shard)
        .where(*within, _EVENT.seq > func.coalesce(_ROLLED.seq, 0))
        .group_by(_EVENT.tenant)
    )
    with ledger.read() as connection:
        mine, theirs = (_places(connection.execute(query)) for query in (events, rolled))
        late = {row[0]: int(row[1]) for row in connection.execute(behind)}
    return mine, theirs, late


def _places(rows: Iterable[Any]) -> dict[tuple[str, str], Sums]:
    return {(row[0], hour_text(row[1])): (int(row[2]), int(row[3]), int(row[4])) for row in rows}


def hour_text(hour_ns: int) -> str:
    """`2026-11-16T09`, UTC."""
    return datetime.fromtimestamp(hour_ns // 10**9, UTC).strftime("%Y-%m-%dT%H")


def events_of(ledger: Ledger, place: tuple[str, str], *, limit: int) -> list[str]:
    """The events of a tenant's hour."""
    tenant, hour = place
    start_ns = int(datetime.strptime(f"{hour}+0000", "%Y-%m-%dT%H%z").timestamp()) * 10**9
    query = (
        select(_EVENT.event_id)
        .where(_EVENT.tenant == tenant)
        .where(_EVENT.occurred_at >= start_ns, _EVENT.occurred_at < start_ns + HOUR_NS)
        .order_by(_EVENT.event_id)
        .limit(limit)
    )
    with ledger.read() as connection:
        return list(connection.execute(query).scalars())


def billed(
    ledger: Ledger, month: str, tenants: Iterable[str], terms_of: Callable[[str], Terms]
) -> Iterator[tuple[str, Billed]]:
    """Each tenant's invoice beside its events: by its plan where it has one, closed or as it
    stands, else at list prices."""
    for tenant in tenants:
        terms = terms_of(tenant)
        found = None
        if terms.assignments and closed_statement(ledger, tenant, month) is None:
            found = _open_statement(ledger, tenant, month, terms)
        with ledger.read() as connection:
            yield tenant, found or _billed(connection, tenant, month)


def _open_statement(ledger: Ledger, tenant: str, month: str, terms: Terms) -> Billed | None:
    """What an open month comes to by its plan; None where no version of it is in force. Made anew
    where somebody booked between its two looks."""
    for _ in range(LOOKS):
        try:
            body = statement_of(ledger, tenant, month, terms).body()
        except LookupError:
            return None
        with ledger.read() as connection:
            hashes, sold = _sold(connection, tenant, month)
        if body["event_count"] == len(hashes):
            break
    return _of_statement(body, hashes, sold, late=0, is_closed=False)


def _sold(connection: Connection, tenant: str, month: str) -> tuple[list[str], int]:
    """The hashes of the month's billable events, and what they were booked at."""
    start_ns, end_ns = period_bounds_ns(month)
    query = select(_EVENT.payload_hash, _EVENT.sell_nano).where(
        _EVENT.tenant == tenant,
        _EVENT.billable.is_(True),
        _EVENT.occurred_at >= start_ns,
        _EVENT.occurred_at < end_ns,
    )
    hashes, sold = [], 0
    for row in connection.execute(query.execution_options(yield_per=_FETCH)):
        hashes.append(row.payload_hash)
        sold += row.sell_nano
    return hashes, sold


def _billed(connection: Connection, tenant: str, month: str) -> Billed:
    hashes, sold = _sold(connection, tenant, month)
    statement = tables.plan_statement.c
    found = connection.execute(
        select(statement.body).where(statement.tenant == tenant, statement.period == month)
    ).scalar()
    if found is None:
        report = invoice_in(connection, tenant, month)
        total = 0 if report is None else int(report.invoice["total_nano"])
        return Billed(total, sold, len(hashes), len(hashes), is_closed=False)
    late = late_counts(connection, tenant).get(month, 0)
    return _of_statement(orjson.loads(bytes(found)), hashes, sold, late=late, is_closed=True)


def _of_statement(
    body: Mapping[str, Any], hashes: Sequence[str], sold: int, *, late: int, is_closed: bool
) -> Billed:
    """A statement beside the month's events, of which `late` are on no statement yet."""
    is_whole = int(body["event_count"]) == len(hashes)
    # events that came later are on a later statement: only what it was made of counts against it
    listed = sold if is_whole else int(body["list_nano"])
    earlier = sum(int(each["list_nano"]) for each in body["late"].values())
    return Billed(
        total_nano=int(body["total_nano"]),
        due_nano=listed + earlier + sum(entries_of(body).values()),
        events=len(hashes) - late,
        there=len(hashes),
        is_closed=is_closed,
        same_events=not is_whole or events_digest(hashes) == body["event_digest"],
    )


def stripe_hours(ledger: Ledger, settings: StripeSettings, month: str) -> list[AtStripe]:
    """Every hour of the month that Stripe should know, by the rollups and as it was told."""
    start_ns, end_ns = period_bounds_ns(month)
    first = max(start_ns, settings.since_ns)
    where = (
        _ROLLUP.tenant.in_(list(settings.customers)),
        _ROLLUP.hour >= first,
        _ROLLUP.hour < end_ns,
    )
    with ledger.read() as connection:
        wanted = wanted_of(connection, settings, where)
        hour = stripe_hour.c
        query = select(stripe_hour).where(
            hour.hour >= first,
            hour.hour < end_ns,
            hour.tenant.in_(list(settings.customers)),
            hour.event_name.in_([each.event_name for each in settings.meters]),
        )
        told = {(row.tenant, row.event_name, row.hour): row for row in connection.execute(query)}
    found = []
    for key in sorted({*told, *(key for key, total in wanted.items() if total)}):
        row = told.get(key)
        found.append(
            AtStripe(
                tenant=key[0],
                meter=key[1],
                hour=hour_text(key[2]),
                ledger=wanted.get(key, 0),
                wanted=None if row is None else row.wanted,
                acked=0 if row is None else row.acked,
                seen=None if row is None else row.seen,
                is_held=row is not None and row.state == "held",
            )
        )
    return found
