"""What a request asks for beside tokens: tiers and the provider's tools, held for and priced."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from fixtures_door import rule

from metering.price_variants import Overlay, Variants
from metering.prices import Price, PriceBook
from proxy.price_asks import NO_ASKS, asks_of, is_search_model, searching
from proxy.wire import client_format

BODIES: dict[str, dict[str, Any]] = {
    "openai_chat": {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
    "openai_responses": {"model": "m", "input": "hi"},
    "anthropic_messages": {
        "model": "m",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "hi"}],
    },
}
SEARCH, FUNCTION = {"type": "web_search"}, {"type": "function", "name": "f", "parameters": {}}
CLAUDES: dict[str, Any] = {"type": "web_search_20250305", "name": "web_search"}

ASKS: dict[str, tuple[str, dict[str, Any], dict[str, int]]] = {
    "nothing": ("openai_chat", {}, {}),
    "functions alone": ("openai_responses", {"tools": [FUNCTION]}, {}),
    "a search": ("openai_responses", {"tools": [FUNCTION, SEARCH]}, {"web_search": 7}),
    "a bounded one": (
        "openai_responses",
        {"tools": [SEARCH], "max_tool_calls": 3},
        {"web_search": 3},
    ),
    "the older one": (
        "openai_responses",
        {"tools": [{"type": "web_search_preview_2025_03_11"}]},
        {"web_search": 7},
    ),
    "all of them": (
        "openai_responses",
        {
            "tools": [
                {"type": "file_search", "vector_store_ids": ["vs_1"]},
                {"type": "code_interpreter", "container": {"type": "auto"}},
                {"type": "image_generation"},
            ]
        },
        {"file_search": 7, "code_session": 7, "image": 7},
    ),
    "Claude's": ("anthropic_messages", {"tools": [CLAUDES]}, {"web_search": 7}),
    "Claude's, bounded": (
        "anthropic_messages",
        {"tools": [{**CLAUDES, "max_uses": 2}]},
        {"web_search": 2},
    ),
    "a bound that is none": (
        "anthropic_messages",
        {"tools": [{**CLAUDES, "max_uses": -2}]},
        {"web_search": 7},
    ),
    "a large bound": (
        "anthropic_messages",
        {"tools": [{**CLAUDES, "max_uses": 20_000}]},
        {"web_search": 20_000},
    ),
    "two of a kind": (
        "anthropic_messages",
        {"tools": [{**CLAUDES, "max_uses": 5}, {**CLAUDES, "max_uses": 6}]},
        {"web_search": 11},
    ),
    "behind many others": (
        "openai_responses",
        {"tools": [*[FUNCTION] * 1024, SEARCH]},
        {"web_search": 7},
    ),
    "a chat that searches": ("openai_chat", {"web_search_options": {}}, {"web_search": 1}),
}


def price(**fields: Any) -> Price:
    found = PriceBook((rule("m", **fields),)).find(provider="p", model="m", public_name="m")
    assert found is not None
    return found


@pytest.mark.parametrize("name", ASKS)
def test_tools_that_are_offered(name: str) -> None:
    """As often as the request allows, else as often as the configuration says."""
    spoken, fields, uses = ASKS[name]
    request = client_format(spoken).parse_request(orjson.dumps({**BODIES[spoken], **fields}))

    assert dict(asks_of(request, 7).uses) == uses


def test_a_plain_request_asks_for_nothing() -> None:
    """The usual case makes nothing."""
    for name, body in BODIES.items():
        assert asks_of(client_format(name).parse_request(orjson.dumps(body)), 7) is NO_ASKS


def test_what_has_no_price_is_named_by_its_field() -> None:
    """The first of tier and tools; the list price needs none."""
    body = {**BODIES["openai_responses"], "tools": [FUNCTION, SEARCH], "service_tier": "flex"}
    asks = asks_of(client_format("openai_responses").parse_request(orjson.dumps(body)), 7)
    flex = Variants(tiers={"flex": Overlay(None, 500_000, 500_000)})
    fees = {"web_search": 10**10}

    assert asks.tier == "flex"
    assert asks.unpriced(price(class_rates_pico=fees)) == (
        "service_tier",
        "the service tier `flex`",
    )
    assert asks.unpriced(price(variants=flex)) == (
        "tools[1].type",
        "`web_search`, a tool of the provider's",
    )
    assert asks.unpriced(price(variants=flex, class_rates_pico=fees)) is None


def test_how_fast_and_where_is_asked_of_anthropic() -> None:
    """In its own format only; what is no place is for the upstream to judge."""
    plain = BODIES["anthropic_messages"]
    said = {**plain, "speed": "fast", "inference_geo": "us", "tools": [CLAUDES]}
    asks = asks_of(client_format("anthropic_messages").parse_request(orjson.dumps(said)), 7)
    odd = {**plain, "speed": "standard", "inference_geo": "Us!"}
    chat = {**BODIES["openai_chat"], "speed": "fast", "inference_geo": "us"}

    assert (asks.tier, asks.region, dict(asks.uses)) == ("fast", "us", {"web_search": 7})
    assert asks.unpriced(price()) == ("speed", "the service tier `fast`")
    for spoken, body in (("anthropic_messages", odd), ("openai_chat", chat)):
        found = asks_of(client_format(spoken).parse_request(orjson.dumps(body)), 7)
        assert (found.tier, found.region) == (None, None)


def test_fees_are_held_at_the_tenants_price() -> None:
    """Ten USD per thousand, seven uses and a margin of half: 0.105 USD."""
    body = {**BODIES["openai_responses"], "tools": [SEARCH]}
    asks = asks_of(client_format("openai_responses").parse_request(orjson.dumps(body)), 7)

    found = price(class_rates_pico={"web_search": 10**10}, multiplier_ppm=1_500_000)

    assert asks.fees_nano(found) == 105_000_000


def test_models_that_always_search() -> None:
    """They report no number: every answer is one search."""
    assert is_search_model("gpt-4o-search-preview-2025-03-11")
    assert is_search_model("gpt-5-search-api")
    assert not is_search_model("gpt-4o")
    assert searching(None, "model").certain == {"web_search": 1}
