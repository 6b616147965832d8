"""Attacks on what is done when upstreams fail, time runs out, or a price is another one: what is
billed, who is asked, and what is left behind."""

from __future__ import annotations

import asyncio

import pytest
from cache_samples import ask, keeping
from fixtures_door import OpenDoor, held, settings, tenant
from fixtures_upstream import (
    Act,
    ScriptedUpstream,
    body,
    chunk,
    completion,
    delta,
    scripted_upstream,
    stream_head,
)
from test_price_conditions import RULE
from test_price_conditions import answer as priced_answer

from proxy.settings import Server
from routing.conditions import When
from routing.retries import OnFailure
from routing.upstreams import Model, Terms, Upstream

TOO_LONG = body(
    {"error": {"message": "too long", "type": "x", "code": "context_length_exceeded"}}, 400
)


@pytest.mark.parametrize("terms", [Terms(), Terms(when=When(tags=("us",)))])
async def test_a_detour_goes_only_where_the_request_may_go(
    open_door: OpenDoor, upstream: ScriptedUpstream, terms: Terms
) -> None:
    """Neither a prompt that is too long nor a policy leads a request out of its tags."""
    upstream.scripts = [[TOO_LONG]]
    async with scripted_upstream() as elsewhere:
        elsewhere.scripts = [[completion("elsewhere")]]
        here = Terms(tags=frozenset({"eu"}))
        models = {
            "m": Model(
                "m",
                (Upstream("one", "up-m", "m", terms=here),),
                on_failure=OnFailure(context_fallbacks=("long",)),
            ),
            "long": Model("long", (Upstream("two", "up-l", "long", terms=terms),)),
        }
        door = await open_door(settings({"one": upstream.url, "two": elsewhere.url}, models=models))
        refused = await ask(door, headers={"x-weir-tags": "eu"})

        assert refused.status == 400
        assert elsewhere.received == []
        assert held(door) == []


DATES = (
    "Mon, 01 Jan 2024 00:00:00 +99999999999999999999",
    "Mon, 99999999999999999999 Jan 2024 00:00:00 GMT",
    "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
)


@pytest.mark.parametrize("date", DATES)
async def test_a_date_that_is_none_stops_no_fallback(
    open_door: OpenDoor, upstream: ScriptedUpstream, date: str
) -> None:
    """What an upstream writes into Retry-After is its word, and no fault of ours."""
    upstream.scripts = [[body({"error": {"message": "no"}}, 503, f"Retry-After: {date}\r\n")]]
    async with scripted_upstream() as other:
        other.scripts = [[completion("other")]]
        door = await open_door(settings({"one": upstream.url, "two": other.url}))
        found = await ask(door)

        assert found.status == 200
        assert held(door) == []


@pytest.mark.parametrize("key", [None, "abc"])
async def test_what_is_cut_at_a_stop_is_billed(
    open_door: OpenDoor, upstream: ScriptedUpstream, key: str | None
) -> None:
    """A stream that is asked for by way of the store is cut like every other one."""
    upstream.scripts = [[stream_head(), chunk(delta("Hello")), Act.HANG]]
    door = await open_door(keeping(upstream.url))
    headers = {} if key is None else {"Idempotency-Key": key}
    asking = asyncio.create_task(ask(door, stream=True, headers=headers))
    await asyncio.sleep(0.3)
    assert len(door.renewals) == 1

    door.door.lifecycle.is_stopping = True
    assert door.renewals.cut() == 1
    async with asyncio.timeout(3):
        while len(door.renewals):
            await asyncio.sleep(0.01)

    (event,) = door.events
    assert event.billable
    assert held(door) == []
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_deadline_of_its_own_is_no_way_to_pay_nothing(
    open_door: OpenDoor, upstream: ScriptedUpstream, stream: bool
) -> None:
    """The upstream has read the prompt by then: it is billed as if the client had left."""
    upstream.scripts = [[completion()], [Act.HANG]]
    door = await open_door(settings({"one": upstream.url}))
    await ask(door)  # encodings are loaded by then
    late = await ask(door, stream=stream, headers={"x-weir-deadline-ms": "500"})

    assert late.status == 504
    _, event = door.events
    assert (event.billable, event.reason_code) == (True, "partial")
    assert event.admission_nano > 0
    assert not event.client_disconnected
    assert held(door) == []


async def test_a_deadline_of_the_configuration_costs_nothing_before_the_first_event(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """It is the operator's, also where the client asks for a longer one."""
    upstream.scripts = [[Act.HANG]]
    door = await open_door(settings({"one": upstream.url}, server=Server(deadline_s=0.1)))
    late = await ask(door, headers={"x-weir-deadline-ms": "60000"})

    assert late.status == 504
    assert [event.billable for event in door.events] == [False]


async def test_a_tier_that_is_asked_for_and_not_given_passes_no_cap(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Flex costs half; who answers at the list price has not been held for by half."""
    upstream.scripts = [[priced_answer(10, 1000, "default")]]
    configured = settings({"one": upstream.url}, rules=(RULE,), who=tenant("0.018"))
    door = await open_door(configured)
    refused = await ask(
        door, service_tier="flex", max_tokens=1000, headers={"x-weir-no-clamp": "1"}
    )

    assert refused.status == 400
    assert upstream.received == []
