"""Usage that no price and no plan covers: what is on no line, and has to be said beside them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select

from metering.events import Kind
from metering.plans import Term
from metering.settlement.ledger import tables
from metering.settlement.ledger.plan_books import (
    READ,
    Terms,
    grain_of_row,
    in_month,
    kept_plans,
)
from metering.settlement.ledger.rows import decode_amounts
from metering.settlement.ledger.store import Ledger
from metering.settlement.line_events import Priced
from metering.settlement.statements import read_terms
from metering.settlement.utc import start_of_day_ns
from metering.usage import TOKEN_CLASSES, TOOL_UNITS

_EVENT = tables.usage_event.c
_FETCH = 1_000


def unpriced_in(ledger: Ledger, body: Mapping[str, Any], terms: Terms) -> int:
    """`unpriced_of` the month of a statement, by the terms that this is made with."""
    with ledger.read() as connection:
        return unpriced_of(
            connection, body["tenant"], body["period"], terms_in(connection, body, terms)
        )


def terms_in(connection: Connection, body: Mapping[str, Any], terms: Terms) -> tuple[Term, ...]:
    """The terms of a statement; its versions are in the ledger or, of an open month, given."""
    plans = {**kept_plans(connection), **{plan.version: plan for plan in terms.plans}}
    return read_terms(body["terms"], plans)


def unpriced_of(connection: Connection, tenant: str, period: str, terms: Sequence[Term]) -> int:
    """How many of the month's events hold a unit that has no price; corrections take theirs back.

    Under a plan only what the tenant would have to pay for counts: a unit that a charge covers, or
    that is free, needs no price of its own.
    """
    query = (
        select(*READ)
        .where(*in_month(tenant, period), _EVENT.unpriced.is_(True))
        .execution_options(yield_per=_FETCH)
    )
    priced = [Priced(term) for term in terms]
    starts = [start_of_day_ns(term.start) for term in terms]
    count = 0
    for row in connection.execute(query):
        if _is_missing(row, priced[bisect_right(starts, row.occurred_at) - 1]):
            count += -1 if row.kind == Kind.CORRECTION else 1
    return count


def _is_missing(row: Any, priced: Priced) -> bool:
    if priced.term.plan is None:
        return True
    return any(
        rate is None
        and (unit in TOKEN_CLASSES or unit in TOOL_UNITS)
        and priced.is_at_list_price(grain_of_row(row, unit, rate))
        for unit, (_, rate, *_) in decode_amounts(row.amounts).items()
    )
