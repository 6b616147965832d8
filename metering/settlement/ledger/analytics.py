"""Questions about usage, answered from sums or from events. Reads only, one consistent view each.

Rules: sorted and paged by the database; percentiles are read for the rows of the page alone. From
sums they are within 5 % (see `histograms`); from events they are exact. Both count alike: a
request where its last attempt is, an attempt wherever it went.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Subquery,
    and_,
    case,
    func,
    literal_column,
    or_,
    select,
    tuple_,
    union_all,
)

from metering.settlement.analytics import (
    DAY_HOURS,
    LevelOf,
    Question,
    Segment,
    checked,
    cursor_of,
    figures,
    is_summed,
    months_between,
    place_of,
    segments_of,
    start_of_bin_ns,
)
from metering.settlement.ledger.analytics_events import grouped_events, times_of_events
from metering.settlement.ledger.analytics_rollup import behind_by_shard
from metering.settlement.ledger.analytics_tables import (
    HISTOGRAMS,
    LEVELS,
    MEASURES,
    QUANTITIES,
    SUMS,
    TIMES,
    usage_series,
)
from metering.settlement.ledger.queries import rfc3339
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.tables import watermark

COLUMN = {
    "tenant": "tenant",
    "project": "project",
    "key": "api_key_id",
    "feature": "feature",
    "provider": "provider",
    "model": "model",
    "version": "model_version",
    "status": "status",
    "reason": "reason_code",
    "cache": "cache_status",
}
"""Where a series has each dimension."""

_NAMES = {column: name for name, column in COLUMN.items()}
KNOWN = {
    name: LevelOf(
        frozenset(_NAMES[column] for column in level.dimensions),
        frozenset(level.sums),
        frozenset(level.times),
    )
    for name, level in LEVELS.items()
}
"""The levels, in the words of questions."""

Answer = dict[str, Any]


def usage(ledger: Ledger, question: Question) -> Answer:
    """`{data, totals, from, to, settled_through, behind, source, next_cursor}`.

    ValueError for a question that cannot be asked, or that would read too many events.
    """
    asked = checked(question)
    with ledger.read() as connection:
        rows, more = _page(connection, asked)
        totals = replace(asked, by=(), interval="none", sort="start", limit=1, after=None)
        (total,), _ = _page(connection, totals)
        through = connection.execute(select(func.max(watermark.c.occurred_at))).scalar()
        behind = sum(count for _, count in behind_by_shard(connection))
    return {
        "data": [row for row, _ in rows],
        "totals": total[0],
        "from": rfc3339(asked.start_ns),
        "to": rfc3339(asked.end_ns),
        "settled_through": rfc3339(int(through)) if through else None,
        "behind": behind,
        "source": "rollup" if is_summed(asked) else "events",
        "next_cursor": cursor_of(rows[-1][1]) if more else None,
    }


def usage_rows(ledger: Ledger, question: Question) -> Iterator[Answer]:
    """Every row of the answer, page after page."""
    asked = checked(question)
    while True:
        with ledger.read() as connection:
            rows, more = _page(connection, asked)
        yield from (row for row, _ in rows)
        if not more:
            return
        asked = replace(asked, after=cursor_of(rows[-1][1]))


def total_attempts(connection: Connection, question: Question) -> int:
    """How many attempts sums know of; the range is widened to whole hours."""
    asked = replace(checked(question), by=(), interval="none")
    query = _added(asked, segments_of(asked, KNOWN), SUMS, ("attempts",)).subquery()
    return int(connection.execute(select(func.sum(query.c.attempts))).scalar() or 0)


def attempts_by_hour(connection: Connection, question: Question) -> dict[int, int]:
    """How many attempts sums know of in each hour that has a sum, be it nought."""
    asked = replace(checked(question), by=(), interval="hour")
    query = _added(asked, segments_of(asked, KNOWN), SUMS, ("attempts",))
    return {int(row.bin): int(row.attempts) for row in connection.execute(query)}


_Page = list[tuple[Answer, list[Any]]]


def _page(connection: Connection, asked: Question) -> tuple[_Page, bool]:
    """The rows of a page, each with its place, and whether more follow."""
    if is_summed(asked):
        grouped = _added(asked, segments_of(asked, KNOWN), SUMS, MEASURES).subquery()
    else:
        grouped = grouped_events(connection, asked, bin_of).subquery()
    rows = connection.execute(_sorted(asked, grouped)).mappings().all()
    shown = rows[: asked.limit]
    times = _times(connection, asked, shown) if shown else {}
    found: _Page = []
    for row in shown:
        key = _key(asked, row)
        said: Answer = {}
        if asked.interval != "none":
            said["start"] = rfc3339(start_of_bin_ns(asked.interval, int(row["bin"]), asked))
        said |= {name: row[f"by_{name}"] or None for name in asked.by}
        place = [*([] if asked.sort == "start" else [int(row["worth"])]), *key]
        found.append((said | figures(dict(row), times.get(key, {})), place))
    return found, len(rows) > asked.limit


def _key(asked: Question, row: Mapping[Any, Any]) -> tuple[Any, ...]:
    return (int(row["bin"]), *(row[f"by_{name}"] for name in asked.by))


def _sorted(asked: Question, grouped: Subquery) -> Select[Any]:
    columns = grouped.c
    tokens: ColumnElement[Any] = columns[QUANTITIES[0]]
    for name in QUANTITIES[1:]:
        tokens = tokens + columns[name]
    worth = {
        "start": literal_column("0"),
        "sell": columns.sell_nano,
        "cost": columns.cost_nano,
        "margin": columns.sell_nano - columns.cost_nano,
        "requests": columns.requests,
        "attempts": columns.attempts,
        "tokens": tokens,
        "errors": columns.errors,
    }[asked.sort]
    names = [columns.bin, *(columns[f"by_{name}"] for name in asked.by)]
    query = select(*columns, worth.label("worth")).limit(asked.limit + 1)
    if asked.sort == "start":
        if asked.after is not None:
            query = query.where(tuple_(*names) > tuple_(*place_of(asked.after, len(names))))
        return query.order_by(*names)
    if asked.after is not None:
        value, *rest = place_of(asked.after, len(names) + 1)
        query = query.where(
            or_(worth < value, and_(worth == value, tuple_(*names) > tuple_(*rest)))
        )
    return query.order_by(worth.desc(), *names)


def _added(
    asked: Question,
    segments: Sequence[Segment],
    tables_of: Mapping[str, Any],
    measures: Sequence[str],
    *,
    within: Sequence[ColumnElement[bool]] = (),
    by_bucket: bool = False,
) -> Select[Any]:
    """The segments of a range added up, by bin, dimensions, and bucket where there are buckets."""
    parts = []
    for segment in segments:
        table = tables_of[segment.period]
        at = table.c[segment.period]
        keys: list[Any] = [bin_of(asked, at, segment.period).label("bin")]
        keys += [usage_series.c[COLUMN[name]].label(f"by_{name}") for name in asked.by]
        if by_bucket:
            keys.append(table.c.le_ms)
        grouped = [key.element for key in keys if hasattr(key, "element")]  # labels are no GROUP BY
        grouped += [table.c.le_ms] if by_bucket else []
        query = (
            select(*keys, *(func.sum(table.c[name]).label(name) for name in measures))
            .select_from(usage_series.join(table, table.c.series == usage_series.c.id))
            .where(usage_series.c.level == segment.level, *within)
            .where(at >= segment.first, at < segment.end)
        )
        for name, values in asked.filters.items():
            query = query.where(usage_series.c[COLUMN[name]].in_(values))
        is_whole = asked.interval == "none" and not asked.by and not by_bucket
        parts.append(query if is_whole else query.group_by(*grouped))
    if len(parts) == 1:
        return parts[0]
    every = union_all(*parts).subquery()
    names = ["bin", *(f"by_{name}" for name in asked.by), *(["le_ms"] if by_bucket else [])]
    keys = [every.c[name] for name in names]
    summed = [func.sum(every.c[name]).label(name) for name in measures]
    return select(*keys, *summed).group_by(*keys)


def bin_of(asked: Question, at: ColumnElement[Any], period: str) -> ColumnElement[Any]:
    """The hour, day or month of an hour or day; literals, no parameters: PostgreSQL would take
    those of GROUP BY for others."""
    if asked.interval == "none":
        return literal_column("(0 + 0)")  # a bare number would be a column's place
    if asked.interval == period:
        return at
    if asked.interval == "day":
        return at // literal_column(str(DAY_HOURS))
    per = {"hour": 1, "day": DAY_HOURS}[period]
    months = months_between(asked.start_ns, asked.end_ns)
    later: list[Any] = [
        (at >= literal_column(str(hour // per)), literal_column(str(number)))
        for number, hour in reversed(months[1:])
    ]
    first: ColumnElement[Any] = literal_column(f"({months[0][0]} + 0)")
    return case(*later, else_=first) if later else first


_Times = dict[tuple[Any, ...], dict[str, dict[int, int]]]


def _times(connection: Connection, asked: Question, shown: Sequence[Any]) -> _Times:
    """By row of the page, its histograms."""
    bins = [int(row["bin"]) for row in shown]
    if not is_summed(asked):
        return times_of_events(connection, asked, shown, bin_of)
    within = [
        usage_series.c[COLUMN[name]].in_({row[f"by_{name}"] for row in shown}) for name in asked.by
    ]
    narrowed = _narrowed(asked, bins)
    segments = segments_of(narrowed, KNOWN, of="times")
    query = _added(narrowed, segments, HISTOGRAMS, TIMES, within=within, by_bucket=True)
    found: _Times = {}
    for row in connection.execute(query).mappings():
        mine = found.setdefault(_key(asked, row), {name: {} for name in TIMES})
        for name in TIMES:
            if row[name]:
                mine[name][int(row["le_ms"])] = int(row[name])
    return found


def _narrowed(asked: Question, bins: Sequence[int]) -> Question:
    """The part of the range that a page is about."""
    if asked.interval == "none":
        return asked
    start_ns = start_of_bin_ns(asked.interval, min(bins), asked)
    end_ns = start_of_bin_ns(asked.interval, max(bins) + 1, asked)
    start_ns, end_ns = max(asked.start_ns, start_ns), min(asked.end_ns, end_ns)
    return replace(asked, start_ns=start_ns, end_ns=end_ns)
