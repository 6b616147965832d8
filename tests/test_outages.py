"""Redis in trouble, end to end: what the client sees, and that the money comes out right.

A real redis-server with an AOF, a proxy's services behind their real application, the worker over
SQLite. docs/reliability.md names these tests; F-numbers are its faults.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from statistics import median
from typing import Literal

import aiohttp
import pytest
from fixtures_outage import (
    REFUSAL_S,
    TIMEOUT_MS,
    OpenSite,
    all_booked,
    begin_stream,
    refused,
    until,
)
from fixtures_upstream import DONE, completion
from redis.exceptions import RedisError
from spool_samples import largest_file

from metering.background import spawn


async def test_f06_absent_at_the_start(open_site: OpenSite) -> None:
    """The proxy listens and refuses; Redis comes, the worker marks it, and it serves."""
    site = await open_site(starts=False)
    await refused(site)

    await site.redis.start()
    await site.settle()
    await site.until_served()

    await all_booked(site, 1)


async def test_f05_killed_and_started_again(open_site: OpenSite) -> None:
    """With its AOF: nothing is lost; what was served meanwhile came out of the local share."""
    site = await open_site(on_outage="local")
    await site.served(2)

    site.redis.kill()
    await site.served(2)
    waited = site.services.spool.depth.records
    await site.redis.start()
    await site.until_ready()
    await site.served()

    assert waited == 2
    await all_booked(site, 5)
    words = [event.admitted_by for event in await site.settle()]
    assert sorted(words) == ["caps", "caps", "caps", "local", "local"]


async def test_f06_closed_refuses_and_serves_again(open_site: OpenSite) -> None:
    site = await open_site()
    await site.served()

    site.redis.kill()
    for _ in range(3):
        await refused(site)
    await site.redis.start()
    await site.until_served()

    await all_booked(site, 2)


async def test_f06_open_serves_everybody_and_says_so(open_site: OpenSite) -> None:
    """Even whom nobody has seen; the usage is on disk, and in the ledger afterwards."""
    site = await open_site(on_outage="open", starts=False)
    await site.served(3)

    counts = site.services.caps.counts
    assert (counts.outages, counts.admitted, counts.refused) == (1, 3, 0)
    await site.redis.start()
    await all_booked(site, 3)
    assert {event.admitted_by for event in await site.settle()} == {"open"}


@pytest.mark.parametrize("spool", ["outage", "always"])
async def test_f07_stopped_for_a_while(
    open_site: OpenSite, spool: Literal["outage", "always"]
) -> None:
    """Nothing hangs, a commit that was applied unseen counts once, unseen holds are given back."""
    site = await open_site(spool=spool)
    reading = await begin_stream(site)

    site.redis.pause()
    await refused(site)
    site.upstream.proceed.set()
    async with asyncio.timeout(2 * REFUSAL_S):
        rest = await reading
    await asyncio.sleep(0.5)
    site.redis.resume()

    assert rest.endswith(DONE)
    await site.until_replayed()

    async def is_free() -> bool:
        return await site.held_nano() == 0

    await until(is_free)
    assert await site.stream_length() == 1
    [event] = await site.settle()
    assert await site.spent_nano() == event.admission_nano


async def test_f07_local_goes_on_while_redis_is_stopped(open_site: OpenSite) -> None:
    """One request waits its time, the next none; what Redis held unseen ends with the commits."""
    site = await open_site(on_outage="local")
    await site.served()

    site.redis.pause()
    took_s = []
    for _ in range(5):
        started_s = time.monotonic()
        await site.served()
        took_s.append(time.monotonic() - started_s)
    site.redis.resume()

    assert median(took_s) < TIMEOUT_MS / 1000  # the disk may hold up one of them, not most
    await site.until_ready()
    await all_booked(site, 6)


@pytest.mark.parametrize("spool", ["outage", "always"])
async def test_f10_answers_are_swallowed(
    open_site: OpenSite, spool: Literal["outage", "always"]
) -> None:
    """A one-way partition: what is asked is done, and nobody hears of it. As F-07."""
    site = await open_site(spool=spool, relays=True)
    assert site.relay is not None
    reading = await begin_stream(site)

    site.relay.swallows = True
    await refused(site)
    site.upstream.proceed.set()
    async with asyncio.timeout(2 * REFUSAL_S):
        rest = await reading
    site.relay.swallows = False

    assert rest.endswith(DONE)
    await site.until_replayed()

    async def is_free() -> bool:
        return await site.held_nano() == 0

    await until(is_free)
    assert await site.stream_length() == 1
    assert len(await site.settle()) == 1


REFUSALS = {
    "f08_full": (("CONFIG", "SET", "maxmemory", 1), ("CONFIG", "SET", "maxmemory", 0)),
    "f09_read_only": (("REPLICAOF", "127.0.0.1", 1), ("REPLICAOF", "NO", "ONE")),
}


@pytest.mark.parametrize(("breaks", "mends"), REFUSALS.values(), ids=REFUSALS)
async def test_a_redis_that_refuses(
    open_site: OpenSite, breaks: tuple[str | int, ...], mends: tuple[str | int, ...]
) -> None:
    """A new request is refused, one that is open gets its end, and nothing needs a restart."""
    site = await open_site()
    await site.served()
    reading = await begin_stream(site)

    await site.redis.ask(*breaks)
    await refused(site)
    site.upstream.proceed.set()
    rest = await reading
    await site.redis.ask(*mends)

    assert rest.endswith(DONE)
    await site.until_replayed()
    site.upstream.scripts = [[completion(prompt=10, output=5)]]
    await site.until_served()
    assert len(await site.settle()) == 3


async def test_a_redis_that_refuses_is_noticed_without_requests(open_site: OpenSite) -> None:
    """Who asks whether requests would be served learns it, and learns when they would be again."""
    site = await open_site()
    services = site.services

    await site.redis.ask("CONFIG", "SET", "maxmemory", "1")
    async with asyncio.timeout(5):
        while await services.ready() or not services.caps.is_away:
            await asyncio.sleep(0.02)
    await site.redis.ask("CONFIG", "SET", "maxmemory", "0")
    async with asyncio.timeout(5):
        while not await services.ready():
            await asyncio.sleep(0.02)

    assert not services.caps.is_away
    assert (services.caps.counts.outages, services.caps.counts.refused) == (1, 0)


async def test_a_busy_redis(open_site: OpenSite) -> None:
    """Somebody's endless script: refused in time, served once it was stopped."""
    site = await open_site()
    await site.redis.ask("CONFIG", "SET", "lua-time-limit", 20)

    async def loop() -> None:
        with contextlib.suppress(RedisError):  # it is killed
            await site.redis.ask("EVAL", "while true do end", 0)

    looping = spawn(loop(), name="loop")
    await asyncio.sleep(0.1)
    await refused(site)
    await site.redis.ask("SCRIPT", "KILL")
    await looping
    await site.until_served()

    await all_booked(site, 1)


@pytest.mark.parametrize(
    "command",
    [("SCRIPT", "FLUSH"), ("ACL", "SETUSER", "default", "-evalsha", "-script")],
    ids=["scripts_gone", "scripts_forbidden"],
)
async def test_scripts_that_are_gone_or_forbidden_cost_nobody_anything(
    open_site: OpenSite, command: tuple[str, ...]
) -> None:
    site = await open_site()
    await site.served()

    await site.redis.ask(*command)
    await site.served(2)

    await all_booked(site, 3)


async def test_f24_disk_full_while_redis_is_away(open_site: OpenSite) -> None:
    """What could not be recorded is not begun; with room again it is."""
    site = await open_site(on_outage="local")
    await site.served()
    site.redis.kill()
    await site.served()

    with largest_file(4_096):

        async def is_known() -> bool:
            return not site.services.spool.is_writable

        await until(is_known)
        await refused(site)
    await site.until_served()
    await site.redis.start()

    await all_booked(site, 3)


async def test_f24_disk_full_under_an_open_exchange(open_site: OpenSite) -> None:
    """The client does not see a completed answer of which nothing is recorded."""
    site = await open_site()
    reading = await begin_stream(site)

    site.redis.kill()
    with largest_file(0):
        site.upstream.proceed.set()
        try:
            rest = await reading
        except aiohttp.ClientPayloadError as error:  # cut off
            rest = str(error).encode()

    assert DONE not in rest
    assert site.services.spool.depth.records == 0
