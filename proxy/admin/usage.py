"""Usage by whatever dimension, and the exchanges behind it: from a month to one request.

What providers charge, and what is earned, is for those who may see money: a viewer gets what was
sold, and cannot sort by the rest either.
"""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Iterator, Mapping
from itertools import islice
from typing import Any

from metering.clock import now_ns
from metering.ids import scope_id
from metering.settlement.analytics import DIMENSIONS, INTERVALS, SORTS, Question
from metering.settlement.ledger.analytics import usage, usage_rows
from metering.settlement.ledger.analytics_exchanges import Wanted, exchange, exchanges
from proxy.admin.errors import FieldRefused, NotFound
from proxy.admin.pages import LIMIT_MAX, LIMIT_USUAL, limit_of, listed, time_ns
from proxy.admin.routes import BASE, Answer, Call, Param, Role, Route
from proxy.admin.usage_csv import csv_rows

_TEXT = {"type": "string", "maxLength": 2_000}
_MONTH_NS = 30 * 24 * 3_600 * 10**9
_OF_MONEY = ("cost", "margin")
_CHUNK_ROWS = 500

_RANGE = (
    Param("from", "The first moment, RFC 3339; 30 days before `to` if left out", _TEXT),
    Param("to", "The moment after the last; now if left out", _TEXT),
)
_FILTERS = tuple(
    Param(name, f"Only of this {name}; several by commas, empty for what has none", _TEXT)
    for name in DIMENSIONS
)
_PAGE = (
    Param(
        "limit",
        f"Rows of a page; {LIMIT_USUAL} if left out",
        {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX},
    ),
    Param("cursor", "`next_cursor` of the page before", _TEXT),
)


async def show_usage(call: Call) -> Answer:
    """Rows of a page and the totals; or every row, as CSV."""
    question = _question(call)
    sees_cost = call.who.role.covers(Role.BILLING)
    if not sees_cost and question.sort in _OF_MONEY:
        raise FieldRefused(f"A viewer cannot sort by {question.sort}.", param="sort")
    if call.query.get("format") == "csv":
        await call.console.ask(lambda ledger: _refusing(lambda: usage(ledger, question)))
        headers = {"Content-Disposition": 'attachment; filename="usage.csv"'}
        stream = _csv(call, question, sees_cost=sees_cost)
        return Answer(stream=stream, content_type="text/csv", headers=headers)
    found = await call.console.ask(lambda ledger: _refusing(lambda: usage(ledger, question)))
    return Answer(found if sees_cost else without_cost(found))


async def list_exchanges(call: Call) -> Answer:
    """The newest first."""
    wanted = Wanted(_question(call), call.query.get("request"))
    found = await call.console.ask(lambda ledger: _refusing(lambda: exchanges(ledger, wanted)))
    return Answer(found if call.who.role.covers(Role.BILLING) else without_cost(found))


async def show_exchange(call: Call) -> Answer:
    """Everything of its events."""
    found = await call.console.ask(lambda ledger: exchange(ledger, call.path["exchange"]))
    if found is None:
        raise NotFound("The ledger has no such exchange; it may not be settled yet.")
    return Answer(found if call.who.role.covers(Role.BILLING) else without_cost(found))


def without_cost(told: Any) -> Any:
    """The same without what providers charge and what is earned, at any depth."""
    if isinstance(told, Mapping):
        return {
            name: without_cost(value)
            for name, value in told.items()
            if not str(name).startswith(("cost_", "margin_"))
        }
    return [without_cost(each) for each in told] if isinstance(told, list) else told


def _question(call: Call) -> Question:
    query = call.query
    end_ns = time_ns(query["to"], "to") if "to" in query else now_ns()
    start_ns = time_ns(query["from"], "from") if "from" in query else end_ns - _MONTH_NS
    by = tuple(dict.fromkeys(name for name in query.get("by", "").split(",") if name))
    if unknown := [name for name in by if name not in DIMENSIONS]:
        names = ", ".join(DIMENSIONS)
        raise FieldRefused(f"by: {unknown[0][:64]!r} is none of {names}.", param="by")
    filters = {name: _values(name, query[name]) for name in DIMENSIONS if name in query}
    if not start_ns < end_ns:
        raise FieldRefused("`from` must be before `to`.", param="from")
    return Question(
        max(start_ns, 0),
        end_ns,
        query.get("interval", "none"),
        by,
        filters,
        query.get("sort", "start"),
        limit_of(query),
        query.get("cursor"),
    )


def _values(name: str, text: str) -> tuple[str, ...]:
    values = text.split(",")
    return tuple(scope_id(each) if name == "user" and each else each for each in values)


def _refusing(ask: Any) -> Any:
    try:
        return ask()
    except ValueError as error:
        param = str(error).partition(":")[0]
        raise FieldRefused(f"{error}.", param=param if param.isidentifier() else None) from None


async def _csv(call: Call, question: Question, *, sees_cost: bool) -> AsyncIterator[bytes]:
    """A few hundred rows at a time, each read in a thread when the ones before are sent."""
    rows = csv_rows(usage_rows(call.console.ledger(), question), question, sees_cost=sees_cost)
    while chunk := await call.console.in_thread(_next_chunk, rows):
        yield chunk


def _next_chunk(rows: Iterator[list[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(islice(rows, _CHUNK_ROWS))
    return text.getvalue().encode()


ROUTES = (
    Route(
        "GET",
        f"{BASE}/usage",
        Role.VIEWER,
        show_usage,
        summary="Usage by any dimension, over time",
        tag="usage",
        query=(
            *_RANGE,
            Param("interval", "A row for each", {"type": "string", "enum": list(INTERVALS)}),
            Param("by", f"A row for each, by commas: {', '.join(DIMENSIONS)}", _TEXT),
            *_FILTERS,
            Param("sort", "By time, or the largest first", {"type": "string", "enum": list(SORTS)}),
            *_PAGE,
            Param("format", "`csv` has every row", {"type": "string", "enum": ["json", "csv"]}),
        ),
        answer=listed(),
    ),
    Route(
        "GET",
        f"{BASE}/exchanges",
        Role.VIEWER,
        list_exchanges,
        summary="The exchanges behind it, the newest first",
        tag="usage",
        query=(
            *_RANGE,
            *_FILTERS,
            Param("request", "Only of this request id", _TEXT),
            *_PAGE,
        ),
        answer=listed(),
    ),
    Route(
        "GET",
        f"{BASE}/exchanges/{{exchange}}",
        Role.VIEWER,
        show_exchange,
        summary="One exchange with everything of its events",
        tag="usage",
        answer={"type": "object"},
    ),
)
