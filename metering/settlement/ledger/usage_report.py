"""What was used, what it cost, what it was sold for, and the margin between: by whatever stands in
an event.

Reads only, one consistent view; `pending` is passed in by whoever asked the streams. Requests are
exchanges, however many attempts each took; an exchange counts in the row of its last attempt, so
the rows of a report sum to its totals. What an exchange spent on attempts that failed is a cost of
it, so it is in the margin, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, Row, Select, case, func, select

from metering.events import Kind, Reason
from metering.money import PPM
from metering.settlement.ledger.queries import knows, rfc3339, settled_through
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.tables import quantity_column, usage_event
from metering.usage import TOKEN_CLASSES

_EVENT = usage_event.c
_FETCH = 1_000
"""Rows read at a time: a month may have millions."""

_UNPRICED = (
    (_EVENT.unpriced.is_(False), 0),
    (_EVENT.kind.in_((Kind.CORRECTION, Kind.ADJUSTMENT)), -1),
    (_EVENT.unpriced.is_(True), 1),
)
"""How many unpriced events a row stands for: a correction takes one back, and so does what gives
one its price."""

_CHARGED = case(
    (_EVENT.reason_code == Reason.RERATED, _EVENT.sell_nano), else_=_EVENT.admission_nano
)
"""What was charged: as admitted, and what was rated again since, which no cap has counted."""

DIMENSIONS: dict[str, ColumnElement[Any]] = {
    "tenant": _EVENT.tenant,
    "project": _EVENT.project,
    "key": _EVENT.api_key_id,
    "feature": _EVENT.feature,
    "user": _EVENT.user_scope,
    "session": _EVENT.session,
    "run": _EVENT.run,
    "provider": _EVENT.provider,
    "model": _EVENT.model_upstream,
    "requested": _EVENT.model_requested,
    "cache": _EVENT.cache_status,
    "request": _EVENT.request_id,
}
"""What a report may have a row for each of. A user is their scope: text that is no id, hashed."""

USUAL = ("tenant", "model")
REQUEST = "request"

SORTS = ("name", "requests", "cost", "charged", "margin")
"""By name; what is largest first; of margins the smallest, for these are looked for."""

REQUESTS_MAX = 1_000
"""Rows of a report by request, which are as many as there are requests."""

_Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """Which events, what a row is, and which rows come first. `limit` None: all of them; by request
    there are never more than REQUESTS_MAX."""

    tenant: str | None = None
    since_ns: int | None = None
    by: tuple[str, ...] = USUAL
    sort: str = "name"
    limit: int | None = None

    @property
    def is_by_request(self) -> bool:
        """Whether there is a row for every request."""
        return REQUEST in self.by


def usage_report(
    ledger: Ledger, asked: Asked = Asked(), *, pending: int | None = None
) -> dict[str, Any] | None:
    """What was used; None when the ledger does not know the tenant.

    `{by, rows: [{<dimension>..., requests, units: {unit: n}, cost_nano, admission_nano,
    margin_nano, margin_ppm}], totals, more, settled_through, pending}`. A row by request has `at`.
    A row with nothing to show (every attempt failed, and something else answered) is left out.
    `margin_ppm` is the share of what was charged, None where that is nothing. `totals` are over all
    rows, also the `more` that are not shown; `totals.unpriced` counts the events that hold a unit
    without a rate.
    """
    chosen: list[ColumnElement[bool]] = []
    if asked.tenant is not None:
        chosen.append(_EVENT.tenant == asked.tenant)
    if asked.since_ns is not None:
        chosen.append(_EVENT.occurred_at >= asked.since_ns)
    with ledger.read() as connection:
        if asked.tenant is not None and not knows(connection, asked.tenant):
            return None
        if asked.is_by_request:
            found = _by_request(connection, asked, chosen)
        else:
            found = _grouped(connection, asked, chosen)
        rows, totals, more = found
        return {
            "by": list(asked.by),
            "rows": rows,
            "totals": totals,
            "more": more,
            "settled_through": settled_through(connection, asked.tenant),
            "pending": pending,
        }


_Found = tuple[list[dict[str, Any]], dict[str, Any], int]


def _grouped(connection: Connection, asked: Asked, chosen: list[ColumnElement[bool]]) -> _Found:
    """All rows, which are few; sorted here, since each database sorts text by rules of its own."""
    found = connection.execute(_usage_query(asked, chosen)).all()
    rows = _rows(connection, asked, found, chosen)
    rows = [row for row in rows if _shows_something(row)]
    totals = _totals(rows, unpriced=sum(row.unpriced for row in found))
    rows.sort(key=lambda row: _place(row, asked))
    shown = rows if asked.limit is None else rows[: asked.limit]
    return shown, totals, len(rows) - len(shown)


def _by_request(connection: Connection, asked: Asked, chosen: list[ColumnElement[bool]]) -> _Found:
    """The first rows, sorted by the database: there is one for each request."""
    limit = min(asked.limit or REQUESTS_MAX, REQUESTS_MAX)
    query = _usage_query(asked, chosen)
    query = query.order_by(*_order(asked), func.min(_EVENT.occurred_at).desc()).limit(limit)
    found = connection.execute(query).all()
    exchanges = sorted({row.exchange_id for row in found})
    rows = _rows(connection, asked, found, [*chosen, _EVENT.exchange_id.in_(exchanges)])
    counted = select(func.count()).select_from(_usage_query(asked, chosen).subquery())
    count = connection.execute(counted).scalar_one()
    if count == len(found):
        totals = _totals(rows, unpriced=sum(row.unpriced for row in found))
    else:
        _, totals, _ = _grouped(connection, Asked(by=("tenant",)), chosen)
    return rows, totals, count - len(found)


def _usage_query(asked: Asked, chosen: list[ColumnElement[bool]]) -> Select[Any]:
    quantities = [
        func.sum(_EVENT[quantity_column(unit)]).label(quantity_column(unit))
        for unit in TOKEN_CLASSES
    ]
    columns = _columns(asked)
    at = [func.min(_EVENT.occurred_at).label("at")] if asked.is_by_request else []
    return (
        select(
            *columns,
            *at,
            func.sum(_EVENT.cost_nano).label("cost_nano"),
            func.sum(_CHARGED).label("admission_nano"),
            func.sum(case(*_UNPRICED, else_=0)).label("unpriced"),
            *quantities,
        )
        .where(*chosen)
        .group_by(*columns)
    )


def _columns(asked: Asked) -> list[ColumnElement[Any]]:
    """What rows differ in; requests of two tenants, or by two senders, may have one name."""
    columns = [DIMENSIONS[name] for name in asked.by]
    own = [_EVENT.tenant, _EVENT.exchange_id] if asked.is_by_request else []
    return list(dict.fromkeys([*columns, *own]))


def _order(asked: Asked) -> list[ColumnElement[Any]]:
    cost, charged = func.sum(_EVENT.cost_nano), func.sum(_CHARGED)
    found: dict[str, list[ColumnElement[Any]]] = {
        "cost": [cost.desc()],
        "charged": [charged.desc()],
        "margin": [(charged - cost).asc()],
    }
    return found.get(asked.sort, [])


def _rows(
    connection: Connection,
    asked: Asked,
    found: Sequence[Row[Any]],
    chosen: list[ColumnElement[bool]],
) -> list[dict[str, Any]]:
    columns = [column.key for column in _columns(asked)]
    requests = _requests(connection, asked, chosen)
    other = _other_units(connection, asked, chosen)
    rows = []
    for row in found:
        key = tuple(getattr(row, str(name)) for name in columns)
        sums = {unit: getattr(row, quantity_column(unit)) for unit in TOKEN_CLASSES}
        units = {unit: int(n) for unit, n in sums.items() if n is not None}
        units.update(other.get(key, {}))
        named = dict(zip(asked.by, key, strict=False))
        if asked.is_by_request:
            named["at"] = rfc3339(int(row.at))
        amounts = int(row.cost_nano), int(row.admission_nano)
        rows.append(named | _figures(requests.get(key, 0), units, *amounts))
    return rows


def _figures(
    requests: int, units: dict[str, int], cost_nano: int, admission_nano: int
) -> dict[str, Any]:
    margin_nano = admission_nano - cost_nano
    return {
        "requests": requests,
        "units": units,
        "cost_nano": cost_nano,
        "admission_nano": admission_nano,
        "margin_nano": margin_nano,
        "margin_ppm": margin_nano * PPM // admission_nano if admission_nano > 0 else None,
    }


def _requests(
    connection: Connection, asked: Asked, chosen: list[ColumnElement[bool]]
) -> dict[_Key, int]:
    """By row, the exchanges whose last attempt belongs there."""
    columns = _columns(asked)
    place = func.row_number().over(
        partition_by=(_EVENT.tenant, _EVENT.exchange_id),
        order_by=(_EVENT.attempt.desc(), _EVENT.event_id.desc()),
    )
    attempts = (
        select(*columns, place.label("place"))
        .where(_EVENT.kind == Kind.USAGE, *chosen)  # a correction is no request
        .subquery()
        .c
    )
    own = [attempts[str(column.key)] for column in columns]
    query = select(*own, func.count()).where(attempts.place == 1).group_by(*own)
    return {tuple(row[:-1]): row[-1] for row in connection.execute(query)}


def _other_units(
    connection: Connection, asked: Asked, chosen: list[ColumnElement[bool]]
) -> dict[_Key, dict[str, int]]:
    """Units that are no tokens, by row; rare, so they are summed here."""
    query = (
        select(*_columns(asked), _EVENT.q_other)
        .where(_EVENT.q_other.is_not(None), *chosen)
        .execution_options(yield_per=_FETCH)
    )
    sums: dict[_Key, dict[str, int]] = {}
    for *key, text in connection.execute(query):
        _add(sums.setdefault(tuple(key), {}), orjson.loads(text))
    return sums


def _shows_something(row: dict[str, Any]) -> bool:
    amounts = (row["requests"], row["cost_nano"], row["admission_nano"])
    return any(amounts) or any(row["units"].values())


def _place(row: dict[str, Any], asked: Asked) -> tuple[Any, ...]:
    names = tuple(str(row[name] or "") for name in asked.by)
    by = {
        "requests": -row["requests"],
        "cost": -row["cost_nano"],
        "charged": -row["admission_nano"],
        "margin": row["margin_nano"],
    }
    return (by.get(asked.sort, 0), *names)


def _totals(rows: Iterable[dict[str, Any]], *, unpriced: int) -> dict[str, Any]:
    requests = cost_nano = admission_nano = 0
    units: dict[str, int] = {}
    for row in rows:
        _add(units, row["units"])
        requests += row["requests"]
        cost_nano += row["cost_nano"]
        admission_nano += row["admission_nano"]
    return _figures(requests, units, cost_nano, admission_nano) | {"unpriced": int(unpriced)}


NOTHING = _totals((), unpriced=0)
"""The totals of an empty ledger."""


def _add(sums: dict[str, int], more: dict[str, int]) -> None:
    for unit, quantity in more.items():
        sums[unit] = sums.get(unit, 0) + quantity
