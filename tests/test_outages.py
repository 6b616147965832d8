"""Redis in trouble, end to end: what the client sees, and that the money comes out right.

A real redis-server with an AOF, a proxy's services behind their real application, the worker over
SQLite. docs/reliability.md names these tests; F-numbers are its faults.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import aiohttp
import pytest
from fixtures_upstream import (
    DONE,
    FINISH,
    Act,
    ScriptedUpstream,
    chunk,
    completion,
    delta,
    stream_head,
)
from outage_site import SELL_NANO, TIMEOUT_MS, Site, outage_site, until
from redis.exceptions import RedisError
from spool_samples import largest_file

from metering.background import spawn

OpenSite = Callable[..., Awaitable[Site]]

REFUSAL_S = TIMEOUT_MS / 1000 + 1.0
"""`redis.timeout_ms` and what a busy machine may need besides."""

STREAM = [stream_head(), chunk(delta("a")), Act.WAIT, chunk(FINISH), chunk(DONE), b"0\r\n\r\n"]


@pytest.fixture
async def open_site(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[OpenSite]:
    monkeypatch.setattr("proxy.services.REDIS_AT_START_S", 0.5)
    monkeypatch.setattr("proxy.redis_watch.TURN_S", 0.1)
    monkeypatch.setattr("proxy.redis_watch.REPLAY_AFTER_S", 0.1)
    monkeypatch.setattr("proxy.redis_watch.CONFIRMED_EVERY_S", 0.1)
    async with contextlib.AsyncExitStack() as stack:

        async def start(**options: Any) -> Site:
            site = await stack.enter_async_context(outage_site(tmp_path, upstream, **options))
            if options.get("starts", True):
                await site.until_ready()
            return site

        yield start


async def refused(site: Site) -> None:
    """The next request is refused by name, in time, and nothing is sent for it."""
    sent, started_s = len(site.upstream.received), time.monotonic()
    answer = await site.chat()

    assert answer.status == 503
    assert (await answer.json())["error"]["code"] == "budget_backend_unavailable"
    assert answer.headers["Retry-After"] == "1"
    assert time.monotonic() - started_s < REFUSAL_S
    assert len(site.upstream.received) == sent


async def all_booked(site: Site, count: int) -> None:
    """Every answer is in the ledger once, in the window once, and nothing is held."""
    await site.until_replayed()
    events = await site.settle()

    assert len(events) == len({event.event_id for event in events}) == count
    assert await site.spent_nano() == count * SELL_NANO
    assert await site.held_nano() == 0


async def until_stream(site: Site, length: int) -> None:
    """Until the stream has so many events."""

    async def has_them() -> bool:
        return await site.stream_length() == length

    await until(has_them)


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


async def _stream(site: Site) -> asyncio.Task[bytes]:
    """A streamed answer whose upstream waits for `proceed`; its body in the end."""
    site.upstream.scripts = [STREAM]
    answer = await site.begin(stream=True)
    await answer.content.readany()
    return spawn(answer.content.read(), name="read")


@pytest.mark.parametrize("spool", ["outage", "always"])
async def test_f07_stopped_for_a_while(
    open_site: OpenSite, spool: Literal["outage", "always"]
) -> None:
    """Nothing hangs, a commit that was applied unseen counts once, unseen holds are given back."""
    site = await open_site(spool=spool)
    reading = await _stream(site)

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
    started_s = time.monotonic()
    await site.served(5)
    took_s = time.monotonic() - started_s
    site.redis.resume()

    assert took_s < 2 * REFUSAL_S
    await site.until_ready()
    await all_booked(site, 6)


@pytest.mark.parametrize("spool", ["outage", "always"])
async def test_f10_answers_are_swallowed(
    open_site: OpenSite, spool: Literal["outage", "always"]
) -> None:
    """A one-way partition: what is asked is done, and nobody hears of it. As F-07."""
    site = await open_site(spool=spool, relays=True)
    assert site.relay is not None
    reading = await _stream(site)

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


@pytest.mark.parametrize("spool", ["outage", "always"])
async def test_f05_emptied(open_site: OpenSite, spool: Literal["outage", "always"]) -> None:
    """FLUSHALL: nobody is admitted until the windows are rebuilt, and then spend is as before.

    Two events were in the ledger; the third was only in Redis, and is sent again.
    """
    site = await open_site(spool=spool)
    await site.served(2)
    await site.settle()
    await site.served()

    await site.redis.ask("FLUSHALL")
    await refused(site)
    if spool == "outage":  # from memory, before the worker looks
        await until_stream(site, 3)
    await site.settle()
    await site.until_ready()
    if spool == "always":  # from disk, but for what the ledger has
        await until_stream(site, 1)
    await site.served()

    await all_booked(site, 4)


async def test_f05_emptied_and_rebuilt_before_we_looked(open_site: OpenSite) -> None:
    """Then the window counts the newest commits twice, as if more were spent: at most those of the
    last ten seconds. The ledger does not."""
    site = await open_site()
    await site.served(2)
    await site.settle()
    await site.redis.ask("FLUSHALL")
    await site.settle()

    await until_stream(site, 2)
    events = await site.settle()

    assert len(events) == 2
    assert await site.spent_nano() in (2 * SELL_NANO, 4 * SELL_NANO)


@pytest.mark.parametrize("spool", ["outage", "always"])
async def test_f05_restarted_empty(open_site: OpenSite, spool: Literal["outage", "always"]) -> None:
    """Redis comes back without its folder."""
    site = await open_site(spool=spool, on_outage="local")
    await site.served(3)
    site.redis.kill()
    await site.served()

    site.redis.lose()
    await site.redis.start()
    await site.settle()
    await site.until_ready()

    async def is_complete() -> bool:
        return len(await site.settle()) == 4

    await until(is_complete)
    assert len({event.event_id for event in await site.settle()}) == 4


@pytest.mark.parametrize("spool", ["outage", "always"])
async def test_f05_power_cut(open_site: OpenSite, spool: Literal["outage", "always"]) -> None:
    """Redis comes back as it was before the last commits: they are in the ledger all the same."""
    site = await open_site(spool=spool)
    await site.served(2)
    copy = site.redis.copy()
    await site.served(3)

    site.redis.kill()
    site.redis.put_back(copy)
    await site.redis.start()
    await site.until_ready()

    await until_stream(site, 5)
    await all_booked(site, 5)


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
    reading = await _stream(site)

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
    reading = await _stream(site)

    site.redis.kill()
    with largest_file(0):
        site.upstream.proceed.set()
        try:
            rest = await reading
        except aiohttp.ClientPayloadError as error:  # cut off
            rest = str(error).encode()

    assert DONE not in rest
    assert site.services.spool.depth.records == 0


async def test_kept_segments_go_once_the_ledger_has_them(open_site: OpenSite) -> None:
    """`metering.spool: always`: confirmed by ranges, deleted by the proxy, and nothing replayed."""
    site = await open_site(spool="always")
    folder = site.settings.data_dir / "spool" / "p-0"
    await site.served(2)
    await site.services.spool.distrust()  # as after a failover: everything is sent again
    await site.settle()

    async def is_gone() -> bool:
        return {path.suffix for path in folder.iterdir()} == {".open"}

    await until(is_gone)
    await all_booked(site, 2)
