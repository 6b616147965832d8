"""Replies in Redis: their bounds in bytes, two proxies at once, and what is left in the end."""

from __future__ import annotations

import asyncio
import random

import pytest
from fixtures_redis import RedisServer

from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink
from metering.redis_replies import RedisReplies
from metering.replies import ENTRY_BYTES, Bounds, ClaimState, Reply, RequestClaim, Shelf

ROOM = Bounds(1_000_000, 1_000_000, 1_000_000)


async def _sizes(link: RedisLink, key: str) -> tuple[int, int, int]:
    """The sum as it is kept, the sum of what is there, and how many there are."""
    flat = await link.call("HGETALL", f"{key}:sizes")
    sizes = {flat[at].decode(): int(flat[at + 1]) for at in range(0, len(flat), 2)}
    entries = await link.call("HGETALL", key)
    there = sum(len(value) for value in entries[1::2])
    count = len(entries) // 2
    assert sizes.get("=", 0) == sum(size for name, size in sizes.items() if name[0] != "=")
    assert sizes.get("=", 0) == sum(
        size for name, size in sizes.items() if name[:2] in ("=t", "=p")
    )
    assert await link.call("ZCARD", f"{key}:ends") == count
    # a value has two times before it, which the allowance of an entry covers
    assert there <= sizes.get("=", 0) - count * (ENTRY_BYTES - 40)
    return sizes.get("=", 0), there, count


@pytest.mark.parametrize("seed", range(5))
async def test_the_budget_is_never_passed(
    redis_link: RedisLink, redis_keys: RedisKeys, seed: int
) -> None:
    """Whatever comes, in whatever sizes, for however many owners and times."""
    chance = random.Random(seed)
    keys = RedisKeys(prefix=redis_keys.prefix, shards=1)
    replies = RedisReplies(redis_link, keys)
    bounds = Bounds(shard=60_000, owner=25_000, entry=12_000)
    key = keys.shelf("any", "replies")

    for _ in range(150):
        owner = Shelf("replies", f"t{chance.randrange(4)}", is_pool=chance.random() < 0.3)
        reply = Reply(200, b"x" * chance.choice((10, 500, 3_000, 11_000, 13_000)), False)
        ttl_ms = chance.choice((1, 5_000, 60_000))
        name = str(chance.randrange(40))
        await replies.keep(owner, name, reply, ttl_ms=ttl_ms, bounds=bounds)
        total, _, _ = await _sizes(redis_link, key)
        assert total <= bounds.shard
        own = await redis_link.call("HGET", f"{key}:sizes", f"={owner.head}")
        assert int(own or 0) <= bounds.owner


async def test_what_an_entry_really_takes(redis_link: RedisLink, redis_keys: RedisKeys) -> None:
    """Redis' own books included: no more than is counted, and a quarter for its allocator."""
    keys = RedisKeys(prefix=redis_keys.prefix, shards=1)
    replies = RedisReplies(redis_link, keys)
    for number in range(500):
        name = f"{number:064x}"
        reply = Reply(200, b"x" * 700, False, {"x-weir-model": "m"})
        await replies.keep(Shelf("replies", "acme"), name, reply, ttl_ms=60_000, bounds=ROOM)
    key = keys.shelf("acme", "replies")

    used = 0
    for each in (key, f"{key}:sizes", f"{key}:ends", f"{key}:ends:t.acme"):
        used += await redis_link.call("MEMORY", "USAGE", each, "SAMPLES", 0)
    counted = int(await redis_link.call("HGET", f"{key}:sizes", "="))

    assert used <= counted * 1.25


async def test_all_of_a_shelf_ends_with_its_last_entry(
    redis_link: RedisLink, redis_keys: RedisKeys
) -> None:
    """Nothing stays behind that nobody sweeps."""
    replies = RedisReplies(redis_link, redis_keys)
    shelf = Shelf("replies", "acme")
    key = redis_keys.shelf("acme", "replies")
    reply = Reply(200, b"x", False)
    await replies.keep(shelf, "long", reply, ttl_ms=600_000, bounds=ROOM)
    await replies.keep(shelf, "short", reply, ttl_ms=5_000, bounds=ROOM)

    left = [
        await redis_link.call("PTTL", each)
        for each in (key, f"{key}:sizes", f"{key}:ends", f"{key}:ends:t.acme")
    ]

    assert all(590_000 < ms <= 601_000 for ms in left)


async def test_another_versions_reply_is_none(redis_link: RedisLink, redis_keys: RedisKeys) -> None:
    """What we cannot read is not there."""
    replies = RedisReplies(redis_link, redis_keys)
    key = redis_keys.shelf("acme", "replies")
    await redis_link.call("HSET", key, "t.acme/n", b"1 99999999999999\nnonsense")
    await redis_link.call("HSET", key, "t.acme/m", b"no times at all")

    assert await replies.find(Shelf("replies", "acme"), "n") is None
    assert await replies.find(Shelf("replies", "acme"), "m") is None


async def test_of_many_proxies_one_has_a_claim(
    redis_server: RedisServer, redis_keys: RedisKeys
) -> None:
    """Fifty ask over two connections at once."""
    async with (
        RedisLink(redis_server.target, timeout_ms=5_000) as one,
        RedisLink(redis_server.target, timeout_ms=5_000) as two,
    ):
        await one.wait_up(5)
        await two.wait_up(5)
        stores = [RedisReplies(link, redis_keys) for link in (one, two)]

        claimed = await asyncio.gather(
            *(
                stores[n % 2].claim(RequestClaim("acme", "key", "d" * 64, f"x{n}"))
                for n in range(50)
            )
        )

    states = [each.state for each in claimed]
    assert (states.count(ClaimState.FREE), states.count(ClaimState.BUSY)) == (1, 49)


async def test_redis_62(redis_62_server: RedisServer, redis_keys: RedisKeys) -> None:
    """The oldest server we support runs the scripts, too."""
    async with RedisLink(redis_62_server.target, timeout_ms=5_000) as link:
        await link.wait_up(5)
        replies = RedisReplies(link, redis_keys)
        shelf, reply = Shelf("replies", "acme"), Reply(200, b"x", False)
        claim = RequestClaim("acme", "key", "d" * 64, "x")

        await replies.keep(shelf, "n", reply, ttl_ms=60_000, bounds=ROOM)
        found = await replies.find(shelf, "n")
        await replies.claim(claim)

        assert found is not None
        assert found.reply == reply
        assert await replies.end(claim, reply, ttl_ms=60_000, bounds=ROOM)
