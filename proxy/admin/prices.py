"""Prices: the book in force, what was published, what the file would change, the review."""

from __future__ import annotations

from typing import Any

from metering.clock import now_ns
from metering.settlement.ledger.store import Ledger
from proxy.admin.errors import FieldRefused, NotFound
from proxy.admin.pages import with_usd
from proxy.admin.routes import BASE, Answer, Call, Param, Role, Route
from proxy.cli_price_asked import (
    BookNotFoundError,
    bodies_against,
    differences,
    price_history,
    reviewed,
    usage_change,
)
from proxy.cli_times import parse_since_ns
from proxy.price_rows import book_row, price_rows

_AT = Param("at", "RFC 3339, or back from now: `24h`, `7d`", {"type": "string", "maxLength": 40})
_SINCE = Param("since", "From then on: RFC 3339, or back from now", {"type": "string"})
MONTH_BACK, QUARTER_BACK = "30d", "91d"


async def show_book(call: Call) -> Answer:
    """The price book in force, and when others begin."""
    return Answer(book_row(call.console.settings.prices, _time(call, "at", "0s")))


async def show_model(call: Call) -> Answer:
    """Every rate of a model, by each of its upstreams."""
    settings, model = call.console.settings, call.path["model"]
    rows = price_rows(settings.prices.at(_time(call, "at", "0s")), settings.models, model)
    if not rows:
        raise NotFound(f"No model {model!r} is served.")
    return Answer({"data": rows, "next_cursor": None})


async def show_history(call: Call) -> Answer:
    """What was published, and what was rated again; the newest first."""
    return Answer(with_usd(await call.console.ask(price_history)))


async def show_difference(call: Call) -> Answer:
    """What the prices in use change, and what recent usage comes to by them."""
    against = call.query.get("against")
    if against is not None and ("/" in against or "." in against):
        raise FieldRefused("against is a version of the ledger, and no file.", param="against")
    prices, now = call.console.settings.prices, now_ns()
    since = _time(call, "since", MONTH_BACK)

    def ask(ledger: Ledger) -> dict[str, Any]:
        try:
            before = bodies_against(ledger, against, now)
        except BookNotFoundError:
            raise NotFound(f"The ledger has no price version {against!r}.") from None
        return {
            "against": before.name,
            "changes": differences(before, prices, now),
            "usage": usage_change(ledger, prices, since, now),
        }

    return Answer(with_usd(await call.console.ask(ask)))


async def show_review(call: Call) -> Answer:
    """Prices beside the vendors' lists, margins by model, and models whose cost has drifted."""
    settings, since = call.console.settings, _time(call, "since", QUARTER_BACK)
    found = await call.console.ask(lambda ledger: reviewed(ledger, settings, since, now_ns()))
    return Answer(with_usd(found))


def _time(call: Call, name: str, usual: str) -> int:
    try:
        return parse_since_ns(call.query.get(name, usual), now_ns())
    except ValueError as error:
        raise FieldRefused(f"{name}: {error}.", param=name) from None


ROUTES = (
    Route(
        "GET",
        f"{BASE}/prices",
        Role.BILLING,
        show_book,
        summary="The price book in force, and when others begin",
        tag="prices",
        query=(_AT,),
    ),
    Route(
        "GET",
        f"{BASE}/prices/models/{{model}}",
        Role.BILLING,
        show_model,
        summary="Every rate of a model",
        tag="prices",
        query=(_AT,),
    ),
    Route(
        "GET",
        f"{BASE}/prices/history",
        Role.BILLING,
        show_history,
        summary="What was published, and what was rated again",
        tag="prices",
    ),
    Route(
        "GET",
        f"{BASE}/prices/diff",
        Role.BILLING,
        show_difference,
        summary="What the prices in use change against what was published",
        tag="prices",
        query=(Param("against", "A price version of the ledger; the last one published"), _SINCE),
    ),
    Route(
        "GET",
        f"{BASE}/prices/review",
        Role.BILLING,
        show_review,
        summary="Prices beside the vendors' lists, margins, and drift",
        tag="prices",
        query=(_SINCE,),
    ),
)
