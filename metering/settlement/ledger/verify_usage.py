"""Whether the tables of analytics come to what the events come to: a part of `verify`.

At every level and by every period, through the event up to which they are summed, tenant by tenant
where a level tells tenants apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, case, func, inspect, select

from metering.events import Kind
from metering.settlement.ledger.analytics_tables import (
    HISTOGRAMS,
    LEVELS,
    PERIODS,
    SUMS,
    usage_mark,
    usage_series,
)
from metering.settlement.ledger.tables import usage_event

_EVENT, _SERIES = usage_event.c, usage_series.c
_ATTEMPTS = case((_EVENT.kind == Kind.ADJUSTMENT, 0), (_EVENT.kind == Kind.CORRECTION, -1), else_=1)

_Sums = dict[str, tuple[int, int, int]]


def verify_usage(connection: Connection) -> Iterator[str]:
    """What does not hold, in words; nothing of a ledger from before there were such tables."""
    if not inspect(connection).has_table(usage_mark.name):
        return
    by_tenant = _of_events(connection)
    whole = {"": _total(by_tenant)}
    for period in PERIODS:
        for level, found in _of_sums(connection, period).items():
            tells_tenants = "tenant" in LEVELS[level].dimensions
            expected = by_tenant if tells_tenants else whole
            for tenant in sorted(expected.keys() | found.keys()):
                ours, theirs = found.get(tenant, (0, 0, 0)), expected.get(tenant, (0, 0, 0))
                if ours != theirs:
                    whose = f" of tenant {tenant}" if tells_tenants else ""
                    yield (
                        f"usage_{period}, level {level}{whose}: {ours}, events {theirs} "
                        "(attempts, sold, cost)"
                    )
    yield from _verify_times(connection)


def _of_events(connection: Connection) -> _Sums:
    query = (
        select(_EVENT.tenant, func.sum(_ATTEMPTS), func.sum(_EVENT.sell_nano))
        .add_columns(func.sum(_EVENT.cost_nano))
        .join(usage_mark, usage_mark.c.shard == _EVENT.shard)
        .where(_EVENT.seq <= usage_mark.c.seq)
        .group_by(_EVENT.tenant)
    )
    return {row[0]: _three(row[1:]) for row in connection.execute(query)}


def _of_sums(connection: Connection, period: str) -> dict[str, _Sums]:
    table = SUMS[period].c
    measures = (table.attempts, table.sell_nano, table.cost_nano)
    query = (
        select(_SERIES.level, _SERIES.tenant, *(func.sum(each) for each in measures))
        .join_from(usage_series, SUMS[period], table.series == _SERIES.id)
        .group_by(_SERIES.level, _SERIES.tenant)
    )
    found: dict[str, _Sums] = {name: {} for name, level in LEVELS.items() if period in level.sums}
    for row in connection.execute(query):
        found.setdefault(row[0], {})[row[1]] = _three(row[2:])
    return found


def _verify_times(connection: Connection) -> Iterator[str]:
    """Histograms are of the same attempts, however they are cut up."""
    counts = {}
    for period in PERIODS:
        table = HISTOGRAMS[period].c
        query = (
            select(_SERIES.level, func.sum(table.latency), func.sum(table.ttft))
            .join_from(usage_series, HISTOGRAMS[period], table.series == _SERIES.id)
            .group_by(_SERIES.level)
        )
        for level, latency, ttft in connection.execute(query):
            counts[f"{level} by {period}"] = (int(latency), int(ttft))
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} {each}" for name, each in sorted(counts.items()))
        yield f"times are of different numbers of attempts (latency, ttft): {told}"


def _total(sums: _Sums) -> tuple[int, int, int]:
    return _three([sum(each[place] for each in sums.values()) for place in range(3)])


def _three(amounts: Any) -> tuple[int, int, int]:
    first, second, third = (int(each or 0) for each in amounts)
    return first, second, third
