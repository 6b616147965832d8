"""The review queue: who spends too fast, and what a person decides about it."""

from __future__ import annotations

from typing import Any

from redis.exceptions import RedisError

from metering.clock import now_ns
from metering.settlement.anomalies import Verdict, is_waiting
from metering.settlement.ledger.reviews import (
    DecidedBeforeError,
    Decision,
    Item,
    all_items,
    decide,
    find_item,
)
from metering.settlement.ledger.store import Ledger
from proxy.admin.deciding import lift, seen_nano
from proxy.admin.errors import Conflict, FieldRefused, NotFound
from proxy.admin.pages import AMOUNT, PAGE, REASON, TENANT, listed, nano_of, page, with_usd
from proxy.admin.routes import BASE, Answer, Call, Param, Role, Route
from proxy.admin.rows import review_row

_VERDICTS = [verdict.value for verdict in Verdict]


async def list_reviews(call: Call) -> Answer:
    """What waits for a decision, the oldest first; with `all` what is over as well."""
    tenant, every = call.query.get("tenant"), call.query.get("all") == "true"
    items = await call.console.ask(lambda ledger: all_items(ledger, tenant=tenant))
    rows = [with_usd(review_row(each)) for each in items if every or is_waiting(each.case)]
    return Answer(page(rows, lambda row: row["id"], call.query))


async def show_review(call: Call) -> Answer:
    """One item."""
    return Answer(with_usd(review_row(await _find(call))))


async def decide_review(call: Call) -> Answer:
    """Decide; the same decision once more changes nothing."""
    item, body, console = await _find(call), call.body, call.console
    verdict = Verdict(body["verdict"])
    level = body.get("level_usd")
    if level is not None and verdict is not Verdict.REBASE:
        raise FieldRefused("level_usd goes with the verdict rebase alone.", param="level_usd")
    level_nano = None if level is None else nano_of(level, "level_usd")

    def act(ledger: Ledger) -> bool:
        nano = level_nano
        if verdict is Verdict.REBASE and nano is None:
            nano = seen_nano(ledger, item)
        decision = Decision(verdict, nano, call.who.id, body["reason"].strip(), now_ns())
        return decide(ledger, item.id, decision)

    try:
        is_new = await console.ask(act)
    except DecidedBeforeError as error:
        raise Conflict(f"{error}.") from None
    left = await _lifted_later(call, item)
    row = with_usd(review_row(await _find(call)))
    return Answer(
        {**row, "was_new": is_new, "left_to_worker": left},
        target=f"reviews/{item.id}",
        after={"verdict": verdict.value, "reason": body["reason"], "tenant": item.tenant},
    )


async def _lifted_later(call: Call, item: Item) -> bool:
    """Lift what the decision lets go; whether that is left to the worker, Redis being away."""
    console = call.console

    def apart() -> bool:
        import asyncio  # noqa: PLC0415 - a loop of its own, as the ledger is read in between

        async def work() -> None:
            client = console.new_client()
            try:
                await lift(console.settings, console.ledger(), client, item.id)
            finally:
                await client.aclose()

        try:
            asyncio.run(work())
        except (RedisError, OSError):
            return True
        return False

    return await console.in_thread(apart)


async def _find(call: Call) -> Item:
    number = call.path["item"]
    if number.isdigit() and len(number) < 19:
        item = await call.console.ask(lambda ledger: find_item(ledger, int(number)))
        if item is not None:
            return item
    raise NotFound(f"There is no review item {number!r}.")


_ALL_ITEMS: dict[str, Any] = {"type": "boolean"}

ROUTES = (
    Route(
        "GET",
        f"{BASE}/reviews",
        Role.VIEWER,
        list_reviews,
        summary="What waits for a decision, the oldest first",
        tag="reviews",
        query=(*PAGE, TENANT, Param("all", "What is decided or over as well", _ALL_ITEMS)),
        answer=listed(),
    ),
    Route(
        "GET",
        f"{BASE}/reviews/{{item}}",
        Role.VIEWER,
        show_review,
        summary="One item of the review queue",
        tag="reviews",
    ),
    Route(
        "POST",
        f"{BASE}/reviews/{{item}}/decide",
        Role.ADMIN,
        decide_review,
        summary="Let it go on, leave it paused, or take its level for usual",
        tag="reviews",
        body={
            "type": "object",
            "additionalProperties": False,
            "required": ["verdict", "reason"],
            "properties": {"verdict": {"enum": _VERDICTS}, "reason": REASON, "level_usd": AMOUNT},
        },
        audit="review.decide",
    ),
)
