"""A stop of the worker while Redis says nothing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import pytest
from fixtures_ledger import make_event
from fixtures_redis import RedisServer
from fixtures_worker import FAST, Site
from redis.exceptions import ConnectionError as RedisConnectionError

from metering.background import spawn
from metering.settlement.worker_stop import SilentRedisError, need_answers


@dataclass
class Server:
    """Answers, refuses, or says nothing."""

    says: int | Exception | None = 1
    asked: int = 0

    async def exists(self, *names: str) -> int:
        self.asked += len(names)
        if self.says is None:
            await asyncio.Event().wait()
        if isinstance(self.says, Exception):
            raise self.says
        assert isinstance(self.says, int)
        return self.says


async def test_nobody_is_asked_before_the_stop() -> None:
    """A worker that is not told to stop waits for Redis as long as it takes."""
    server, stop = Server(says=None), asyncio.Event()

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(
            need_answers(server, "key", stop, asyncio.Event(), within_s=0.01), 0.05
        )

    assert server.asked == 0


async def test_silence_ends_it() -> None:
    stop = asyncio.Event()
    stop.set()

    with pytest.raises(SilentRedisError, match=r"did not answer within 0.02 s"):
        await need_answers(Server(says=None), "key", stop, asyncio.Event(), within_s=0.02)


@pytest.mark.parametrize("says", [0, RedisConnectionError("refused"), ConnectionResetError()])
async def test_answers_and_refusals_do_not(says: int | Exception) -> None:
    """The lane meets them itself, and counts."""
    server, stop = Server(says=says), asyncio.Event()
    stop.set()

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(
            need_answers(server, "key", stop, asyncio.Event(), within_s=0.02), 0.2
        )

    assert server.asked > 2


@pytest.mark.parametrize("one_server", [True, False])
async def test_what_is_left_is_settled_by_the_next_start(
    site: Site, redis_server: RedisServer, one_server: bool
) -> None:
    """In all lanes at once, however many there are; it is no fault of the worker."""
    await site.publish_prices()
    timing = replace(FAST, stop_answer_s=0.2)
    working = spawn(site.work(drain=False, timing=timing, one_server=one_server), name="worker")
    await site.commit(make_event())
    await site.until_settled(1)
    await site.commit(make_event(), make_event())
    redis_server.pause()
    try:
        site.stop.set()
        async with asyncio.timeout(4):
            await working
    finally:
        redis_server.resume()

    assert "stop_leaves_events" in site.log.said
    site.stop.clear()
    await site.work()
    assert site.count("usage_event") == 3
    assert site.findings() == []


async def test_a_cancelling_that_nobody_heard_of_does_not_keep_it() -> None:
    """A client that is cancelled while it connects may swallow that; the work is over all the same.

    A worker with a damaged ledger did not stop any more.
    """
    stop, over = asyncio.Event(), asyncio.Event()
    stop.set()
    asking = asyncio.ensure_future(need_answers(Server(says=1), "key", stop, over, within_s=0.02))
    await asyncio.sleep(0.03)
    over.set()

    async with asyncio.timeout(1):
        await asking
