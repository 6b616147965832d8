"""What every process sees in Redis is there for each door that is opened on it."""

from __future__ import annotations

from dataclasses import replace

from fixtures_door import CollectingLog, MemorySpool, settings

from metering.memory_caps import MemoryCaps
from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink
from metering.redis_owners import RedisOwners
from proxy.door import Door
from proxy.metrics import Metrics
from proxy.metrics_redis import MeasuredRunner
from proxy.settings import Secret
from proxy.stores import with_stores


def bare_door() -> Door:
    return Door(
        settings=settings({"one": "http://127.0.0.1:1/v1"}),
        caps=MemoryCaps(),
        transport=None,  # type: ignore[arg-type]  # nothing is sent
        spool=MemorySpool(),
        open=None,  # type: ignore[arg-type]  # nothing is held
        log=CollectingLog(),
        proxy_id="p-0",
    )


async def test_two_doors_see_the_same(redis_link: RedisLink, redis_keys: RedisKeys) -> None:
    """What one process notes of objects and batches, the other finds."""
    runner = MeasuredRunner(redis_link, Metrics())
    (one, _), (other, _) = (with_stores(bare_door(), runner, redis_keys) for _ in range(2))

    await one.owned.note("acme", "openai", ["file-1"])
    await one.batches.swap("acme", "openai/batch_1", was=b"", becomes=b"open")

    owned, _kept = await other.owned.owned("acme", "openai", ["file-1"])
    assert owned == {"file-1"}
    assert await other.batches.look("acme", ["openai/batch_1"]) == [b"open"]
    names = ["openai/file-1"]
    assert (await RedisOwners(redis_link, redis_keys).look("acme", names)).owned == {*names}


async def test_answers_may_have_a_redis_of_their_own(
    redis_link: RedisLink, redis_keys: RedisKeys
) -> None:
    """With `cache.url` there is a second way to open; without it there is nothing to open."""
    runner = MeasuredRunner(redis_link, Metrics())
    plain = bare_door()
    url = Secret("redis://127.0.0.1:1/0")
    apart = replace(plain, settings=replace(plain.settings, cache_url=url))

    _, nothing = with_stores(plain, runner, redis_keys)
    _, second = with_stores(apart, runner, redis_keys)

    assert type(nothing).__name__ == "nullcontext"
    assert type(second).__name__ != "nullcontext"
