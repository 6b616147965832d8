"""The way to a master that Sentinels watch, over real ones."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest
from fixtures_cluster import HOST, MASTER, Watched, nodes, until

from metering.caps import CapsUnavailableError
from metering.redis_sentinel import SentinelLink
from metering.redis_url import SentinelTarget, parse_redis_url

pytestmark = pytest.mark.timeout(30)


@contextlib.asynccontextmanager
async def linked(url: str) -> AsyncIterator[SentinelLink]:
    target = parse_redis_url(url)
    assert isinstance(target, SentinelTarget)
    async with SentinelLink(target) as link:
        yield link


async def until_written(link: SentinelLink, key: str) -> float:
    """Write until it is taken; how long the slowest refusal took."""
    slowest_s = 0.0
    while True:
        began_s = time.monotonic()
        try:
            await link.call("SET", key, "x")
        except CapsUnavailableError:
            slowest_s = max(slowest_s, time.monotonic() - began_s)
        else:
            return slowest_s
        await asyncio.sleep(0.01)


async def test_one_sentinel_leads_to_the_others_and_a_failover_to_the_new_master(
    own_watched: Watched,
) -> None:
    """The Sentinel that was named may die together with the master."""
    first = own_watched.sentinels[0]
    async with linked(f"redis+sentinel://{HOST}:{first.port}/{MASTER}") as link:
        await link.wait_up(5)
        assert await link.call_each("SET", "before", "x") == [b"OK"]
        while len(link._sentinels) < 3 or not all(s.is_up for s in link._sentinels.values()):
            await asyncio.sleep(0.01)
        old = own_watched.master()
        assert (link.generation, link.version >= (6, 2)) == (0, True)

        old.kill()
        first.kill()
        slowest_s = await until_written(link, "after")

        new = next(server for server in own_watched.servers if server is not old)
        assert new.ask("GET", "after") == "x"
        assert link.generation == 1
        assert slowest_s < 0.25 + 0.2


async def test_a_planned_failover_is_followed_while_the_old_master_still_is_one(
    own_watched: Watched,
) -> None:
    """It goes on as a master for some seconds; the Sentinels' word counts, not its own."""
    old = own_watched.master()
    async with linked(own_watched.url) as link:
        await link.wait_up(5)
        await link.call("SET", "before", "x")

        own_watched.sentinels[0].ask("SENTINEL", "FAILOVER", MASTER)
        await asyncio.to_thread(until, lambda: own_watched.master() is not old)
        async with asyncio.timeout(5):
            while link.generation == 0:
                await asyncio.sleep(0.01)
        was_master = old.ask("ROLE")[0] == "master"
        await until_written(link, "after")

        assert was_master
        assert own_watched.master().ask("GET", "after") == "x"
        assert link.generation == 1


async def test_what_is_missing_is_named() -> None:
    """A master that nobody watches, and Sentinels that are not there."""
    with nodes() as start:
        sentinel = start(text="")
        until(lambda: sentinel.ask("PING"))
        async with linked(f"redis+sentinel://{HOST}:{sentinel.port}/other") as link:
            with pytest.raises(CapsUnavailableError, match="No such master"):
                await link.wait_up(0.5)
            with pytest.raises(CapsUnavailableError, match="No such master"):
                await link.call("PING")
    async with linked(f"redis+sentinel://{HOST}:1/{MASTER}") as link:
        with pytest.raises(CapsUnavailableError, match=r"no Sentinel answers \(127\.0\.0\.1:1\)"):
            await link.wait_up(0.3)
