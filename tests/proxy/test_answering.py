"""Answers that are kept and given again, end to end: what it costs, who gets them, what is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cache_samples import ON, ask, keeping, settled
from fixtures_door import OpenDoor, held, tenant
from fixtures_upstream import (
    DONE,
    FINISH,
    Act,
    ScriptedUpstream,
    body,
    completion,
    delta,
    streamed,
    usage_event,
)

from metering.caps import CapsUnavailableError
from metering.memory_replies import MemoryReplies
from metering.replies import Bounds, Found, Reply, Shelf
from metering.steps import Step, Steps
from metering.tenants import FeatureLimits
from proxy.cache_rules import CacheSettings, ModelCache
from routing.upstreams import Model, Upstream

EVENTS = [delta("Hello"), delta(" world"), FINISH, usage_event(10, 2), DONE]


async def test_nothing_is_kept_unless_the_file_says_so(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Without the section every request goes to the upstream, and no header talks of a cache."""
    door = await open_door(keeping(upstream.url, CacheSettings()))
    upstream.scripts = [[completion()]]

    answers = [await ask(door), await ask(door)]

    assert len(upstream.received) == 2
    assert not any("x-weir-cache" in answer.headers for answer in answers)
    assert [event.cache_status for event in door.events] == [None, None]


async def test_a_hit(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """The same question gets the same bytes, for nothing, with an id and an event of its own."""
    door = await open_door(keeping(upstream.url))
    upstream.scripts = [[completion()]]

    first = await ask(door)
    await settled(door)
    second = await ask(door, user="somebody else")

    assert await first.read() == await second.read()
    assert [each.headers["x-weir-cache"] for each in (first, second)] == ["miss", "hit"]
    assert second.headers["x-weir-cost-usd"] == "0.000000000"
    assert second.headers["x-weir-model"] == "m"
    assert second.headers["Age"] == "0"
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    made, given = door.events
    assert (made.cache_status, made.billable, made.reason_code) == ("miss", True, "served")
    assert (given.cache_status, given.billable, given.reason_code) == ("hit", False, "cache_hit")
    assert (given.units, given.cost_nano, given.admission_nano) == ({}, 0, 0)
    assert (given.provider, given.model_upstream, given.model_answered) == ("one", "up-m", "m-1")
    assert given.user == "somebody else"
    assert len(upstream.received) == 1
    assert held(door) == []


async def test_a_stream_is_given_as_a_stream(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """To the byte, with its end; and never in the place of an answer in one piece."""
    door = await open_door(keeping(upstream.url))
    upstream.scripts = [streamed(*EVENTS), [completion()]]

    first = await ask(door, stream=True)
    await settled(door)
    second = await ask(door, stream=True)
    whole = await ask(door)

    assert await first.read() == await second.read() == b"".join([*EVENTS[:3], DONE])
    assert second.headers["content-type"].startswith("text/event-stream")
    assert [each.headers["x-weir-cache"] for each in (first, second, whole)] == [
        "miss",
        "hit",
        "miss",
    ]
    assert len(upstream.received) == 2


NOT_KEPT: dict[str, Any] = {
    "cut": [*streamed(delta("a"))[:-1], Act.CLOSE],
    "no reason": streamed(delta("a"), DONE),
    "refused": [body({"error": {"message": "no", "type": "x"}}, 400)],
    "failed": [body({"error": {"message": "no", "type": "x"}}, 500)],
}


@pytest.mark.parametrize("script", NOT_KEPT.values(), ids=NOT_KEPT)
async def test_what_is_no_whole_answer_is_not_kept(
    open_door: OpenDoor, upstream: ScriptedUpstream, script: Any
) -> None:
    """The next request asks the upstream again."""
    door = await open_door(keeping(upstream.url))
    upstream.scripts = [script, streamed(*EVENTS)]

    await ask(door, stream=True)
    second = await ask(door, stream=True)

    assert second.headers["x-weir-cache"] == "miss"
    assert len(upstream.received) == 2


async def test_an_answer_that_is_too_long_is_not_kept(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Nor does anybody wait for the second one because of it."""
    door = await open_door(keeping(upstream.url, replace(ON, max_entry_bytes=1024)))
    upstream.scripts = [[completion("x" * 2000)]]

    answers = [await ask(door) for _ in range(2)]

    assert [each.headers["x-weir-cache"] for each in answers] == ["miss", "miss"]


async def test_cache_control(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """`no-store` leaves no trace, `no-cache` makes a new one, `max-age` and `only-if-cached` say
    what will do."""
    door = await open_door(keeping(upstream.url))
    upstream.scripts = [[completion(text)] for text in ("one", "two", "three")]

    async def said(control: str) -> tuple[int, str, str]:
        answer = await ask(door, headers={"Cache-Control": control})
        told = await answer.json()
        text = told["choices"][0]["message"]["content"] if answer.ok else told["error"]["code"]
        return answer.status, answer.headers["x-weir-cache"], text

    assert await said("only-if-cached") == (504, "miss", "not_cached")
    assert await said("no-store") == (200, "bypass", "one")
    assert await said("only-if-cached") == (504, "miss", "not_cached")
    assert await said("no-cache") == (200, "bypass", "two")
    await settled(door)
    assert await said("max-age=60") == (200, "hit", "two")
    assert await said("only-if-cached") == (200, "hit", "two")
    assert held(door) == []


async def test_an_answer_ages(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """It says how old it is, is too old for who wants a younger one, and ends with its time."""
    now_ms = 1_000_000
    door = await open_door(keeping(upstream.url, replace(ON, ttl_s=100)))
    replies = door.door.replies
    assert isinstance(replies, MemoryReplies)
    replies.now_ms = lambda: now_ms
    upstream.scripts = [[completion()]]
    await ask(door)
    await settled(door)

    now_ms += 42_500
    aged = await ask(door)
    younger = await ask(door, headers={"Cache-Control": "max-age=42, no-store"})
    now_ms += 60_000
    over = await ask(door)

    assert (aged.headers["x-weir-cache"], aged.headers["Age"]) == ("hit", "42")
    assert younger.headers["x-weir-cache"] == "bypass"
    assert over.headers["x-weir-cache"] == "miss"


async def test_over_a_cap_what_is_kept_is_given(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """It costs nothing, so a spent cap is no reason to refuse it; what is not kept is refused."""
    door = await open_door(keeping(upstream.url, who=tenant("0.0061")))
    upstream.scripts = [[completion(prompt=0, output=1500)]]
    await ask(door, max_tokens=1500)
    await settled(door)

    again = await ask(door, max_tokens=1500)
    other = await ask(door, max_tokens=1400)

    assert (again.status, again.headers["x-weir-cache"]) == (200, "hit")
    assert (other.status, other.headers["x-weir-cache"]) == (429, "miss")
    assert door.events[-1].attempt == 0
    assert [event.admission_nano > 0 for event in door.events] == [True, False]


async def test_a_step_gives_what_is_kept(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """From `cache_only` on: kept answers, and a refusal for all else."""
    who = tenant("0.012", steps=Steps((Step(500_000, cache_only=True),)))
    door = await open_door(keeping(upstream.url, who=who))
    upstream.scripts = [[completion(prompt=0, output=1500)]]
    await ask(door, max_tokens=1500)
    await settled(door)

    again = await ask(door, max_tokens=1500)
    other = await ask(door, max_tokens=10)

    assert (again.status, again.headers["x-weir-cache"]) == (200, "hit")
    assert other.status == 429
    assert "cache_only" in (await other.json())["error"]["message"]
    assert len(upstream.received) == 1


async def test_who_is_paused_gets_nothing(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """A flag holds for answers that are there, too."""
    door = await open_door(keeping(upstream.url))
    upstream.scripts = [[completion()]]
    await ask(door)
    await settled(door)
    door.caps.model.flags["acme"] = {"paused"}  # type: ignore[attr-defined]

    answer = await ask(door)

    assert answer.status == 403


async def test_a_hit_that_is_billed(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """A quarter off: three quarters of its tokens, at the price in force, at no cost of ours."""
    cache = replace(ON, is_free=False, discount_ppm=250_000)
    door = await open_door(keeping(upstream.url, cache))
    upstream.scripts = [[completion(prompt=10, output=6)]]
    await ask(door)
    await settled(door)

    answer = await ask(door)

    given = door.events[-1]
    assert given.units == {"input_uncached": 7, "output_text": 4}
    assert (given.admission_nano, given.cost_nano) == (7_000 + 16_000, 0)
    assert (given.billable, given.reason_code, given.cost_version) == (True, "cache_hit", None)
    assert answer.headers["x-weir-cost-usd"] == "0.000023000"


async def test_a_feature_has_its_own_time_and_price(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """`limits.features.NAME`: nothing is kept for one whose time is 0."""
    limits = {
        "live": FeatureLimits(cache_ttl_seconds=0),
        "paid": FeatureLimits(exclude_cache_from_billing=False),
    }
    door = await open_door(keeping(upstream.url, who=replace(tenant(), feature_limits=limits)))
    upstream.scripts = [[completion()]]

    live = [await ask(door, headers={"x-weir-feature": "live"}) for _ in range(2)]
    await ask(door)
    await settled(door)
    paid = await ask(door, headers={"x-weir-feature": "paid"})

    assert not any("x-weir-cache" in answer.headers for answer in live)
    assert paid.headers["x-weir-cost-usd"] == "0.000030000"


async def test_a_model_can_forbid_it(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """Whoever allows it."""
    door = await open_door(keeping(upstream.url, replace(ON, models={"m": ModelCache(False)})))
    upstream.scripts = [[completion()]]

    answers = [await ask(door) for _ in range(2)]

    assert len(upstream.received) == 2
    assert "x-weir-cache" not in answers[1].headers


async def test_a_store_that_fails_harms_nobody(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """It is a miss, and the answer comes."""

    class Broken(MemoryReplies):
        async def find(self, shelf: Shelf, name: str) -> Found | None:
            raise CapsUnavailableError("away")

        async def keep(
            self, shelf: Shelf, name: str, reply: Reply, *, ttl_ms: int, bounds: Bounds
        ) -> int | None:
            raise CapsUnavailableError("away")

    door = await open_door(keeping(upstream.url), replies=Broken())
    upstream.scripts = [[completion()]]

    answers = [await ask(door) for _ in range(2)]

    assert [each.status for each in answers] == [200, 200]
    assert [each.headers["x-weir-cache"] for each in answers] == ["miss", "miss"]


async def test_a_fallback_is_not_kept(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """What another model said is no answer of this one."""
    models = {
        "m": Model("m", (Upstream("one", "up-m", "m"),), fallbacks=("n",)),
        "n": Model("n", (Upstream("one", "up-n", "n"),)),
    }
    door = await open_door(keeping(upstream.url, models=models))
    failing = body({"error": {"message": "no", "type": "x"}}, 500)
    upstream.scripts = [[failing], [completion()], [failing], [completion()]]

    answers = [await ask(door) for _ in range(2)]

    assert [each.headers["x-weir-model"] for each in answers] == ["n", "n"]
    assert [each.headers["x-weir-cache"] for each in answers] == ["miss", "miss"]
