"""A price that depends on tier, region and length: from the request to the invoice, to the nano."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from fixtures_door import KEY, OpenDoor, RunningDoor, rule, settings, tenant
from fixtures_ledger import CARDS, book
from fixtures_upstream import DONE, FINISH, ScriptedUpstream, body, delta, event, streamed, usage

from metering.caps import Hold
from metering.events import UsageEvent, decode
from metering.memory_caps import MemoryCaps
from metering.money import amount_nano
from metering.price_variants import ContextTier, Overlay, Variants
from metering.prices import PriceRule, RatesByModel
from metering.recovery import LostHold, recovery
from metering.settlement.ledger.queries import invoice_report
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.verify import verify
from metering.tenants import Principal
from proxy.admission import PromptCount, Routes
from proxy.attempts import Facts
from proxy.hold_facts import hold_facts, upstream_facts
from proxy.planning import Plan, plan
from proxy.settings import Settings
from proxy.wire.openai_chat.client import parse_request
from routing.upstreams import Model, Upstream

VARIANTS = Variants(
    context=(ContextTier(1000, Overlay(None, 2_000_000, 1_500_000)),),
    tiers={
        "flex": Overlay(None, 500_000, 500_000),
        "priority": Overlay(None, 2_000_000, 2_000_000),
    },
    regions={"eu": Overlay(None, 1_100_000, 1_100_000)},
)
RULE = PriceRule(
    model="up-m",
    input_rate_pico=2_500_000,
    output_rate_pico=15_000_000,
    class_rates_pico={"web_search": 10**10},
    multiplier_ppm=1_250_000,
    variants=VARIANTS,
)
IN, OUT = 3_125_000, 18_750_000
"""What the tenant pays at the list price, in pico-USD."""
FLEX, PRIORITY = (1_562_500, 9_375_000), (6_250_000, 37_500_000)


def configured(
    url: str, *, cap: str | None = "10.00", region: str | None = None, made: PriceRule = RULE
) -> Settings:
    found = settings(
        {"one": url},
        who=tenant(cap),
        rules=(made,),
        models={"m": Model("m", (Upstream("one", "up-m", "m", region=region),))},
    )
    for sell in (False, True):
        version = found.prices.sell_version if sell else found.prices.cost_version
        CARDS.add(RatesByModel(found.prices.body(sell=sell), version=version))
    one = replace(found.providers["one"], options={"formats": "openai_responses"})
    return replace(found, providers={"one": one})


def answer(prompt: int, output: int, tier: str | None = None) -> bytes:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "hi"},
        "finish_reason": "stop",
    }
    told = {"id": "c", "object": "chat.completion", "created": 1, "model": "up-m"}
    return body({**told, "choices": [choice], "usage": usage(prompt, output), "service_tier": tier})


ROWS: dict[str, tuple[dict[str, Any], str | None, str | None, int, tuple[int, int], str]] = {
    # request, reported, region, prompt -> rates of input and output, words
    "the list price": ({}, "default", None, 1000, (IN, OUT), ""),
    "nothing said": ({}, None, None, 10, (IN, OUT), ""),
    "long": ({}, "default", None, 1001, (6_250_000, 28_125_000), "prompts above 1000 tokens"),
    "flex": ({"service_tier": "flex"}, "flex", None, 10, FLEX, "service tier flex"),
    "not told": ({"service_tier": "flex"}, None, None, 10, FLEX, "service tier flex"),
    "turned down": ({"service_tier": "priority"}, "default", None, 10, (IN, OUT), ""),
    "by the account": ({}, "priority", None, 10, PRIORITY, "service tier priority"),
    "unknown": ({}, "scale", None, 10, PRIORITY, "service tier priority"),
    "in a region": ({}, "default", "eu", 10, (3_437_500, 20_625_000), "region eu"),
    "all at once": (
        {"service_tier": "flex"},
        "flex",
        "eu",
        2000,
        (3_437_500, 15_468_750),
        "service tier flex, prompts above 1000 tokens, region eu",
    ),
}


@pytest.mark.parametrize("name", ROWS)
async def test_what_is_billed_is_what_the_worker_books(
    open_door: OpenDoor, upstream: ScriptedUpstream, ledger: Ledger, name: str
) -> None:
    """The same amount in the caps, the event, the ledger and on the invoice, which says why."""
    fields, reported, region, prompt, rates, words = ROWS[name]
    upstream.scripts = [[answer(prompt, 7, reported)]]
    door = await open_door(configured(upstream.url, region=region))

    response = await door.chat(**fields)
    await response.read()

    (found,) = door.events
    assert response.status == 200
    assert found.admission_nano == amount_nano(prompt, rates[0]) + amount_nano(7, rates[1])
    assert (found.service_tier, found.region) == (reported, region)
    assert (found.usage_suspect is not None) == (name == "unknown")
    assert _spent(door) == found.admission_nano
    assert book(ledger, [found]).differences == ()
    invoice = invoice_report(ledger, "acme", _month(found))
    assert invoice is not None
    lines = [line for line in invoice.invoice["lines"] if line["unit"] != "api_call"]
    assert [line["rate_pico"] for line in lines] == list(rates)
    assert [line.get("variant", "") for line in lines] == [words, words]
    assert invoice.invoice["total_nano"] == found.admission_nano
    assert verify(ledger) == []


def _spent(door: RunningDoor) -> int:
    assert isinstance(door.caps, MemoryCaps)
    (scope,) = door.caps.model.scopes.values()
    return sum(window.spent.nano for window in scope.windows.values())


def _month(found: UsageEvent) -> str:
    return datetime.fromtimestamp(found.occurred_at // 10**9, UTC).strftime("%Y-%m")


async def test_the_last_word_of_a_stream_on_its_tier_holds(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """At first it may repeat what was asked for."""
    said = event({"choices": [], "usage": usage(10, 1), "service_tier": "flex"})
    upstream.scripts = [streamed(delta("hi", service_tier="auto"), FINISH, said, DONE)]
    door = await open_door(configured(upstream.url))

    await (await door.chat(stream=True, service_tier="auto")).read()

    assert (door.events[0].service_tier, door.events[0].price_tier) == ("flex", "flex")


async def test_a_stream_whose_prompt_passes_a_border_stays_within_its_cap(
    open_door: OpenDoor, upstream: ScriptedUpstream, ledger: Ledger
) -> None:
    """We counted a few tokens, the provider says 2,000 at the start: what is said after it is
    allowed and billed at the dearer rate, and ends at the cap."""
    word = delta(" word")
    told = event({"choices": [], "usage": usage(2000, 0)})
    said = streamed(delta("hi"), told, *[word] * 2000, FINISH, DONE)
    upstream.scripts = [[*said]]
    made = configured(upstream.url, cap="0.03")
    made = replace(made, default_output_tokens=64, stream_slice_tokens=32)
    door = await open_door(made)

    raw = await (await door.chat(stream=True)).read()

    (found,) = door.events
    long = (6_250_000, 28_125_000)
    output = found.units["output_text"]
    assert found.reason_code == "stopped_at_cap"
    assert raw.count(word) < 2000
    assert found.admission_nano == amount_nano(2000, long[0]) + amount_nano(output, long[1])
    assert 30_000_000 - 9 * 28_125 < found.admission_nano <= 30_000_000
    assert _spent(door) == found.admission_nano
    assert book(ledger, [found]).differences == ()


async def test_a_tier_without_a_price_is_refused_under_a_cap(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """By the field's name, before anything is sent; the list price needs no word."""
    upstream.scripts = [[answer(10, 7, "default")]]
    door = await open_door(configured(upstream.url, made=rule("up-m")))

    refused = await door.chat(service_tier="flex")
    served = await door.chat(service_tier="default")

    error = (await refused.json())["error"]
    assert (refused.status, error["code"], error["param"]) == (
        400,
        "model_not_priced",
        "service_tier",
    )
    assert "`flex`" in error["message"]
    assert served.status == 200
    assert len(upstream.received) == 1


async def test_without_a_cap_it_is_served_at_the_dearest_and_flagged(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Never at the list price in silence."""
    upstream.scripts = [[answer(10, 7)]]
    door = await open_door(configured(upstream.url, cap=None))

    served = await door.chat(service_tier="turbo")

    assert served.status == 200
    assert door.events[0].price_tier == "priority"
    assert door.events[0].usage_suspect == "the service tier `turbo` has no price"


def planned(made: Settings, prompt: int, **fields: Any) -> Plan:
    sent = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 10}
    request = parse_request(orjson.dumps({**sent, **fields}))
    route = Routes(made).find(made.tenants["acme"], "m")
    return plan(route, request, PromptCount({"up-m": prompt}))


HOLDS = {
    "short": (700, {}, 20, 20),
    "near the border": (900, {}, 40, 30),
    "just above it": (1100, {}, 40, 30),
    "long": (3000, {}, 40, 30),
    "flex": (10, {"service_tier": "flex"}, 20, 20),
    "priority": (10, {"service_tier": "priority"}, 40, 40),
    "long at priority": (3000, {"service_tier": "priority"}, 80, 60),
    "automatic": (10, {"service_tier": "auto"}, 20, 20),
}


@pytest.mark.parametrize("name", HOLDS)
def test_what_is_held(name: str) -> None:
    """At the tier that was asked for, no less than the list price, and near a border at the dearer
    side (T-55)."""
    prompt, fields, given, made = HOLDS[name]

    (option,) = planned(configured("http://x"), prompt, **fields).options

    expected = prompt * IN * given // 20 + 10 * OUT * made // 20
    assert option.hold.nano == -(-expected // 1000)


def test_an_account_on_a_tier_of_its_own_is_held_for() -> None:
    """Where requests name none, the rule says which it is."""
    made = replace(RULE, usual_tier="priority")

    (option,) = planned(configured("http://x", made=made), 10).options

    assert option.hold.nano == 2 * (10 * IN + 10 * OUT) // 1000


def test_a_killed_proxy_leaves_what_the_worker_rates_alike(ledger: Ledger) -> None:
    """The facts of a hold know tier and region; the cost they name is the ledger's to the nano."""
    made = configured("http://x", region="eu")
    who = made.tenants["acme"]
    found = planned(made, 3001, service_tier="flex")
    exchange = "0193e5b8-0000-7000-8000-000000000001"
    facts = Facts(exchange, "r", Principal(who, who.keys[0]), "p-0", 10**18, "m", stream=False)
    noted = hold_facts(facts, upstream_facts(found, made))

    lost = LostHold(Hold("acme", exchange, ()), "p-0", "one/up-m", 10**12, facts=noted)
    (recovered,) = map(decode, recovery(lost).events)

    assert (recovered.price_tier, recovered.region) == ("flex", "eu")
    assert recovered.cost_nano == round(3001 * 2_500_000 * 2 * 0.5 * 1.1 / 1000)
    assert book(ledger, [recovered]).differences == ()


async def _respond(door: RunningDoor, **fields: Any) -> Any:
    headers = {"Authorization": f"Bearer {KEY}"}
    sent = {"model": "m", "input": "hi", "max_output_tokens": 16, **fields}
    found = await door.http.post(f"{door.url}/v1/responses", json=sent, headers=headers)
    door.answers.append(found)
    return found


def _response(*items: dict[str, Any], told: int | None = None) -> bytes:
    spent = {"input_tokens": 10, "output_tokens": 7, "total_tokens": 17}
    text = {"type": "message", "content": [{"type": "output_text", "text": "hi"}]}
    made: dict[str, Any] = {"id": "resp_1", "object": "response", "status": "completed"}
    if told is not None:
        made["tool_usage"] = {"web_search": {"num_requests": told}}
    return body({**made, "model": "up-m", "output": [*items, text], "usage": spent})


async def test_searches_are_billed_beside_tokens(
    open_door: OpenDoor, upstream: ScriptedUpstream, ledger: Ledger
) -> None:
    """Two at 0.0125 USD for the tenant, whatever tier the tokens have; booked alike."""
    upstream.scripts = [[_response({"type": "web_search_call"}, told=2)]]
    door = await open_door(configured(upstream.url))

    found = await _respond(door, tools=[{"type": "web_search"}])

    (made,) = door.events
    assert found.status == 200
    assert made.units["web_search"] == 2
    assert made.admission_nano == 25_000_000 + (10 * IN + 7 * OUT) // 1000
    assert made.usage_suspect is None
    assert book(ledger, [made]).differences == ()


async def test_a_tool_without_a_price_is_refused_by_name(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Under a cap; without one it is served, and what was used is named."""
    upstream.scripts = [[_response({"type": "file_search_call"})]]
    capped = await open_door(configured(upstream.url))
    open_ = await open_door(configured(upstream.url, cap=None))
    tools = [{"type": "function", "name": "f", "parameters": {}}, {"type": "file_search"}]

    refused = await _respond(capped, tools=tools)
    served = await _respond(open_, tools=tools)

    error = (await refused.json())["error"]
    assert (refused.status, error["code"], error["param"]) == (
        400,
        "model_not_priced",
        "tools[1].type",
    )
    assert served.status == 200
    assert open_.events[0].usage_suspect == "without a price: 1 file_search"


async def test_a_tool_is_held_for(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """Ten searches where the request bounds none are 0.125 USD: more than this cap has."""
    upstream.scripts = [[_response({"type": "web_search_call"}, told=1)]]
    door = await open_door(configured(upstream.url, cap="0.10"))

    refused = await _respond(door, tools=[{"type": "web_search"}])
    bounded = await _respond(door, tools=[{"type": "web_search"}], max_tool_calls=3)

    assert refused.status in (400, 429)
    assert bounded.status == 200
