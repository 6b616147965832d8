"""Identical requests at once, and answers in every format and for every tenant."""

from __future__ import annotations

import asyncio
import hashlib
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
    event,
    streamed,
    usage,
    usage_event,
)

from metering.tenants import ApiKey
from proxy.cache_rules import CacheSettings, TenantCache
from proxy.settings import Settings

EVENTS = [delta("Hello"), delta(" world"), FINISH, usage_event(10, 2), DONE]


async def test_identical_requests_at_once(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """One goes to the upstream, all get its answer, each has an event, one is billed."""
    door = await open_door(keeping(upstream.url))
    upstream.scripts = [[Act.WAIT, completion()]]

    asking = [asyncio.create_task(ask(door)) for _ in range(20)]
    while not upstream.received:
        await asyncio.sleep(0)
    upstream.proceed.set()
    answers = await asyncio.gather(*asking)

    assert len({await answer.read() for answer in answers}) == 1
    assert len(upstream.received) == 1
    assert sorted(event.cache_status or "" for event in door.events) == ["coalesced"] * 19 + [
        "miss"
    ]
    assert [event.billable for event in door.events].count(True) == 1
    assert held(door) == []
    assert len(door.door.flights) == 0


async def test_identical_streams_at_once(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """The same for streams."""
    door = await open_door(keeping(upstream.url))
    first, *rest = streamed(*EVENTS)
    upstream.scripts = [[first, Act.WAIT, *rest]]

    asking = [asyncio.create_task(ask(door, stream=True)) for _ in range(5)]
    while not upstream.received:
        await asyncio.sleep(0)
    upstream.proceed.set()
    answers = await asyncio.gather(*asking)

    assert {await answer.read() for answer in answers} == {b"".join([*EVENTS[:3], DONE])}
    assert len(upstream.received) == 1


async def test_another_takes_the_place_of_one_that_failed(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """One after the other asks, until there is an answer."""
    door = await open_door(keeping(upstream.url))
    upstream.scripts = [
        [Act.WAIT, body({"error": {"message": "no", "type": "x"}}, 500)],
        [completion()],
    ]

    asking = [asyncio.create_task(ask(door)) for _ in range(5)]
    while not upstream.received:
        await asyncio.sleep(0)
    upstream.proceed.set()
    answers = await asyncio.gather(*asking)

    assert sorted(answer.status for answer in answers) == [200, 200, 200, 200, 500]
    assert len(upstream.received) == 2


@pytest.mark.parametrize("cancels", [True, False])
async def test_an_answer_that_others_wait_for_is_read_to_its_end(
    open_door: OpenDoor, upstream: ScriptedUpstream, *, cancels: bool
) -> None:
    """The client of the first leaves; the second gets the whole."""
    door = await open_door(keeping(upstream.url), cancels=cancels)
    head, first, *rest = streamed(*EVENTS)
    upstream.scripts = [[head, first, Act.WAIT, *rest]]

    leaving = await door.chat(stream=True)
    await leaving.content.readany()
    waiting = asyncio.create_task(ask(door, stream=True))
    while not any(flight.followers for flight in door.door.flights._open.values()):
        await asyncio.sleep(0)
    leaving.close()
    upstream.proceed.set()
    answer = await waiting

    assert await answer.read() == b"".join([*EVENTS[:3], DONE])
    assert len(upstream.received) == 1
    assert held(door) == []


FORMATS: dict[str, tuple[str, dict[str, Any], bytes]] = {
    "completions": (
        "/v1/completions",
        {"prompt": "hi"},
        body(
            {
                "id": "cmpl-1",
                "object": "text_completion",
                "model": "m-1",
                "choices": [{"index": 0, "text": "ho", "finish_reason": "stop"}],
                "usage": usage(1, 1),
            }
        ),
    ),
    "embeddings": (
        "/v1/embeddings",
        {"input": "hi"},
        body(
            {
                "object": "list",
                "model": "m-1",
                "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
                "usage": {"prompt_tokens": 1, "total_tokens": 1},
            }
        ),
    ),
    "responses": ("/v1/responses", {"input": "hi", "store": False}, completion()),
    "messages": ("/v1/messages", {"max_tokens": 5}, completion()),
}


@pytest.mark.parametrize(("path", "fields", "script"), FORMATS.values(), ids=FORMATS)
async def test_every_format(
    open_door: OpenDoor,
    upstream: ScriptedUpstream,
    path: str,
    fields: dict[str, Any],
    script: bytes,
) -> None:
    """What clients of a format get once more is in its own words, to the byte."""
    door = await open_door(keeping(upstream.url))
    upstream.scripts = [[script]]

    first = await ask(door, path=path, **fields)
    await settled(door)
    second = await ask(door, path=path, **fields)

    assert first.status == 200, await first.read()
    assert await first.read() == await second.read()
    assert second.headers["x-weir-cache"] == "hit"
    assert len(upstream.received) == 1


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/completions"])
async def test_streams_of_every_format(
    open_door: OpenDoor, upstream: ScriptedUpstream, path: str
) -> None:
    """Translated or not, a stream is given again as its client has read it."""
    door = await open_door(keeping(upstream.url))
    text = [
        event({"choices": [{"index": 0, "text": "ho", "finish_reason": None}]}),
        event({"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}),
    ]
    upstream.scripts = [streamed(*(text if path == "/v1/completions" else EVENTS[:3]), DONE)]
    fields = {"prompt": "hi"} if path == "/v1/completions" else {"max_tokens": 5}

    first = await ask(door, path=path, stream=True, **fields)
    await settled(door)
    second = await ask(door, path=path, stream=True, **fields)

    assert await first.read() == await second.read()
    assert second.headers["x-weir-cache"] == "hit"


def two_tenants(url: str, cache: CacheSettings) -> Settings:
    """Acme, and another tenant with a key of its own."""
    configured = keeping(url, cache)
    key = ApiKey("k2", hashlib.sha256(OTHER_KEY.encode()).hexdigest(), "default")
    other = replace(tenant(), id="other", keys=(key,))
    return replace(configured, tenants={**configured.tenants, "other": other})


OTHER_KEY = "sk-weir-other-0123456789"


async def test_tenants_get_their_own(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """The same question of another tenant is another question, also for keys of clients."""
    door = await open_door(two_tenants(upstream.url, ON))
    upstream.scripts = [[completion("of acme")], [completion("of other")]]
    keyed = {"Idempotency-Key": "1"}

    await ask(door, headers=keyed)
    await settled(door, 2)
    other = await ask(door, key=OTHER_KEY, headers=keyed)
    again = await ask(door, key=OTHER_KEY, headers=keyed)

    assert other.headers["x-weir-cache"] == "miss"
    assert b"of other" in await other.read()
    assert await again.read() == await other.read()


@pytest.mark.parametrize(("pools", "word"), [(("a", "a"), "hit"), (("a", "b"), "miss")])
@pytest.mark.parametrize("both", [True, False])
async def test_tenants_of_a_pool_share(
    open_door: OpenDoor,
    upstream: ScriptedUpstream,
    pools: tuple[str, str],
    word: str,
    *,
    both: bool,
) -> None:
    """Where both have named it, and not where one has."""
    own, theirs = (TenantCache(pool=name) for name in pools)
    tenants = {"acme": own, **({"other": theirs} if both else {})}
    door = await open_door(two_tenants(upstream.url, replace(ON, tenants=tenants)))
    upstream.scripts = [[completion()]]

    await ask(door)
    await settled(door)
    other = await ask(door, key=OTHER_KEY)

    assert other.headers["x-weir-cache"] == (word if both else "miss")
    assert {event.tenant for event in door.events} == {"acme", "other"}
