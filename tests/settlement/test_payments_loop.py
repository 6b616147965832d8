"""From Redis into the ledger, beside settlement."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from fixtures_payments import TENANTS, USD, Till
from fixtures_redis import RedisServer
from fixtures_worker import CollectingLog
from redis.asyncio import Redis

from metering.callbacks import Callback
from metering.redis_callbacks import RedisCallbacks
from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink
from metering.settlement.beside import run_beside
from metering.settlement.common_keys import CommonKeys
from metering.settlement.payments_loop import PaymentsLoop, callback_of
from metering.settlement.redis_client import connect
from metering.settlement.terms import Offer, Terms
from metering.settlement.watch import Unwatched


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    client = connect(redis_server.url)
    yield client
    await client.aclose()


def offered(till: Till, log: CollectingLog) -> Offer:
    return Offer(Terms(stripe=till.settings, tenants=TENANTS, sinks=()), log)


async def _until(till: Till, usd: int) -> None:
    async with asyncio.timeout(8):
        while await asyncio.to_thread(till.left) != usd * USD:
            await asyncio.sleep(0.02)


async def test_a_callback_in_redis_becomes_credit(
    till: Till, redis: Redis, redis_link: RedisLink, redis_keys: RedisKeys
) -> None:
    """And is gone from Redis, also the one that nobody can read; what is odd is said."""
    till.stripe.pay()
    [event] = till.stripe.events
    await redis.xadd(redis_keys.callbacks, {"what": "?"})
    callback = Callback(event["id"], event["type"], event["created"])
    await RedisCallbacks(redis_link, redis_keys).take(callback)
    log, over = CollectingLog(), asyncio.Event()

    async with asyncio.TaskGroup() as group:
        work = run_beside(
            till.ledger,
            redis,
            redis_keys,
            offered(till, log),
            over=over,
            is_cluster=False,
            log=log,
            watch=Unwatched(),
        )
        group.create_task(work)
        await _until(till, 100)
        over.set()

    assert await redis.xlen(redis_keys.callbacks) == 0
    names = [line[0] for line in log.lines]
    assert "callbacks_unreadable" in names
    assert "payments_booked" in names


async def test_nothing_is_taken_unless_configured(
    till: Till, redis: Redis, redis_keys: RedisKeys
) -> None:
    """What is in Redis waits for who can book it."""
    await redis.xadd(redis_keys.callbacks, {"id": "evt_1", "type": "x", "created": "1"})
    log, over = CollectingLog(), asyncio.Event()
    offer = Offer(Terms(stripe=replace(till.settings, webhook_secrets=()), sinks=()), log)
    common = CommonKeys(redis_keys.callbacks, is_cluster=False, log=log)
    loop = PaymentsLoop(till.ledger, redis, redis_keys.callbacks, offer, common=common, log=log)

    async with asyncio.TaskGroup() as group:
        group.create_task(loop.run(over))
        await asyncio.sleep(0)
        over.set()

    assert await redis.xlen(redis_keys.callbacks) == 1


@pytest.mark.parametrize(
    "fields", [{}, {b"id": b"a", b"type": b"b", b"created": b"x"}, {b"id": b"\xff"}]
)
def test_what_is_no_callback_is_none(fields: dict[bytes, bytes]) -> None:
    assert callback_of(fields) is None
