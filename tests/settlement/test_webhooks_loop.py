"""From the ledger to a receiver on a real socket: every total, at least once, in order."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from aiohttp import web
from fixtures_ledger import book, make_event
from fixtures_worker import CollectingLog
from sqlalchemy import select

from metering.clock import now_ns
from metering.settlement.ledger import tables
from metering.settlement.ledger import webhook_book as hooks
from metering.settlement.ledger.outbox import put_alerts
from metering.settlement.ledger.rollups import update_rollups
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.webhook_tables import webhook_message
from metering.settlement.terms import Offer, Terms
from metering.settlement.webhooks import headers_of
from metering.settlement.webhooks_loop import WebhooksLoop
from metering.webhook_settings import EVENTS, WebhookEndpoint, WebhookFormat

KEY = bytes(range(24))
HOUR = 3_600_000_000_000
DAY = 24 * HOUR


@dataclass
class Receiver:
    """Keeps what it took; `answer(number)` is the status of the n-th request."""

    answer: Callable[[int], int] = lambda _number: 200
    taken: list[dict[str, Any]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    count: int = 0
    url: str = ""
    is_asked: asyncio.Event = field(default_factory=asyncio.Event)
    is_awake: asyncio.Event = field(default_factory=asyncio.Event)

    async def late(self, _request: web.Request) -> web.Response:
        """An answer that is long in coming."""
        self.is_asked.set()
        await self.is_awake.wait()
        return web.Response()

    async def take(self, request: web.Request) -> web.Response:
        raw, name = await request.read(), request.headers["webhook-id"]
        at_s = int(request.headers["webhook-timestamp"])
        signed = headers_of(name, raw, KEY, at_s=at_s)
        assert request.headers["webhook-signature"] == signed["webhook-signature"]
        self.count += 1
        status = self.answer(self.count)
        if status == 200:
            self.ids.append(name)
            self.taken.append(json.loads(raw))
        return web.Response(status=status)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made, app = Receiver(), web.Application()
    app.router.add_post("/hook", made.take)
    app.router.add_post("/late", made.late)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield made
    await runner.cleanup()


def endpoint(receiver: Receiver, *events: str, **changes: Any) -> WebhookEndpoint:
    made = WebhookEndpoint("erp", receiver.url, KEY, frozenset(events or EVENTS), since_ns=0)
    return replace(made, **changes)


def use(ledger: Ledger, **changes: Any) -> None:
    event = {"occurred_at": now_ns() // HOUR * HOUR - 3 * HOUR, **changes}
    book(ledger, [make_event(**event)])
    update_rollups(ledger)


def due_now(ledger: Ledger) -> None:
    """No retry is waited for."""
    with ledger.write() as connection:
        connection.execute(webhook_message.update().values(next_at=0))


def states(ledger: Ledger) -> list[str]:
    with ledger.read() as connection:
        return sorted(connection.execute(select(webhook_message.c.state)).scalars())


async def turn(ledger: Ledger, *endpoints: WebhookEndpoint) -> CollectingLog:
    log = CollectingLog()
    await WebhooksLoop(ledger, Offer(Terms(sinks=()), log), log=log).turn(endpoints)
    return log


async def test_an_hour_is_told_and_told_again_when_it_changed(
    ledger: Ledger, receiver: Receiver
) -> None:
    """As a whole each time, with a revision that rises; a turn without news says nothing."""
    erp = endpoint(receiver, "usage.hourly")
    use(ledger)
    await turn(ledger, erp)
    await turn(ledger, erp)
    use(ledger)
    await turn(ledger, erp)

    assert [each["type"] for each in receiver.taken] == ["usage.hourly"] * 2
    told = [each["data"] for each in receiver.taken]
    assert [each["revision"] for each in told] == [1, 2]
    counts = [
        {line["type"]: line["quantity"] for line in each["lines"]}["output_text"] for each in told
    ]
    assert counts == [200, 400]
    assert len(set(receiver.ids)) == 2
    assert "cost" not in json.dumps(told)


async def test_an_hour_that_is_not_over_waits(ledger: Ledger, receiver: Receiver) -> None:
    use(ledger, occurred_at=now_ns())

    await turn(ledger, endpoint(receiver))

    assert receiver.taken == []


async def test_what_was_before_an_endpoint_is_told_only_on_request(
    ledger: Ledger, receiver: Receiver
) -> None:
    """Without `since` it begins with what comes."""
    use(ledger)
    erp = endpoint(receiver, "usage.hourly", since_ns=None)
    await turn(ledger, erp)
    assert receiver.taken == []

    use(ledger, tenant="beta")
    await turn(ledger, erp)

    assert [each["data"]["tenant"] for each in receiver.taken] == ["beta"]


async def test_what_is_not_taken_comes_again_in_order(ledger: Ledger, receiver: Receiver) -> None:
    """The same id each time; another tenant's is not held back by it."""
    receiver.answer = lambda number: 503 if number == 1 else 200
    erp = endpoint(receiver, "usage.hourly")
    base = now_ns() // HOUR * HOUR
    for hours in (5, 4):
        use(ledger, occurred_at=base - hours * HOUR)
    use(ledger, tenant="beta", occurred_at=base - 4 * HOUR)

    log = await turn(ledger, erp)
    first = list(receiver.taken)
    due_now(ledger)
    await turn(ledger, erp)

    assert "webhook_not_taken" in log.said
    assert [each["data"]["tenant"] for each in first] == ["beta"]
    acme = [each["data"]["hour"] for each in receiver.taken if each["data"]["tenant"] == "acme"]
    assert acme == sorted(acme)
    assert (len(acme), states(ledger)) == (2, ["sent"] * 3)


async def test_a_message_is_given_up_with_an_alert(ledger: Ledger, receiver: Receiver) -> None:
    """And sent after all when somebody says so; its own death is not told to the endpoint."""
    receiver.answer = lambda number: 500 if number < 3 else 200
    erp = endpoint(receiver, dead_after_s=0)
    use(ledger)
    await turn(ledger, erp)
    assert states(ledger) == ["dead"]
    with ledger.read() as connection:
        keys = [row.key for row in connection.execute(select(tables.outbox))]
    assert [key.partition(":")[0] for key in keys] == ["webhook_dead"]

    await turn(ledger, erp)
    assert hooks.retry(ledger, "erp", None, now_ns()) == 1
    receiver.count = 9
    await turn(ledger, erp)

    assert states(ledger) == ["sent"]


async def test_alerts_are_told_as_cloudevents(ledger: Ledger, receiver: Receiver) -> None:
    """Only those that are wanted, each once."""
    wanted = "alert.cap_mark", "credits.low"
    erp = endpoint(receiver, *wanted, format=WebhookFormat.CLOUDEVENTS)
    await turn(ledger, erp)
    with ledger.write() as connection:
        alerts = [("cap_mark:acme:1", {"tenant": "acme"}), ("backlog:1", {})]
        alerts.append(("low_balance:beta:1", {"tenant": "beta"}))
        put_alerts(connection, alerts, now_ns())
    await turn(ledger, erp)
    await turn(ledger, erp)

    event, low = sorted(receiver.taken, key=lambda each: each["subject"])
    assert (low["type"], low["subject"]) == ("tokenweir.credits.low", "beta")
    assert (event["type"], event["subject"]) == ("tokenweir.alert.cap_mark", "acme")
    assert event["source"].startswith("urn:tokenweir:")
    assert event["data"]["key"] == "cap_mark:acme:1"
    assert {event["id"], low["id"]} == set(receiver.ids)


async def test_a_closed_month_is_told_once(ledger: Ledger, receiver: Receiver) -> None:
    body = {"tenant": "acme", "period": "2026-10", "lines": [{"a": 1}], "total_nano": 5_000_000_000}
    row = {
        "tenant": "acme",
        "period": "2026-10",
        "body": json.dumps(body).encode(),
        "sha256": "00",
        "closed_at": now_ns(),
    }
    with ledger.write() as connection:
        connection.execute(tables.plan_statement.insert().values(row))
    erp = endpoint(receiver, "invoice.closed")
    await turn(ledger, erp)
    await turn(ledger, erp)

    [told] = [each["data"] for each in receiver.taken]
    assert (told["period"], told["amount_usd"]) == ("2026-10", "5.000000000")


async def test_a_receiver_that_is_gone_says_no_address(ledger: Ledger) -> None:
    """Neither the log nor the row shows it: its path may be a credential."""
    gone = WebhookEndpoint(
        "erp", f"http://127.0.0.1:1/{b64encode(KEY).hex()}", KEY, frozenset(EVENTS), since_ns=0
    )
    use(ledger)

    log = await turn(ledger, gone)

    assert "webhook_not_taken" in log.said
    assert "127.0.0.1" not in repr(log.lines)


async def test_the_loop_goes_by_the_terms_that_hold(ledger: Ledger, receiver: Receiver) -> None:
    """An endpoint that is added while it runs is told."""
    log, over = CollectingLog(), asyncio.Event()
    offer = Offer(Terms(sinks=()), log)
    use(ledger)

    async with asyncio.TaskGroup() as group:
        group.create_task(WebhooksLoop(ledger, offer, log=log).run(over))
        offer.put(Terms(sinks=(), webhooks=(endpoint(receiver, "usage.hourly"),)))
        async with asyncio.timeout(9):
            while not receiver.taken:
                await asyncio.sleep(0.05)
        over.set()

    assert len(receiver.taken) == 1


async def test_a_receiver_that_answers_late_holds_back_nobody_else(
    ledger: Ledger, receiver: Receiver
) -> None:
    """What comes up while it is waited for goes to the others at once."""
    slow = endpoint(receiver, name="slow", url=receiver.url.replace("hook", "late"))
    log, over = CollectingLog(), asyncio.Event()
    offer = Offer(Terms(sinks=(), webhooks=(slow,)), log)
    use(ledger)

    async with asyncio.TaskGroup() as group, asyncio.timeout(9):
        group.create_task(WebhooksLoop(ledger, offer, log=log).run(over))
        await receiver.is_asked.wait()
        offer.put(Terms(sinks=(), webhooks=(slow, endpoint(receiver))))
        while states(ledger) != ["new", "sent"]:
            await asyncio.sleep(0.05)
        receiver.is_awake.set()
        over.set()

    assert states(ledger) == ["sent", "sent"]
