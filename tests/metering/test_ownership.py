"""Owners answer alike in memory and in Redis."""

from __future__ import annotations

import pytest

from metering.memory_owners import MemoryOwners
from metering.ownership import PASSING_MS, Owners
from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink
from metering.redis_owners import RedisOwners


@pytest.fixture(params=["memory", "redis"])
def owners(request: pytest.FixtureRequest) -> Owners:
    if request.param == "memory":
        return MemoryOwners(objects_max=3)
    link, keys = request.getfixturevalue("redis_link"), request.getfixturevalue("redis_keys")
    return RedisOwners(link, keys, objects_max=3)


async def test_what_was_noted_is_the_tenants(owners: Owners) -> None:
    """And nobody else's; what was never noted is nobody's."""
    await owners.note("acme", ["one/file-1", "one/file-2"], is_passing=False)

    found = await owners.look("acme", ["one/file-1", "one/file-3", "two/file-1"])
    foreign = await owners.look("globex", ["one/file-1"])

    assert (found.owned, found.kept) == (frozenset({"one/file-1"}), 2)
    assert (foreign.owned, foreign.kept) == (frozenset(), 0)


async def test_noting_twice_counts_once(owners: Owners) -> None:
    """A list that is read again teaches nothing new."""
    for _ in range(2):
        await owners.note("acme", ["one/file-1"], is_passing=False)

    assert (await owners.look("acme", [])).kept == 1


async def test_what_was_forgotten_is_nobodys(owners: Owners) -> None:
    """Kept or passing; forgetting what is unknown harms nothing."""
    await owners.note("acme", ["one/file-1"], is_passing=False)
    await owners.note("acme", ["one/resp-1"], is_passing=True)

    await owners.forget("acme", ["one/file-1", "one/resp-1", "one/other"])

    assert await owners.look("acme", ["one/file-1", "one/resp-1"]) == await owners.look(
        "globex", []
    )


async def test_what_passes_makes_room_for_the_new(owners: Owners) -> None:
    """The oldest beyond the bound are forgotten; what is kept is never forgotten for it."""
    await owners.note("acme", [f"one/file-{n}" for n in range(5)], is_passing=False)
    for n in range(5):
        await owners.note("acme", [f"one/resp-{n}"], is_passing=True)
    names = [f"one/{kind}-{n}" for kind in ("file", "resp") for n in range(5)]

    found = await owners.look("acme", names)

    assert found.kept == 5
    assert len([name for name in found.owned if "resp" in name]) == 3
    assert len([name for name in found.owned if "file" in name]) == 5


async def test_more_than_one_script_takes(owners: Owners) -> None:
    """Hundreds of names are looked up and noted in parts."""
    names = [f"one/file-{n}" for n in range(600)]
    await owners.note("acme", names, is_passing=False)

    found = await owners.look("acme", [*names, "one/other"])

    assert (found.owned, found.kept) == (frozenset(names), 600)


async def test_what_passes_is_forgotten_in_time() -> None:
    """After as long as the provider keeps it."""
    now = [1_000]
    owners = MemoryOwners(now_ms=lambda: now[0])
    await owners.note("acme", ["one/resp-1"], is_passing=True)
    now[0] += PASSING_MS - 1
    before = await owners.look("acme", ["one/resp-1"])
    now[0] += 1

    assert before.owned == {"one/resp-1"}
    assert (await owners.look("acme", ["one/resp-1"])).owned == frozenset()


async def test_redis_forgets_what_passed(redis_link: RedisLink, redis_keys: RedisKeys) -> None:
    """An old entry is not the tenant's any more, and goes with the next one that is noted; the set
    itself lapses, the one of what is kept never does."""
    owners = RedisOwners(redis_link, redis_keys)
    key = redis_keys.owned_passing("acme")
    await redis_link.call("ZADD", key, 1, "one/resp-old")
    found = await owners.look("acme", ["one/resp-old"])

    await owners.note("acme", ["one/resp-new"], is_passing=True)
    await owners.note("acme", ["one/file-1"], is_passing=False)

    assert found.owned == frozenset()
    assert await redis_link.call("ZRANGE", key, 0, -1) == [b"one/resp-new"]
    assert 0 < await redis_link.call("PTTL", key) <= PASSING_MS
    assert await redis_link.call("PTTL", redis_keys.owned("acme")) == -1
