"""Attacks on answers that are kept: who gets them, what they cost, and what is left behind."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from typing import Any

import pytest
from cache_samples import ON, ask, keeping, settled
from fixtures_door import OpenDoor, held, settings, tenant
from fixtures_upstream import (
    Act,
    ScriptedUpstream,
    completion,
    scripted_upstream,
)
from test_price_conditions import RULE
from test_price_conditions import answer as priced_answer

from metering.memory_caps import MemoryCaps
from metering.memory_replies import MemoryReplies
from metering.prices import RatesByModel
from metering.replies import Claimed, Found, RequestClaim, Shelf
from metering.settlement.rating import rate
from metering.tenants import ApiKey
from proxy.cache_rules import CacheSettings, TenantCache
from proxy.settings import Server
from routing.conditions import When
from routing.upstreams import Model, Terms, Upstream


async def _texts(*answers: Any) -> list[str]:
    return [(await each.json())["choices"][0]["message"]["content"] for each in answers]


async def test_a_kept_answer_does_not_come_from_where_the_request_may_not_go(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Tags and conditions count: who asks for Europe gets no answer that was made elsewhere."""
    upstream.scripts = [[completion("us")]]
    async with scripted_upstream() as european:
        european.scripts = [[completion("eu")]]
        models = {
            "m": Model(
                "m",
                (
                    Upstream("one", "up-m", "m"),
                    Upstream("two", "up-m", "m", terms=Terms(tags=frozenset({"eu"}))),
                ),
            )
        }
        configured = replace(
            settings({"one": upstream.url, "two": european.url}, models=models), cache=ON
        )
        door = await open_door(configured)
        first = await ask(door)
        await settled(door)
        second = await ask(door, headers={"x-weir-tags": "eu"})

        assert await _texts(first, second) == ["us", "eu"]


async def test_a_condition_on_metadata_holds_for_kept_answers(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Metadata is no part of the question, but of where it may go."""
    upstream.scripts = [[completion("private")]]
    async with scripted_upstream() as public:
        public.scripts = [[completion("public")]]
        when = When(metadata=(("kind", ("private",)),))
        models = {
            "m": Model(
                "m",
                (
                    Upstream("one", "up-m", "m", terms=Terms(when=when)),
                    Upstream("two", "up-m", "m"),
                ),
            )
        }
        configured = replace(
            settings({"one": upstream.url, "two": public.url}, models=models), cache=ON
        )
        door = await open_door(configured)
        first = await ask(door, metadata={"kind": "other"})
        await settled(door)
        second = await ask(door, metadata={"kind": "private"})

        assert await _texts(first, second) == ["public", "private"]


@pytest.mark.parametrize(
    ("prompt", "tier", "region", "discount"),
    [
        (10, "flex", None, 0),
        (10, "priority", None, 250_000),
        (2000, None, None, 0),
        (2000, None, "eu", 600_000),
        (10, None, "eu", 0),
    ],
)
async def test_a_hit_that_is_billed_has_the_price_of_its_answer(
    open_door: OpenDoor,
    upstream: ScriptedUpstream,
    prompt: int,
    tier: str | None,
    region: str | None,
    discount: int,
) -> None:
    """At the tier, the region and the length of what was answered, and the ledger agrees."""
    upstream.scripts = [[priced_answer(prompt, 100, tier)]]
    billed = CacheSettings(enabled=True, is_free=False, discount_ppm=discount)
    configured = settings(
        {"one": upstream.url},
        rules=(RULE,),
        models={"m": Model("m", (Upstream("one", "up-m", "m", region=region),))},
    )
    door = await open_door(replace(configured, cache=billed))
    fields = {} if tier is None else {"service_tier": tier}
    await ask(door, **fields)
    await settled(door)
    await ask(door, **fields)

    made, given = door.events
    assert given.cache_status == "hit"
    book = configured.prices
    sell = RatesByModel(book.body(sell=True), version=book.sell_version)
    assert rate(given, None, sell).sell_nano == given.admission_nano
    if not discount:
        assert given.admission_nano == made.admission_nano


async def test_a_follower_has_its_deadline(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """Who waits for another one's answer waits no longer than it said."""
    upstream.scripts = [[Act.WAIT, completion()]]
    door = await open_door(keeping(upstream.url))
    first = asyncio.create_task(ask(door))
    while not upstream.received:
        await asyncio.sleep(0)
    async with asyncio.timeout(3):
        late = await ask(door, headers={"x-weir-deadline-ms": "500"})

    assert late.status == 504
    upstream.proceed.set()
    assert (await first).status == 200
    assert held(door) == []


async def test_a_key_is_known_to_those_who_share_answers(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Where answers are for one key alone, so is what was said under an Idempotency-Key."""
    other = "sk-weir-acme-other-0123456789"
    who = tenant()
    keys = (*who.keys, ApiKey("k2", hashlib.sha256(other.encode()).hexdigest(), "second"))
    upstream.scripts = [[completion("mine")], [completion("other's")]]
    for share in ("key", "project"):
        cache = CacheSettings(tenants={"acme": TenantCache(share=share)})
        upstream.scripts = [[completion("mine")], [completion("other's")]]
        door = await open_door(keeping(upstream.url, cache, who=replace(who, keys=keys)))
        named = {"Idempotency-Key": "invoice-1"}
        answers = [
            await ask(door, headers=named),
            await ask(door, headers=named, key=other),
            await ask(door, headers=named),
        ]
        assert await _texts(*answers) == ["mine", "other's", "mine"]


async def test_a_follower_is_told_how_old_its_answer_is(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """An answer that another request has found is as old for those who waited for that one."""

    class Old(MemoryReplies):
        """Answers that are an hour old, found after a moment."""

        async def find(self, shelf: Shelf, name: str) -> Found | None:
            await asyncio.sleep(0.2)
            found = await super().find(shelf, name)
            return found and replace(found, age_ms=3_600_000)

    upstream.scripts = [[completion("old")], [completion("new")]]
    door = await open_door(keeping(upstream.url), replies=Old())
    await ask(door)
    await settled(door)
    first = asyncio.create_task(ask(door))
    await asyncio.sleep(0.05)
    second, third = await asyncio.gather(
        ask(door), ask(door, headers={"Cache-Control": "max-age=60"})
    )

    assert await _texts(await first, second, third) == ["old", "old", "new"]
    assert second.headers["Age"] == "3600"


async def test_a_claim_that_was_cancelled_is_let_go(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Its client left before anything was sent: who sends it again runs it."""

    class Slow(MemoryReplies):
        """Claims at once, and says so late."""

        is_slow = True

        async def claim(self, claim: RequestClaim) -> Claimed:
            found = await super().claim(claim)
            if self.is_slow:
                await asyncio.sleep(60)
            return found

    replies = Slow()
    upstream.scripts = [[completion()]]
    door = await open_door(keeping(upstream.url), replies=replies)
    asking = asyncio.create_task(ask(door, headers={"Idempotency-Key": "a"}))
    await asyncio.sleep(0.3)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await asyncio.sleep(0.3)
    replies.is_slow = False

    assert (await ask(door, headers={"Idempotency-Key": "a"})).status == 200
    assert held(door) == []


async def test_a_claim_that_was_lost_is_made_again(
    open_door: OpenDoor, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that lost its data does not let a request run twice that is still being answered."""
    monkeypatch.setattr("proxy.repeats.CLAIM_MS", 150)
    replies = MemoryReplies()
    upstream.scripts = [[Act.WAIT, completion()]]
    door = await open_door(keeping(upstream.url), replies=replies)
    named = {"Idempotency-Key": "a"}
    first = asyncio.create_task(ask(door, headers=named))
    while not upstream.received:
        await asyncio.sleep(0)
    replies.claims.clear()
    await asyncio.sleep(0.3)

    assert (await ask(door, headers=named)).status == 409
    upstream.proceed.set()
    assert (await first).status == 200
    assert len(upstream.received) == 1


async def test_a_hit_that_was_billed_is_not_billed_again_under_its_key(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Also where its client leaves while it is being recorded, and nobody may drain."""

    class Slow(MemoryCaps):
        """Commits, and says so late."""

        is_slow = False

        async def commit(self, *args: Any, **named: Any) -> Any:
            found = await super().commit(*args, **named)
            if self.is_slow:
                self.is_slow = False
                await asyncio.sleep(0.5)
            return found

    caps = Slow()
    upstream.scripts = [[completion()]]
    billed = CacheSettings(enabled=True, is_free=False)
    door = await open_door(keeping(upstream.url, billed, server=Server(max_drains=0)), caps)
    await ask(door)
    await settled(door)
    caps.is_slow = True
    asking = asyncio.create_task(ask(door, headers={"Idempotency-Key": "a"}))
    await asyncio.sleep(0.3)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await asyncio.sleep(0.5)
    again = await ask(door, headers={"Idempotency-Key": "a"})

    assert again.status == 409
    assert [event.billable for event in door.events] == [True, True]


async def test_what_was_searched_for_is_not_kept(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """A model that searches the web for every answer has another one tomorrow."""
    upstream.scripts = [[completion()]]
    models = {"m": Model("m", (Upstream("one", "gpt-4o-search-preview", "m"),))}
    door = await open_door(keeping(upstream.url, models=models, who=tenant(None)))
    answers = [await ask(door) for _ in range(2)]

    assert [each.headers["x-weir-cache"] for each in answers] == ["bypass", "bypass"]
    assert len(upstream.received) == 2
