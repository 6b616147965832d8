"""Exchanges themselves: where a drill-down ends. Reads only.

Rules: the newest first, paged by time and id. An exchange is found when any of its attempts is what
was asked for, and is shown whole: its last attempt's words, the sums of all its events.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import orjson
from sqlalchemy import BigInteger, Connection, Select, and_, cast, literal_column, select, tuple_

from metering.events import Kind
from metering.money import format_usd
from metering.settlement.analytics import (
    HOUR_NS,
    Question,
    cursor_of,
    is_summed,
    place_of,
    segments_of,
)
from metering.settlement.ledger.analytics import COLUMN as SERIES_COLUMN
from metering.settlement.ledger.analytics import KNOWN, attempts_by_hour, total_attempts
from metering.settlement.ledger.analytics_events import COLUMN, chosen_by, in_range
from metering.settlement.ledger.analytics_tables import FULL, SUMS, usage_series
from metering.settlement.ledger.queries import rfc3339
from metering.settlement.ledger.rollups import attempts_of
from metering.settlement.ledger.rows import decode_amounts
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.tables import quantity_column, usage_event
from metering.usage import TOKEN_CLASSES

RARE = 100
"""Fewer than one event in so many is looked for where sums say that there is one."""

_EVENT, _SERIES, _HOUR = usage_event.c, usage_series.c, SUMS["hour"].c
_OF_TENANT = frozenset({"tenant", "user", "session"})
"""What an index finds, in the order of times."""
_SHOWN = ("model_public", "http_status", "finish_reason", "degrade_step")
"""What only the payload says; gone once that is in an archive."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which exchanges: as `Question` has it, or by the id that their client was told."""

    question: Question
    request: str | None = None


def exchanges(ledger: Ledger, wanted: Wanted) -> dict[str, Any]:
    """`{data, next_cursor}`; ValueError for a cursor that is none."""
    asked = wanted.question
    with ledger.read() as connection:
        found = _places(connection, wanted)
        shown = found[: asked.limit]
        rows = _rows(connection, shown)
    more = len(found) > asked.limit
    return {"data": rows, "next_cursor": cursor_of(shown[-1]) if more else None}


def exchange(ledger: Ledger, exchange_id: str) -> dict[str, Any] | None:
    """An exchange with everything of its events; None where there is none."""
    with ledger.read() as connection:
        query = select(usage_event).where(_EVENT.exchange_id == exchange_id)
        events = connection.execute(query.order_by(_EVENT.attempt, _EVENT.seq)).all()
    if not events:
        return None
    return _whole(events) | {"events": [_event(each) for each in events]}


def _places(connection: Connection, wanted: Wanted) -> list[tuple[int, str, str]]:
    """The exchanges of a page and one more, each once: attempts of one come after one another."""
    asked = wanted.question
    found: dict[tuple[int, str, str], None] = {}
    if wanted.request is not None or not _is_rare(connection, asked):
        _find(connection, _query(wanted), found, asked.limit + 1)
        return list(found)
    if asked.after is not None:  # hours after the cursor's have been told
        newest_ns = place_of(asked.after, 3)[0]
        if type(newest_ns) is not int:
            raise ValueError(
                "cursor: it is not one of this question's; ask for the first page again"
            )
        asked = replace(asked, end_ns=min(asked.end_ns, newest_ns + 1))
    if asked.start_ns >= asked.end_ns:
        return []
    for part in _parts(asked, attempts_by_hour(connection, asked)):
        query = _within_cells(_query(replace(wanted, question=part)), part)
        _find(connection, query, found, asked.limit + 1)
        if len(found) > asked.limit:
            break
    return list(found)


def _find(
    connection: Connection, query: Select[Any], found: dict[tuple[int, str, str], None], limit: int
) -> None:
    """Add places until there are so many."""
    with closing(connection.execute(query.execution_options(yield_per=limit))) as rows:
        for row in rows:
            found[int(row[0]), str(row[1]), str(row[2])] = None
            if len(found) == limit:
                break


def _parts(asked: Question, attempts: Mapping[int, int]) -> Iterator[Question]:
    """The hours that have any, cut up so that the newest part has about a page: it is often the
    only one that is read, and is a small part of a month. Each further one has twice as many."""
    end_ns, wanted, sum_up = asked.end_ns, asked.limit + 1, 0
    for hour in sorted(attempts, reverse=True):
        sum_up += max(attempts[hour], 1)
        if sum_up >= wanted:
            start_ns = max(hour * HOUR_NS, asked.start_ns)
            yield replace(asked, start_ns=start_ns, end_ns=end_ns)
            end_ns, wanted, sum_up = start_ns, wanted * 2, 0
    if sum_up:
        yield replace(asked, end_ns=end_ns)


def _query(wanted: Wanted) -> Select[Any]:
    asked = wanted.question
    place = (_EVENT.occurred_at, _EVENT.exchange_id, _EVENT.tenant)
    query = select(*place).where(*in_range(asked), _EVENT.kind.in_((Kind.USAGE, Kind.CUSTOM)))
    query = query.where(*chosen_by(asked, frozenset(COLUMN)))
    if wanted.request is not None:
        query = query.where(_EVENT.request_id == wanted.request)
    if asked.after is not None:
        query = query.where(tuple_(*place) < tuple_(*place_of(asked.after, len(place))))
    return query.order_by(*(column.desc() for column in place))


def _within_cells(query: Select[Any], asked: Question) -> Select[Any]:
    """Only the hours of tenants in which sums say that there is one."""
    cells = _cells(asked).subquery()
    hour_ns = cast(cells.c.hour, BigInteger) * literal_column(str(HOUR_NS))
    within = (
        _EVENT.occurred_at >= hour_ns,
        _EVENT.occurred_at < hour_ns + literal_column(str(HOUR_NS)),
    )
    return query.join(cells, and_(cells.c.tenant == _EVENT.tenant, *within))


def _is_rare(connection: Connection, asked: Question) -> bool:
    """Whether an index would lead through too many others; sums know, up to some seconds ago."""
    if not is_summed(asked) or asked.needs <= _OF_TENANT:
        return False
    everything = replace(
        asked, filters={name: each for name, each in asked.filters.items() if name in _OF_TENANT}
    )
    theirs = total_attempts(connection, asked)
    return theirs * RARE < total_attempts(connection, everything)


def _cells(asked: Question) -> Select[Any]:
    """The hours of tenants in which there is such an event."""
    (segment,) = segments_of(replace(asked, interval="hour"), {FULL: KNOWN[FULL]})
    query = (
        select(_HOUR.hour, _SERIES.tenant)
        .distinct()
        .select_from(usage_series.join(SUMS["hour"], _HOUR.series == _SERIES.id))
        .where(_SERIES.level == FULL, _HOUR.hour >= segment.first, _HOUR.hour < segment.end)
    )
    for name, values in asked.filters.items():
        query = query.where(_SERIES[SERIES_COLUMN[name]].in_(values))
    return query


def _rows(connection: Connection, places: Sequence[tuple[int, str, str]]) -> list[dict[str, Any]]:
    ids = sorted({exchange_id for _, exchange_id, _ in places})
    query = select(usage_event).where(_EVENT.exchange_id.in_(ids))
    found: dict[tuple[str, str], list[Any]] = {}
    for row in connection.execute(query):
        found.setdefault((row.exchange_id, row.tenant), []).append(row)
    return [_whole(found[exchange_id, tenant]) for _, exchange_id, tenant in places]


def _whole(events: Sequence[Any]) -> dict[str, Any]:
    used = [each for each in events if each.kind in (Kind.USAGE, Kind.CUSTOM)] or list(events)
    last = max(used, key=lambda each: (each.attempt, each.event_id))
    payload = orjson.loads(bytes(last.payload) or b"{}")
    return {
        "exchange_id": last.exchange_id,
        "request_id": last.request_id,
        "at": rfc3339(last.occurred_at),
        "tenant": last.tenant,
        "project": last.project,
        "key": last.api_key_id,
        "feature": last.feature,
        "user": last.user_scope,
        "session": last.session,
        "provider": last.provider,
        "model_requested": last.model_requested,
        "model": last.model_upstream,
        "version": last.model_version,
        "status": last.status,
        "reason": last.reason_code,
        "tokens": _tokens(events),
        **_amounts(events),
        "latency_ms": last.latency_ms,
        "ttft_ms": last.ttft_ms if last.ttft_ms is not None else payload.get("ttft_ms"),
        "attempts": sum(attempts_of(each.kind) for each in events),
        "cache": last.cache_status,
        **{name: payload.get(name) for name in _SHOWN},
    }


def _tokens(events: Iterable[Any]) -> dict[str, int]:
    sums = {
        unit: sum(getattr(each, quantity_column(unit)) or 0 for each in events)
        for unit in TOKEN_CLASSES
    }
    return {"total": sum(sums.values())} | {unit: count for unit, count in sums.items() if count}


def _amounts(events: Iterable[Any]) -> dict[str, Any]:
    sell_nano = sum(each.sell_nano for each in events)
    cost_nano = sum(each.cost_nano for each in events)
    amounts = {"sell": sell_nano, "cost": cost_nano, "margin": sell_nano - cost_nano}
    told: dict[str, Any] = {}
    for name, nano in amounts.items():
        told |= {f"{name}_usd": format_usd(nano, places=9), f"{name}_nano": nano}
    return told


def _event(row: Any) -> dict[str, Any]:
    """All of an event: as it came, and as it was booked."""
    payload = orjson.loads(bytes(row.payload) or b"{}")
    booked = [
        {
            "unit": unit,
            "quantity": quantity,
            "rate_pico": rate_pico,
            **_amounts_of(sell_nano, cost_nano),
            "rate_for": words[0] if words else None,
        }
        for unit, (quantity, rate_pico, sell_nano, cost_nano, *words) in decode_amounts(
            row.amounts
        ).items()
    ]
    return {
        "event_id": row.event_id,
        "kind": row.kind,
        "attempt": row.attempt,
        "corrects": row.corrects,
        "at": rfc3339(row.occurred_at),
        "completed_at": rfc3339(row.completed_at),
        "provider": row.provider,
        "model": row.model_upstream,
        "status": row.status,
        "reason": row.reason_code,
        "billable": bool(row.billable),
        "usage_source": row.usage_source,
        "price_versions": {"cost": row.cost_version, "sell": row.sell_version},
        "unpriced": bool(row.unpriced),
        "latency_ms": row.latency_ms,
        **_amounts_of(row.sell_nano, row.cost_nano),
        "amounts": booked,
        "chain": {"shard": row.shard, "seq": row.seq, "txn": row.txn_id, "hash": row.hash},
        "payload_hash": row.payload_hash,
        "event": payload,
    }


def _amounts_of(sell_nano: int, cost_nano: int) -> dict[str, Any]:
    return {
        "sell_usd": format_usd(sell_nano, places=9),
        "sell_nano": sell_nano,
        "cost_usd": format_usd(cost_nano, places=9),
        "cost_nano": cost_nano,
    }
