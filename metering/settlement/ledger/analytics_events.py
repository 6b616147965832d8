"""Usage straight from the events: what sums do not know, for a bounded number of events.

Rules: a request counts where its last attempt is, also when only some attempts are asked about: the
last one is found first, and then what was asked is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, case, func, literal_column, or_, select

from metering.events import Kind, Reason
from metering.settlement.analytics import HOUR_NS, Question
from metering.settlement.histograms import bucket_of
from metering.settlement.ledger.analytics_rollup import ERRORS
from metering.settlement.ledger.analytics_tables import QUANTITIES
from metering.settlement.ledger.tables import usage_event

EVENTS_MAX = 500_000
"""Events that one question may read."""

_EVENT = usage_event.c
COLUMN: Mapping[str, ColumnElement[Any]] = {
    "tenant": _EVENT.tenant,
    "project": _EVENT.project,
    "key": _EVENT.api_key_id,
    "feature": _EVENT.feature,
    "user": _EVENT.user_scope,
    "session": _EVENT.session,
    "provider": _EVENT.provider,
    "model": _EVENT.model_upstream,
    "version": _EVENT.model_version,
    "status": _EVENT.status,
    "reason": _EVENT.reason_code,
    "cache": _EVENT.cache_status,
}
OF_EXCHANGE = frozenset({"tenant", "project", "key", "feature", "user", "session"})
"""What all attempts of an exchange share."""

Bin = Callable[[Question, ColumnElement[Any], str], ColumnElement[Any]]


def filtered(name: str, values: Sequence[str], column: ColumnElement[Any]) -> ColumnElement[bool]:
    """One of these values; '' is none at all. A name is an event's column."""
    named = [value for value in values if value]
    found: list[ColumnElement[bool]] = [column.in_(named)] if named else []
    if len(named) < len(values):
        found.append(column.is_(None))
        found.append(column == "")
    return or_(*found)


def chosen_by(asked: Question, names: frozenset[str]) -> list[ColumnElement[bool]]:
    """The conditions of a question on these dimensions."""
    return [
        filtered(name, values, COLUMN[name])
        for name, values in asked.filters.items()
        if name in names
    ]


def in_range(asked: Question) -> list[ColumnElement[bool]]:
    """The condition on time."""
    return [_EVENT.occurred_at >= asked.start_ns, _EVENT.occurred_at < asked.end_ns]


def grouped_events(connection: Connection, asked: Question, bin_of: Bin) -> Select[Any]:
    """The same columns as sums have; ValueError when too many events would have to be read."""
    shared = [*in_range(asked), *chosen_by(asked, OF_EXCHANGE)]
    some: Select[Any] = (
        select(literal_column("1").label("one")).select_from(usage_event).where(*shared)
    )
    counted = select(func.count()).select_from(some.limit(EVENTS_MAX + 1).subquery())
    if connection.execute(counted).scalar_one() > EVENTS_MAX:
        raise ValueError(
            f"users and sessions are read from the events, and these are more than {EVENTS_MAX}: "
            "ask for a shorter time, or for one tenant, user or session"
        )
    place = func.row_number().over(
        partition_by=(_EVENT.tenant, _EVENT.exchange_id, _EVENT.kind == Kind.USAGE),
        order_by=(_EVENT.attempt.desc(), _EVENT.event_id.desc()),
    )
    ranked = select(*_columns(asked, bin_of), place.label("place")).where(*shared).subquery()
    row = ranked.c
    is_last = (row.place == 1) & (row.kind == Kind.USAGE)
    failed = row.status.in_(sorted(ERRORS))
    attempts = case((row.kind == Kind.ADJUSTMENT, 0), (row.kind == Kind.CORRECTION, -1), else_=1)
    keys = [row.bin, *(row[f"by_{name}"] for name in asked.by)]
    is_whole = not asked.by and asked.interval == "none"
    query = select(
        *([func.coalesce(func.min(row.bin), 0).label("bin")] if is_whole else keys),
        _count(is_last, "requests"),
        func.sum(attempts).label("attempts"),
        _count(is_last & failed, "errors"),
        func.sum(case((failed, attempts), else_=0)).label("failed"),
        _count(is_last & (row.reason_code == Reason.CACHE_HIT), "cache_hits"),
        func.sum(row.sell_nano).label("sell_nano"),
        func.sum(row.cost_nano).label("cost_nano"),
        *(func.coalesce(func.sum(row[name]), 0).label(name) for name in QUANTITIES),
    )
    for name, values in asked.filters.items():
        if name not in OF_EXCHANGE:
            query = query.where(filtered(name, values, row[f"of_{name}"]))
    return query if is_whole else query.group_by(*keys)


def _columns(asked: Question, bin_of: Bin) -> list[Any]:
    hour = _EVENT.occurred_at // literal_column(str(HOUR_NS))
    others = [name for name in asked.filters if name not in OF_EXCHANGE]
    return [
        bin_of(asked, hour, "hour").label("bin"),
        *(func.coalesce(COLUMN[name], "").label(f"by_{name}") for name in asked.by),
        *(COLUMN[name].label(f"of_{name}") for name in others),
        _EVENT.kind,
        _EVENT.status,
        _EVENT.reason_code,
        _EVENT.latency_ms,
        _EVENT.ttft_ms,
        _EVENT.sell_nano,
        _EVENT.cost_nano,
        *(_EVENT[name] for name in QUANTITIES),
    ]


def _count(condition: ColumnElement[bool], name: str) -> ColumnElement[Any]:
    return func.sum(case((condition, 1), else_=0)).label(name)


def times_of_events(
    connection: Connection, asked: Question, shown: Sequence[Mapping[Any, Any]], bin_of: Bin
) -> dict[tuple[Any, ...], dict[str, dict[int, int]]]:
    """By row of a page, the histograms of its events."""
    rows = {(int(row["bin"]), *(row[f"by_{name}"] for name in asked.by)) for row in shown}
    chosen = [*in_range(asked), *chosen_by(asked, frozenset(COLUMN))]
    chosen += [
        filtered(name, sorted({row[f"by_{name}"] for row in shown}), COLUMN[name])
        for name in asked.by
    ]
    hour = _EVENT.occurred_at // literal_column(str(HOUR_NS))
    keys = [bin_of(asked, hour, "hour").label("bin")]
    keys += [func.coalesce(COLUMN[name], "").label(f"by_{name}") for name in asked.by]
    attempts = case((_EVENT.kind == Kind.CORRECTION, -1), else_=1)
    found: dict[tuple[Any, ...], dict[str, dict[int, int]]] = {}
    for name, time_ms in (("latency", _EVENT.latency_ms), ("ttft", _EVENT.ttft_ms)):
        query = select(*keys, time_ms.label("time_ms"), func.sum(attempts).label("count")).where(
            *chosen, _EVENT.kind != Kind.ADJUSTMENT, time_ms.is_not(None)
        )
        if name == "latency":
            query = query.where(or_(_EVENT.kind != Kind.CUSTOM, time_ms > 0))
        every = query.group_by(*[key.name for key in keys], "time_ms")
        for row in connection.execute(every).mappings():
            key = (int(row["bin"]), *(row[f"by_{each}"] for each in asked.by))
            if key in rows:
                mine = found.setdefault(key, {"latency": {}, "ttft": {}})[name]
                bucket = bucket_of(int(row["time_ms"]))
                mine[bucket] = mine.get(bucket, 0) + int(row["count"])
    return found
