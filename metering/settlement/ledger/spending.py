"""What scopes spent, by bucket: sums that the database makes over one shard. Reads only.

Rules: an event counts in the bucket of Redis' time of its commit. Of corrections those of recovered
events count, in the bucket of what they take back, as in Redis; others concern the books alone.
A chain grows at its end only, so what was booked up to one of its places never changes: sums
through a place and what came behind it fit together whenever they are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    and_,
    case,
    func,
    literal_column,
    select,
)

from metering.calendar_periods import period_at
from metering.caps import AnyWindow, ScopeKind, Window
from metering.events import RECOVERED, Kind
from metering.settlement.counting import Series, bucket_start_ms, oldest_bucket
from metering.settlement.ledger.tables import (
    dead_letter,
    dead_letter_resolution,
    event_conflict,
    quantity_column,
    usage_event,
    watermark,
)
from metering.usage import TOKEN_CLASSES

COLUMN = {
    ScopeKind.PROJECT: "project",
    ScopeKind.KEY: "api_key_id",
    ScopeKind.FEATURE: "feature",
    ScopeKind.USER: "user_scope",
    ScopeKind.SESSION: "session",
    ScopeKind.RUN: "run",
}
"""Which column holds the id of the scope; the tenant's own has none."""

_NAMED_MAX = 500
"""More tenants than this are not named to the database: it sums all of the shard's."""

_PAGE = 5_000


@dataclass(frozen=True, slots=True)
class Sum:
    """What one scope spent in one bucket; `scope_id` is empty for the tenant's own."""

    tenant: str
    scope_id: str
    bucket: int
    amounts: tuple[int, int, int]
    """Nano-USD, tokens, requests; below zero where corrections came to more."""


def chain_length(connection: Connection, shard: int) -> int:
    """How many events of the shard are booked: the last place in its chain."""
    query = select(watermark.c.events).where(watermark.c.shard == shard)
    return int(connection.scalar(query) or 0)


def spent_by_bucket(
    connection: Connection,
    shard: int,
    series: Series,
    tenants: Sequence[str] | None,
    *,
    now_ms: int,
    through_seq: int | None = None,
    after_seq: int = 0,
) -> Iterator[Sum]:
    """The sums of every scope of a kind over the buckets of a window that still count.

    `tenants` None is all of the shard's; more of them may be in the answer than were named. With
    `after_seq` only what came behind that place of the chain: the difference of two sums.
    """
    event, correction = usage_event.alias("event"), usage_event.alias("correction")
    is_tenant = series.kind is ScopeKind.TENANT
    scope = literal_column("''") if is_tenant else event.c[COLUMN[series.kind]]
    bucket = _bucket(event.c.stream_ms, series.window, now_ms)
    since_ms = bucket_start_ms(series.window, oldest_bucket(series.window, now_ms))
    at = [event.c.shard == shard, event.c.stream_ms >= since_ms]
    if not is_tenant:
        at.append(scope.is_not(None))
    if tenants is not None and len(tenants) <= _NAMED_MAX:
        at.append(event.c.tenant.in_(tenants))
    if through_seq is not None:
        at.append(event.c.seq <= through_seq)
    keys = (event.c.tenant, bucket) if is_tenant else (event.c.tenant, scope, bucket)
    columns = (event.c.tenant, scope.label("scope_id"), bucket.label("bucket"))
    used = (
        select(*columns, *measures(event, sign=1))
        .where(*at, event.c.kind != Kind.CORRECTION, event.c.seq > after_seq)
        .group_by(*keys)
    )
    joined = and_(correction.c.corrects == event.c.event_id, correction.c.shard == shard)
    if through_seq is not None:
        joined = and_(joined, correction.c.seq <= through_seq)
    corrected = (
        select(*columns, *measures(correction, sign=-1))
        .join(correction, joined)
        .where(*at, event.c.usage_source == RECOVERED, correction.c.corrects.is_not(None))
        .group_by(*keys)
    )
    queries = [used, corrected]
    if after_seq:  # whichever of the two came last; apart, so that each reads the end of the chain
        last, first = correction.c.seq > after_seq, correction.c.seq <= after_seq
        queries[1:] = [corrected.where(last), corrected.where(first, event.c.seq > after_seq)]
    for query in queries:
        for row in connection.execute(query.execution_options(yield_per=_PAGE)):
            amounts = int(row.nano), int(row.tokens), int(row.requests)
            yield Sum(row.tenant, row.scope_id, int(row.bucket), amounts)


def event_at(connection: Connection, shard: int, seq: int) -> str | None:
    """The event at this place of the chain."""
    at = usage_event.c
    query = select(at.event_id).where(at.shard == shard, at.seq == seq)
    return connection.execute(query).scalar()


def booked_through(
    connection: Connection, event_ids: Iterable[str], shard: int, through_seq: int
) -> set[str]:
    """Those of these events that are in the sums through this place."""
    query = select(usage_event.c.event_id).where(
        usage_event.c.event_id.in_(list(event_ids)),
        usage_event.c.shard == shard,
        usage_event.c.seq <= through_seq,
    )
    return set(connection.execute(query).scalars())


def booked_between(
    connection: Connection, shard: int, after_seq: int, through_seq: int
) -> Iterator[Any]:
    """Rows with the payload and stream time of what was booked between two places."""
    event = usage_event.c
    query = (
        select(event.event_id, event.payload, event.stream_id, event.payload_hash)
        .where(event.shard == shard, event.seq > after_seq, event.seq <= through_seq)
        .execution_options(yield_per=_PAGE)
    )
    yield from connection.execute(query)


def corrections_of(
    connection: Connection, event_ids: Iterable[str], shard: int, through_seq: int
) -> list[Any]:
    """The corrections of these events that are booked up to this place, as in `booked_between`."""
    event = usage_event.c
    query = select(event.event_id, event.payload, event.stream_id, event.payload_hash).where(
        event.corrects.in_(list(event_ids)), event.shard == shard, event.seq <= through_seq
    )
    return list(connection.execute(query).all())


def recovered_at(connection: Connection, event_ids: Iterable[str]) -> dict[str, int]:
    """When those of these events that are recovered ones were committed, by Redis' time."""
    event = usage_event.c
    query = select(event.event_id, event.stream_ms).where(
        event.event_id.in_(list(event_ids)), event.usage_source == RECOVERED
    )
    return {row.event_id: row.stream_ms for row in connection.execute(query)}


def doubtful_times(connection: Connection, shard: int, since_ms: int) -> list[int]:
    """When entries were committed that Redis counted and the ledger does not have: dead letters
    that nobody has resolved, and events that came with another body."""
    waiting = (
        select(dead_letter.c.stream_id)
        .outerjoin(
            dead_letter_resolution, dead_letter_resolution.c.dead_letter_id == dead_letter.c.id
        )
        .where(dead_letter.c.shard == shard, dead_letter_resolution.c.dead_letter_id.is_(None))
    )
    refused = select(event_conflict.c.stream_id).where(event_conflict.c.shard == shard)
    ids = [*connection.execute(waiting).scalars(), *connection.execute(refused).scalars()]
    times = {int(each.partition("-")[0]) for each in ids}
    return sorted(each for each in times if each >= since_ms)


def _bucket(stream_ms: ColumnElement[int], window: AnyWindow, now_ms: int) -> ColumnElement[int]:
    """Literals, no parameters: PostgreSQL would take those of GROUP BY for others."""
    if isinstance(window, Window):
        length: ColumnElement[int] = literal_column(str(window.bucket_ms), BigInteger)
        return stream_ms // length
    period = period_at(window, now_ms)  # and the next one: it may begin while we count
    end, here, after = (
        literal_column(str(number), BigInteger)
        for number in (period.end_ms, period.number, period.number + 1)
    )
    return case((stream_ms >= end, after), else_=here)


def measures(event: Any, *, sign: int) -> list[ColumnElement[Any]]:
    """What an event adds to its bucket; a correction takes its exchange's request back."""
    tokens = [func.coalesce(event.c[quantity_column(unit)], 0) for unit in TOKEN_CLASSES]
    total: ColumnElement[Any] = tokens[0]
    for each in tokens[1:]:
        total = total + each
    return [
        func.sum(event.c.admission_nano).label("nano"),
        func.sum(total).label("tokens"),
        func.sum(case((event.c.attempt == 1, sign), else_=0)).label("requests"),
    ]
