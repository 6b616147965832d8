"""The tail of the event streams, on a real Redis."""

from __future__ import annotations

from typing import Any

import pytest
from fixtures_ledger import make_event

from metering.events import encode
from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink
from proxy.dashboard import live_events
from proxy.dashboard.live_events import StreamTail, in_flight


async def _add(link: RedisLink, keys: RedisKeys, tenant: str, **changes: Any) -> None:
    stream = keys.stream(keys.shard(tenant))
    await link.call("XADD", stream, "*", "e", encode(make_event(tenant=tenant, **changes)))


async def _now_ms(link: RedisLink) -> int:
    seconds, microseconds = await link.call("TIME")
    return int(seconds) * 1000 + int(microseconds) // 1000


async def test_the_past_is_read_once_and_then_what_is_new(
    redis_link: RedisLink, redis_keys: RedisKeys
) -> None:
    """Of every shard, in whatever order they come; what is no event is passed over."""
    tail = StreamTail(redis_link, redis_keys)
    await _add(redis_link, redis_keys, "acme")
    await _add(redis_link, redis_keys, "globex")
    await redis_link.call("XADD", redis_keys.stream(3), "*", "e", b"{broken")

    first = await tail.begin(await _now_ms(redis_link))
    nothing = await tail.read()
    await _add(redis_link, redis_keys, "acme", model_upstream="new")
    fresh = await tail.read()

    assert sorted(event["tenant"] for _, event in first) == ["acme", "globex"]
    assert nothing == []
    assert [event["model_upstream"] for _, event in fresh] == ["new"]


async def test_a_flood_is_passed_over_and_said(
    redis_link: RedisLink, redis_keys: RedisKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a round may read: the reader jumps to the end, and is not behind for ever."""
    monkeypatch.setattr(live_events, "PAGE", 2)
    monkeypatch.setattr(live_events, "PAGES_MAX", 2)
    tail = StreamTail(redis_link, redis_keys)
    await tail.begin(await _now_ms(redis_link))
    for _ in range(9):
        await _add(redis_link, redis_keys, "acme")

    found, after = await tail.read(), await tail.read()

    assert len(found) == 4
    assert after == []
    assert tail.skipped == 1


async def test_open_holds_count_until_they_are_due(
    redis_link: RedisLink, redis_keys: RedisKeys
) -> None:
    """Those of all shards; a hold that nobody has ended in time is not in flight."""
    now_ms = await _now_ms(redis_link)
    for shard, due_ms in ((1, now_ms + 60_000), (2, now_ms + 60_000), (2, now_ms - 1)):
        await redis_link.call("ZADD", redis_keys.open_holds(shard), due_ms, f"acme/{due_ms}{shard}")

    assert await in_flight(redis_link, redis_keys, now_ms) == 2
