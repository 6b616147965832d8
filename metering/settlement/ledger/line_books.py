"""The events behind a line of a statement, read from the ledger and proved by its digest.

A closed month's statement is of the events that were booked before its close: transactions are
numbered in the order in which they were booked, and no batch is booked while a month is closed, so
these are the first of the month by transaction. Their digest must be the statement's. What came
later belongs to the statements that say so, in the order in which these were closed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, select

from metering.plans import Plan
from metering.settlement.invoices import events_digest
from metering.settlement.ledger import tables
from metering.settlement.ledger.plan_books import (
    READ,
    Terms,
    closed_statement,
    grain_of_row,
    in_month,
    kept_plans,
    statement_of,
)
from metering.settlement.ledger.rows import decode_amounts
from metering.settlement.ledger.store import Ledger
from metering.settlement.line_events import Part, Priced, Seen, Unit, late_parts_of, parts_of
from metering.settlement.statements import read_terms
from metering.settlement.utc import start_of_day_ns

_EVENT = tables.usage_event.c
_FETCH = 1_000


class NoSuchLineError(LookupError):
    """The month has no line of that number."""


class NotTheEventsError(Exception):
    """The events in the ledger are not those that the statement was made from."""


@dataclass(frozen=True, slots=True)
class LineEvents:
    """A line with its events; `parts` sum to its amount, but for a line that is of none."""

    line: dict[str, Any]
    parts: tuple[Part, ...]
    is_closed: bool


def events_of_line(
    ledger: Ledger, tenant: str, period: str, number: int, terms: Terms
) -> LineEvents:
    """The events of line `number` (from 1) of a month's invoice, with the part of each.

    NoSuchLineError, NotTheEventsError, and the errors of `statement_of` for a month that is open.
    """
    closed = closed_statement(ledger, tenant, period)
    body = closed.body if closed else statement_of(ledger, tenant, period, terms).body()
    if not 1 <= number <= len(body["lines"]):
        count = len(body["lines"])
        raise NoSuchLineError(f"{period} of {tenant} has {count} lines, and none is {number}")
    line = {"line": number, **body["lines"][number - 1]}
    with ledger.read() as connection:
        plans = {**kept_plans(connection), **{plan.version: plan for plan in terms.plans}}
        if line["reference"]:
            parts = _late(connection, body, line, plans)
        else:
            priced = [Priced(term) for term in read_terms(body["terms"], plans)]
            days = [(each.term.start.isoformat(), each.term.end.isoformat()) for each in priced]
            at = days.index((line["from"], line["to"]))
            limit = body["event_count"] if closed else None
            found = _read(connection, tenant, period, limit=limit)
            _require_same(found, body["event_digest"], tenant, period)
            parts = parts_of(line, priced[at], _by_term(found, priced)[at])
    return LineEvents(line, tuple(parts), closed is not None)


def _late(
    connection: Connection,
    body: Mapping[str, Any],
    line: Mapping[str, Any],
    plans: Mapping[str, Plan],
) -> list[Part]:
    tenant, month = body["tenant"], line["reference"]
    table = tables.plan_statement.c
    query = select(table.body).where(table.tenant == tenant).order_by(table.closed_at, table.period)
    bodies = [orjson.loads(bytes(found)) for found in connection.execute(query).scalars()]
    original = next(each for each in bodies if each["period"] == month)
    before = original["event_count"]
    for each in bodies:
        if each["period"] == body["period"]:
            break
        before += each["late"].get(month, {"event_count": 0})["event_count"]
    count = body["late"][month]["event_count"]
    found = _read(connection, tenant, month, limit=before + count)
    first = found[: original["event_count"]]
    _require_same(first, original["event_digest"], tenant, month)
    if len(found) != before + count:
        raise _other(tenant, month)
    priced = [Priced(term) for term in read_terms(original["terms"], plans)]
    apart = _by_term(found[before:], priced)
    return late_parts_of(line, list(zip(priced, apart, strict=True)))


def _read(
    connection: Connection, tenant: str, month: str, *, limit: int | None
) -> list[tuple[Seen, str]]:
    """The month's billable events as they were booked, each with the hash of its body."""
    query = (
        select(_EVENT.event_id, *READ)
        .where(*in_month(tenant, month))
        .order_by(_EVENT.txn_id, _EVENT.event_id)
        .limit(limit)
        .execution_options(yield_per=_FETCH)
    )
    return [(_seen(row), row.payload_hash) for row in connection.execute(query)]


def _seen(row: Any) -> Seen:
    units = tuple(
        Unit(grain_of_row(row, unit, rate, *words), quantity, sell, cost)
        for unit, (quantity, rate, sell, cost, *words) in decode_amounts(row.amounts).items()
    )
    return Seen(row.event_id, row.request_id, row.occurred_at, units)


def _by_term(found: Sequence[tuple[Seen, str]], priced: Sequence[Priced]) -> list[list[Seen]]:
    starts = [start_of_day_ns(each.term.start) for each in priced]
    apart: list[list[Seen]] = [[] for _ in priced]
    for event, _ in found:
        apart[bisect_right(starts, event.occurred_at) - 1].append(event)
    return apart


def _require_same(found: Sequence[tuple[Seen, str]], digest: str, tenant: str, month: str) -> None:
    if events_digest(each for _, each in found) != digest:
        raise _other(tenant, month)


def _other(tenant: str, month: str) -> NotTheEventsError:
    return NotTheEventsError(
        f"the ledger's events of {tenant} for {month} are not those that the statement was made "
        "from: `weir ledger verify` says what was changed; of a month that is open, ask again"
    )
