"""A latency target from the request to the invoice: kept, or missed and paid back, to the nano."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import aiohttp
import pytest
from fixtures_door import KEY, OpenDoor, RunningDoor, settings, tenant
from fixtures_ledger import BOOK, book
from fixtures_upstream import (
    DONE,
    FINISH,
    Act,
    ScriptedUpstream,
    completion,
    delta,
    streamed,
    usage_event,
)

from metering.clock import now_ns
from metering.events import UsageEvent
from metering.memory_caps import MemoryCaps
from metering.settlement.ledger.queries import invoice_report
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.verify import verify
from proxy.settings import Settings
from routing.upstreams import Model, Upstream

TARGET = "x-weir-target-latency-ms"
AGES_MS = "3600000"
LATE_S = 0.03
"""Longer than the target of a millisecond."""


def configured(
    upstream: ScriptedUpstream,
    *,
    credit_ppm: int = 100_000,
    promised_ms: int | None = None,
    may_set: bool = True,
) -> Settings:
    model = Model("m", (Upstream("one", "gpt-4o", "m"),), target_latency_ms=promised_ms)
    who = replace(tenant(), targets_earn_credit=may_set)
    made = settings({"one": upstream.url}, models={"m": model}, who=who)
    return replace(made, prices=BOOK, sla_credit_ppm=credit_ppm)


async def chat(door: RunningDoor, target: str, **fields: bool) -> aiohttp.ClientResponse:
    """A chat completion with a target in its header."""
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    headers = {"Authorization": f"Bearer {KEY}", TARGET: target}
    answer = await door.http.post(f"{door.url}/v1/chat/completions", json=body, headers=headers)
    door.answers.append(answer)
    return answer


async def late(door: RunningDoor, upstream: ScriptedUpstream, **fields: bool) -> int:
    """An answer that comes later than its target of a millisecond; its status."""
    asyncio.get_running_loop().call_later(LATE_S, upstream.proceed.set)
    answer = await chat(door, "1", **fields)
    await answer.read()
    return answer.status


async def test_a_missed_target_is_paid_back_through_to_the_invoice(
    open_door: OpenDoor, upstream: ScriptedUpstream, ledger: Ledger
) -> None:
    """A tenth less in the caps, in the event, in the answer's header, in the ledger and on the
    invoice, where it is a line of its own; an answer in time costs what it costs."""
    upstream.scripts = [
        [Act.WAIT, completion(prompt=333, output=77)],
        [completion(prompt=500, output=200)],
    ]
    door = await open_door(configured(upstream))

    assert await late(door, upstream) == 200
    kept = await chat(door, AGES_MS)

    missed_event, kept_event = door.events
    full = 333 * 5_000 + 77 * 15_000
    assert (missed_event.target_latency_ms, missed_event.sla_met) == (1, False)
    assert missed_event.sla_credit_nano == full // 10
    assert missed_event.admission_nano == full - full // 10
    assert missed_event.cost_nano == full
    assert (kept_event.sla_met, kept_event.sla_credit_nano) == (True, 0)
    assert kept.headers["x-weir-cost-usd"] == "0.005500000"
    assert isinstance(door.caps, MemoryCaps)
    _same_everywhere(door.events, door.caps, ledger)


def _same_everywhere(events: list[UsageEvent], caps: MemoryCaps, ledger: Ledger) -> None:
    total = sum(event.admission_nano for event in events)
    (scope,) = caps.model.scopes.values()
    assert [window.spent.nano for window in scope.windows.values()] == [total]
    report = book(ledger, events)
    assert report.differences == ()
    month = _year_month(events[0])
    invoice = invoice_report(ledger, "acme", month)
    assert invoice is not None
    assert invoice.invoice["total_nano"] == total
    lines = [line for line in invoice.invoice["lines"] if line["kind"] == "credit"]
    assert [(line["unit"], line["amount_nano"]) for line in lines] == [
        ("sla_credit", -sum(event.sla_credit_nano for event in events))
    ]
    assert verify(ledger) == []


def _year_month(event: UsageEvent) -> str:
    return datetime.fromtimestamp(event.occurred_at // 1_000_000_000, UTC).strftime("%Y-%m")


async def test_a_stream_is_timed_to_its_first_byte(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """What is late is the first byte; a stream in time that goes on for long is in time."""
    steps = streamed(delta("hi"), FINISH, usage_event(10, 1), DONE)
    upstream.scripts = [[Act.WAIT, *steps], [*steps[:2], Act.WAIT, *steps[2:]]]
    door = await open_door(configured(upstream))

    assert await late(door, upstream, stream=True) == 200
    asyncio.get_running_loop().call_later(LATE_S, upstream.proceed.set)
    began = now_ns()
    answer = await chat(door, AGES_MS, stream=True)
    await answer.read()

    assert now_ns() - began >= LATE_S * 1e9 * 0.9
    assert [event.sla_met for event in door.events] == [False, True]


@pytest.mark.parametrize(
    ("promised_ms", "may_set", "asked_ms", "is_credited"),
    [
        pytest.param(None, False, "1", False, id="nothing was promised"),
        pytest.param(3_600_000, False, "1", False, id="in time as promised"),
        pytest.param(1, False, "2", True, id="later than promised"),
        pytest.param(1, False, AGES_MS, False, id="waived"),
        pytest.param(3_600_000, True, "1", True, id="may set its own"),
    ],
)
async def test_credits_are_for_what_was_promised(
    open_door: OpenDoor,
    upstream: ScriptedUpstream,
    promised_ms: int | None,
    may_set: bool,
    asked_ms: str,
    is_credited: bool,
) -> None:
    """A target in a header is told with whether it was met; it makes no discount of its own."""
    upstream.scripts = [[Act.WAIT, completion(prompt=500, output=200)]]
    door = await open_door(configured(upstream, promised_ms=promised_ms, may_set=may_set))

    asyncio.get_running_loop().call_later(LATE_S, upstream.proceed.set)
    await chat(door, asked_ms)

    (event,) = door.events
    assert (event.target_latency_ms, event.sla_met) == (int(asked_ms), asked_ms == AGES_MS)
    assert event.sla_credit_nano == (550_000 if is_credited else 0)


async def test_what_is_not_served_has_met_no_target(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """A failed attempt is neither in time nor late, and costs nothing to take off from."""
    upstream.scripts = [[Act.CLOSE]]
    door = await open_door(configured(upstream))

    assert (await chat(door, "1")).status == 502

    (event,) = door.events
    assert (event.target_latency_ms, event.sla_met, event.sla_credit_nano) == (1, None, 0)


async def test_the_model_has_a_target_that_a_request_can_change(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """`models.X.target_latency_ms` holds for requests that name none; without a credit share a
    late answer costs what it costs."""
    upstream.scripts = [[completion()]]
    made = configured(upstream, credit_ppm=0)
    models = {"m": replace(made.models["m"], target_latency_ms=5_000)}
    door = await open_door(replace(made, models=models))

    await door.chat()
    await chat(door, AGES_MS)

    assert [event.target_latency_ms for event in door.events] == [5_000, 3_600_000]
    assert {event.sla_credit_nano for event in door.events} == {0}


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "soon", "3600001", "9" * 30])
async def test_a_target_that_is_none_is_refused(
    open_door: OpenDoor, upstream: ScriptedUpstream, value: str
) -> None:
    """A malformed header is a 400 that names it."""
    door = await open_door(configured(upstream))

    answer = await chat(door, value)

    assert answer.status == 400
    assert (await answer.json())["error"]["param"] == TARGET
