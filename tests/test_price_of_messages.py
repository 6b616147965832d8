"""What Anthropic bills by speed and place: held for, billed as it was told, rated alike."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import aiohttp
import orjson
import pytest
from fixtures_door import KEY, OpenDoor, RunningDoor, rule, settings, tenant
from fixtures_ledger import CARDS, book
from fixtures_upstream import ScriptedUpstream, body, event, streamed

from metering.money import amount_nano
from metering.price_variants import ContextTier, Overlay, Variants
from metering.prices import PriceRule, RatesByModel
from metering.settlement.ledger.store import Ledger
from proxy.settings import Settings
from routing.upstreams import Model, Upstream

IN, OUT = 5_000_000, 25_000_000
CLAUDE = PriceRule(
    model="claude-opus",
    input_rate_pico=IN,
    output_rate_pico=OUT,
    class_rates_pico={"input_cache_read": IN // 10, "input_cache_write_5m": IN},
    variants=Variants(
        tiers={"fast": Overlay(None, 6_000_000, 6_000_000)},
        regions={"us": Overlay(None, 1_100_000, 1_100_000)},
    ),
)
NEITHER = replace(CLAUDE, variants=None)


def configured(
    url: str, made: PriceRule, *, cap: str | None = "10.00", region: str | None = None
) -> Settings:
    found = settings(
        {"one": url},
        who=tenant(cap),
        rules=(made,),
        models={"m": Model("m", (Upstream("one", "claude-opus", "m", region=region),))},
    )
    for sell in (False, True):
        version = found.prices.sell_version if sell else found.prices.cost_version
        CARDS.add(RatesByModel(found.prices.body(sell=sell), version=version))
    return replace(found, providers={"one": replace(found.providers["one"], type="anthropic")})


MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-opus-4-7"}
SAID = {**MESSAGE, "content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn"}


def whole(output: int = 7, prompt: int = 10, **told: Any) -> bytes:
    usage = {"input_tokens": prompt, "output_tokens": output, "service_tier": "standard", **told}
    return body({**SAID, "usage": usage})


def stream(*, last: dict[str, Any] | None = None, **told: Any) -> list[Any]:
    usage = {"input_tokens": 10, "output_tokens": 1, "service_tier": "standard", **told}
    begun = {**MESSAGE, "content": [], "usage": usage}
    delta = {"type": "text_delta", "text": "hi"}
    end = {"output_tokens": 7, **(last or {})}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": end},
        {"type": "message_stop"},
    ]
    return streamed(*map(event, events))


async def ask(door: RunningDoor, **fields: Any) -> aiohttp.ClientResponse:
    said = {"model": "m", "max_tokens": 64, "messages": [{"role": "user", "content": "hi"}]}
    answer = await door.http.post(
        f"{door.url}/v1/messages", json={**said, **fields}, headers={"x-api-key": KEY}
    )
    door.answers.append(answer)
    await answer.read()
    return answer


FAST, US = {"speed": "fast"}, {"inference_geo": "us"}
NOT_TOLD = {"inference_geo": "not_available"}
ROWS: dict[str, tuple[dict[str, Any], dict[str, Any], str | None, int, tuple[Any, ...]]] = {
    # asked, told, region of the upstream -> factor in tenths, tier, region
    "nothing": ({}, {}, None, 10, ("default", None, None)),
    "fast": (FAST, {"speed": "fast"}, None, 60, ("fast", "fast", None)),
    "fast was not to be had": (FAST, {"speed": "standard"}, None, 10, ("default", None, None)),
    "fast, and it does not tell": (FAST, {}, None, 60, (None, "fast", None)),
    "in the US": (US, {"inference_geo": "us"}, None, 11, ("default", None, "us")),
    "by the workspace": ({}, {"inference_geo": "us"}, None, 11, ("default", None, "us")),
    "anywhere": ({}, {"inference_geo": "global"}, "us", 10, ("default", None, "global")),
    "asked and not told": (
        US,
        {"inference_geo": "not_available"},
        None,
        11,
        ("default", None, "us"),
    ),
    "a configured place": (
        {},
        {"inference_geo": "not_available"},
        "us",
        11,
        ("default", None, "us"),
    ),
    "both": ({**FAST, **US}, {**FAST, "inference_geo": "us"}, None, 66, ("fast", "fast", "us")),
}


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", ROWS)
async def test_what_is_told_is_billed_and_rated(
    open_door: OpenDoor, upstream: ScriptedUpstream, ledger: Ledger, name: str, is_stream: bool
) -> None:
    """By the proxy and by the worker to the same nano, and never beyond what was held."""
    asked, told, region, tenths, expected_words = ROWS[name]
    upstream.scripts = [stream(**told)] if is_stream else [[whole(**told)]]
    door = await open_door(configured(upstream.url, CLAUDE, region=region))

    answer = await ask(door, **asked, stream=is_stream)

    assert answer.status == 200, await answer.text()
    (found,) = door.events
    expected = amount_nano(10, IN * tenths // 10) + amount_nano(7, OUT * tenths // 10)
    assert found.admission_nano == expected
    assert (found.service_tier, found.price_tier, found.region) == expected_words
    assert found.usage_suspect is None
    assert book(ledger, [found]).differences == ()


async def test_the_last_word_of_a_stream_holds(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """How fast and where may be told at the end alone."""
    upstream.scripts = [stream(last={"speed": "fast", "inference_geo": "us"})]
    door = await open_door(configured(upstream.url, CLAUDE))

    await ask(door, stream=True, speed="fast")

    assert (door.events[0].price_tier, door.events[0].region) == ("fast", "us")


async def test_without_prices_it_is_doubted(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Without a cap it is billed at the list price, and the event names what has none."""
    upstream.scripts = [[whole(speed="fast")], [whole(inference_geo="us")]]
    door = await open_door(configured(upstream.url, NEITHER, cap=None))

    await ask(door, speed="fast")
    await ask(door, inference_geo="us")

    assert [each.usage_suspect for each in door.events] == [
        "the service tier `fast` has no price",
        "the region `us` has no price",
    ]


async def test_fast_without_a_price_is_refused_under_a_cap(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """By the name of its own field, before anything is sent."""
    upstream.scripts = [[whole()]]
    door = await open_door(configured(upstream.url, NEITHER))

    answer = await ask(door, speed="fast")

    error = (await answer.json())["error"]
    assert (answer.status, upstream.received) == (400, [])
    assert "the service tier `fast`" in error["message"]


ASKED = [{}, FAST, US, {**FAST, **US}, {"inference_geo": "global"}]
TOLD = [
    {**speed, **geo}
    for speed in ({}, {"speed": "standard"}, FAST)
    for geo in ({}, US, {"inference_geo": "global"}, {"inference_geo": "not_available"})
]


@pytest.mark.parametrize(("asked", "region"), [*itertools.product(ASKED, [None, "us"])])
async def test_a_hold_covers_whatever_may_be_told(
    open_door: OpenDoor, upstream: ScriptedUpstream, asked: dict[str, Any], region: str | None
) -> None:
    """Wherever and however fast it is served, so long as it is not faster than was asked for; also
    where a price there is less than the list price."""
    cheaper = Variants(
        context=(ContextTier(5, Overlay(None, 2_000_000, 2_000_000)),),
        tiers={"fast": Overlay(None, 6_000_000, 6_000_000)},
        regions={"us": Overlay(None, 900_000, 900_000)},
    )
    for made in (CLAUDE, replace(CLAUDE, variants=cheaper)):
        answers = [told for told in TOLD if "speed" in asked or told.get("speed") != "fast"]
        upstream.scripts = [[whole(64, 6, **told)] for told in answers]
        door = await open_door(configured(upstream.url, made, region=region))
        for _ in answers:
            await ask(door, **asked)

        over_nano = door.door.metrics.metrics.counters["weir_overrun_nano_usd_total", "m"]
        served = [each for each in door.events if each.units.get("output_text") == 64]
        assert len(served) == len(answers)
        assert over_nano == 0


def test_rules_like_these_are_published() -> None:
    """A factor each; the list price is the rule's."""
    assert orjson.loads(orjson.dumps(CLAUDE.body(sell=True)))["variants"]["regions"] == {
        "us": {"input_ppm": 1_100_000, "output_ppm": 1_100_000}
    }
    assert rule("x").variants is None
