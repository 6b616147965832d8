"""What the ledger has of a provider's usage, as a comparison with the provider takes it.

Read tenant by tenant, each by its index over time: a whole ledger is many times a week of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

import orjson
from sqlalchemy import Connection, Row, func, select

from metering.events import Kind, Reason
from metering.settlement.exports.rows import REQUESTS
from metering.settlement.ledger import tables
from metering.settlement.ledger.rows import decode_amounts
from metering.settlement.reconcile import OwnUsage

_DAY_NS = 86_400 * 10**9
_FETCH = 1_000
_EVENT = tables.usage_event.c


def own_usage(connection: Connection, provider: str, since: str, until: str) -> list[OwnUsage]:
    """What the ledger has of a provider from one day to before another, by everything that a
    comparison goes by. Answers out of our cache are not the provider's."""
    first_ns, end_ns = start_ns(since), start_ns(until)
    sums: dict[tuple[str, ...], list[int]] = {}
    for tenant in _tenants(connection):
        query = (
            select(_EVENT.occurred_at, _EVENT.kind, _EVENT.model_upstream, _EVENT.project)
            .add_columns(_EVENT.api_key_id, _EVENT.amounts, _EVENT.unpriced, _EVENT.payload)
            .where(_EVENT.tenant == tenant, _EVENT.provider == provider)
            .where(_EVENT.occurred_at >= first_ns, _EVENT.occurred_at < end_ns)
            .where(_EVENT.reason_code != Reason.CACHE_HIT)
            .execution_options(yield_per=_FETCH)
        )
        for row in connection.execute(query):
            _add_event(sums, tenant, row)
    names = ("day", "model", "unit", "tier", "tenant", "project", "key", "upstream")
    return [
        OwnUsage(
            **dict(zip(names, key, strict=True)),
            quantity=quantity,
            cost_nano=cost,
            sell_nano=sell,
            unpriced=unpriced,
        )
        for key, (quantity, cost, sell, unpriced) in sorted(sums.items())
    ]


def _add_event(sums: dict[tuple[str, ...], list[int]], tenant: str, row: Row[Any]) -> None:
    said = orjson.loads(row.payload)
    tier = str(said.get("service_tier") or said.get("price_tier") or "standard").lower()
    tier = "standard" if tier in ("default", "auto") else tier
    model = said.get("model_answered") or row.model_upstream
    head = (_day(row.occurred_at), model)
    place = (tier, tenant, row.project, row.api_key_id, row.model_upstream)
    sign = -1 if row.kind in (Kind.CORRECTION, Kind.ADJUSTMENT) else 1
    amounts = decode_amounts(row.amounts)
    for unit, (quantity, _, sell_nano, cost_nano, *_) in amounts.items():
        found = sums.setdefault((*head, unit, *place), [0, 0, 0, 0])
        more = (quantity, cost_nano, sell_nano, sign if row.unpriced else 0)
        for n, each in enumerate(more):
            found[n] += each
    if row.kind in (Kind.USAGE, Kind.CORRECTION) and any(each[0] for each in amounts.values()):
        sums.setdefault((*head, REQUESTS, *place), [0, 0, 0, 0])[0] += sign


def _tenants(connection: Connection) -> Iterator[str]:
    """Every tenant with events, each found by a step in the index."""
    after = ""
    while True:
        query = select(func.min(_EVENT.tenant)).where(_EVENT.tenant > after)
        found = connection.execute(query).scalar()
        if found is None:
            return
        yield found
        after = found


def start_ns(day: str) -> int:
    """When a UTC day begins."""
    return (date.fromisoformat(day) - date(1970, 1, 1)).days * _DAY_NS


def _day(time_ns: int) -> str:
    return date.fromordinal(date(1970, 1, 1).toordinal() + time_ns // _DAY_NS).isoformat()
