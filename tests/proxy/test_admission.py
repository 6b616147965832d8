"""Whether and with which model a request goes: caps, degradation, fallbacks, prices."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from fixtures_door import OpenDoor, rule, settings, tenant, usd
from fixtures_upstream import (
    Act,
    ScriptedUpstream,
    body,
    chunk,
    completion,
    delta,
    stream_head,
)

from proxy.settings import Settings
from routing.upstreams import Model, Upstream


def rigid(configured: Settings) -> Settings:
    """The same, with requests that do not shrink to what is affordable."""
    return replace(configured, clamp_max_tokens=False)


def two_models(upstream: ScriptedUpstream, **limits: object) -> object:
    """`dear` and `cheap` on one upstream; the tenant degrades from one to the other."""
    return settings(
        {"one": upstream.url},
        who=tenant("1.00", burst_threshold_ppm=800_000, fallback_model="cheap", **limits),
        models={
            "dear": Model("dear", (Upstream("one", "dear", "dear"),)),
            "cheap": Model("cheap", (Upstream("one", "cheap", "cheap"),)),
        },
        rules=(rule("dear", "100.00"), rule("cheap", "0.10")),
    )


async def test_near_the_cap_the_cheaper_model_answers(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """From `burst_threshold` of the cap on, requests go to `fallback_model`, and say so."""
    door = await open_door(two_models(upstream))
    upstream.scripts = [[completion(prompt=0, output=2000)], [completion()]]

    first = await door.chat(model="dear", max_tokens=2000)
    second = await door.chat(model="dear", max_tokens=10)

    assert (first.status, first.headers["x-weir-model"]) == (200, "dear")
    assert "x-weir-degraded" not in first.headers
    assert (second.status, second.headers["x-weir-model"]) == (200, "cheap")
    assert second.headers["x-weir-degraded"].startswith("from=dear; to=cheap")
    assert upstream.received[1].json["model"] == "cheap"
    assert door.events[1].degrade_step == "cheap"


async def test_past_the_cap_nothing_is_sent(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """A spent cap is a 429 that says not to retry, which cap, and when there is room again."""
    door = await open_door(
        rigid(settings({"one": upstream.url}, who=tenant("0.01"), rules=(rule("*", "1.00"),)))
    )
    upstream.scripts = [[completion(prompt=4, output=2399)]]

    await door.chat(max_tokens=2400)
    answer = await door.chat(max_tokens=500)

    error = (await answer.json())["error"]
    assert (answer.status, error["code"]) == (429, "insufficient_quota")
    assert answer.headers["x-should-retry"] == "false"
    assert "Retry-After" not in answer.headers
    assert answer.headers["x-weir-limit-source"] == "tenant_daily_cap"
    metadata = error["metadata"]
    assert metadata["limit_usd"] == "0.010000"
    assert metadata["spent_usd"] == "0.009600"
    assert metadata["resets_at"].endswith("Z")
    assert len(upstream.received) == 1


async def test_a_request_that_can_never_fit(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """A request dearer than the whole cap is a 400 that names max_tokens."""
    door = await open_door(rigid(settings({"one": upstream.url}, who=tenant("0.01"))))

    answer = await door.chat(max_tokens=1_000_000)

    error = (await answer.json())["error"]
    assert (answer.status, error["code"], error["param"]) == (
        400,
        "request_exceeds_budget",
        "max_tokens",
    )


async def test_holds_in_flight_ask_for_a_moment(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """When only requests in flight stand in the way, the client may come back at once."""
    door = await open_door(rigid(settings({"one": upstream.url}, who=tenant("0.01"))))
    upstream.scripts = [[stream_head(), chunk(delta("a")), Act.WAIT, b"0\r\n\r\n"]]

    first = await door.chat(stream=True, max_tokens=2000)
    second = await door.chat(max_tokens=2000)

    assert (second.status, second.headers["Retry-After"]) == (429, "1")
    assert (await second.json())["error"]["code"] == "rate_limit_exceeded"
    upstream.proceed.set()
    await first.read()


async def test_a_hundred_at_once_stay_under_the_cap(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """T-50: a hundred in flight at a cap worth ten: ten are served, spent + held never passes."""
    door = await open_door(rigid(settings({"one": upstream.url}, who=tenant("0.04"))))
    upstream.scripts = [[completion(prompt=4, output=999)]]

    answers = await asyncio.gather(*(door.chat(max_tokens=950, messages=[]) for _ in range(100)))

    served = [answer for answer in answers if answer.status == 200]
    assert len(served) == 10
    assert sum(event.admission_nano for event in door.events) == usd("0.04")


async def test_a_dearer_fallback_must_fit(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """T-53: a fallback that is dearer than what is held is asked for room first."""
    door = await open_door(
        rigid(
            settings(
                {"one": upstream.url, "two": other_upstream.url},
                who=tenant("0.01"),
                rules=(rule("*", "1.00", provider="one"), rule("*", "9.00", provider="two")),
            )
        )
    )
    upstream.scripts = [[body(b"", 500)]]

    answer = await door.chat(max_tokens=2000)

    assert answer.status == 500
    assert other_upstream.received == []


async def test_an_unpriced_model_under_a_cap(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """T-52: a model without a price is refused for a tenant with a money cap, naming the fix."""
    door = await open_door(settings({"one": upstream.url}, rules=()))

    answer = await door.chat()

    error = (await answer.json())["error"]
    assert (answer.status, error["code"]) == (400, "model_not_priced")
    assert "pricing.rules" in error["message"]
    assert upstream.received == []


async def test_an_unpriced_model_without_a_cap_says_so_in_its_event(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Without a cap it is served; the event carries no price version, so it is never zero-rated."""
    door = await open_door(settings({"one": upstream.url}, rules=(), who=tenant(None)))
    upstream.scripts = [[completion()]]

    assert (await door.chat()).status == 200
    assert (door.events[0].sell_version, door.events[0].cost_version) == (None, None)
