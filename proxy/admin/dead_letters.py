"""Dead letters: events that could not be booked, booked after all, or closed with a reason."""

from __future__ import annotations

import asyncio
from typing import Any

from metering.clock import now_ns
from metering.settlement.ledger.dead_letters import (
    DeadLetter,
    close,
    dead_letters,
    find_dead_letter,
)
from metering.settlement.replay import Replay
from proxy.admin.errors import Conflict, NotFound
from proxy.admin.pages import PAGE, REASON, listed, page
from proxy.admin.replaying import replay_letters
from proxy.admin.routes import BASE, Answer, Call, Param, Role, Route
from proxy.admin.rows import letter_row


async def list_letters(call: Call) -> Answer:
    """Those that wait, the oldest first; with `all` those that were resolved as well."""
    reason, every = call.query.get("reason"), call.query.get("all") == "true"
    found = await call.console.ask(
        lambda ledger: dead_letters(ledger, reason=reason, with_resolved=every)
    )
    return Answer(page([letter_row(each) for each in found], lambda row: row["id"], call.query))


async def show_letter(call: Call) -> Answer:
    """One, with its bytes as they came."""
    letter = await _find(call)
    raw = letter.raw.decode(errors="backslashreplace")
    return Answer({**letter_row(letter), "raw": raw})


async def replay_letter(call: Call) -> Answer:
    """Send it into the ledger once more; nothing is booked twice."""
    letter, body, console = await _find(call), call.body, call.console
    mended = body.get("mended")
    request = Replay(call.who.id, mended.encode() if mended else None, body.get("force", False))

    def apart() -> list[dict[str, Any]]:
        async def work() -> list[dict[str, Any]]:
            client = console.new_client()
            try:
                ledger = console.ledger()
                return await replay_letters(ledger, client, console.keys, [letter], request)
            finally:
                await client.aclose()

        return asyncio.run(work())

    [result] = await console.in_thread(apart)
    if result["outcome"] == "refused":
        raise Conflict(f"Nothing was booked: {result['because']}.")
    return Answer(result, target=f"dead-letters/{letter.id}", after=result)


async def close_letter(call: Call) -> Answer:
    """Note that nothing will be booked for it; it stays in the ledger."""
    letter, reason = await _find(call), call.body["reason"].strip()
    is_closed = await call.console.ask(
        lambda ledger: close(ledger, letter, because=reason, by=call.who.id, now_ns=now_ns())
    )
    now = await _find(call)
    if not is_closed:
        raise Conflict(f"It was resolved before: {now.outcome}, by {now.resolved_by}.")
    after = {"outcome": now.outcome, "reason": reason}
    return Answer(letter_row(now), target=f"dead-letters/{letter.id}", after=after)


async def _find(call: Call) -> DeadLetter:
    number = call.path["letter"]
    if number.isdigit() and len(number) < 19:
        found = await call.console.ask(lambda ledger: find_dead_letter(ledger, int(number)))
        if found is not None:
            return found
    raise NotFound(f"There is no dead letter {number!r}.")


_ONE = f"{BASE}/dead-letters/{{letter}}"

ROUTES = (
    Route(
        "GET",
        f"{BASE}/dead-letters",
        Role.VIEWER,
        list_letters,
        summary="Events that could not be booked, the oldest first",
        tag="dead letters",
        query=(
            *PAGE,
            Param("reason", "Only where the reason holds this text"),
            Param("all", "Those that were resolved as well", {"type": "boolean"}),
        ),
        answer=listed(),
    ),
    Route(
        "GET",
        _ONE,
        Role.BILLING,
        show_letter,
        summary="One dead letter with its bytes",
        tag="dead letters",
    ),
    Route(
        "POST",
        f"{_ONE}/replay",
        Role.BILLING,
        replay_letter,
        summary="Book it after all",
        tag="dead letters",
        body={
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "mended": {
                    "type": "string",
                    "maxLength": 1_000_000,
                    "description": "The event as it should be, JSON as text",
                },
                "force": {
                    "type": "boolean",
                    "description": "Although its bytes or its id are in doubt",
                },
            },
        },
        audit="dead_letter.replay",
    ),
    Route(
        "POST",
        f"{_ONE}/close",
        Role.BILLING,
        close_letter,
        summary="Note that nothing will be booked for it",
        tag="dead letters",
        body={
            "type": "object",
            "additionalProperties": False,
            "required": ["reason"],
            "properties": {"reason": REASON},
        },
        audit="dead_letter.close",
    ),
)
