"""The watch beside a real Redis: said once per crossing, whoever looks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from fixtures_redis import RedisServer
from fixtures_worker import CollectingLog
from redis.asyncio import Redis
from sqlalchemy import select

from metering.clock import now_ns
from metering.redis_keys import RedisKeys
from metering.settlement.crossings import Marks, backlog_reading
from metering.settlement.ledger import tables
from metering.settlement.ledger.store import Ledger
from metering.settlement.redis_client import connect
from metering.settlement.worker_watch import Watch

MARKS = Marks(backlog_high=3)


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    client = connect(f"unix://{redis_server.path}")
    yield client
    await client.aclose()


def _watch(ledger: Ledger, redis: Redis, keys: RedisKeys) -> Watch:
    lock = asyncio.Lock()
    return Watch(ledger, redis, keys, marks=MARKS, writing=lock, log=CollectingLog())


def _alerts(ledger: Ledger) -> list[Any]:
    with ledger.read() as connection:
        rows = connection.execute(select(tables.outbox).order_by(tables.outbox.c.id)).all()
    return [(row.key, orjson.loads(row.body)) for row in rows]


async def test_each_crossing_is_one_alert_for_all_workers(
    redis: Redis, redis_keys: RedisKeys, ledger: Ledger
) -> None:
    numbers = [9, 10, 30, 8, 10, 7, 10]
    marks = Marks(backlog_high=10)
    for at, number in enumerate(numbers):
        for _ in range(2):  # two workers, and each of them new
            await _watch(ledger, redis, redis_keys).judge(
                [backlog_reading(number, marks)], now_ms=at
            )

    assert [key for key, _ in _alerts(ledger)] == ["backlog:1", "backlog:6"]


async def test_the_backlog_of_all_shards_and_old_spools_are_seen(
    redis: Redis, redis_keys: RedisKeys, ledger: Ledger
) -> None:
    for shard in (0, 0, 5):
        await redis.xadd(redis_keys.stream(shard), {"e": b"x", "h": "y"})
    now_ms = now_ns() // 1_000_000
    spool = {"records": 4, "bytes": 99, "oldest_s": 700.0}
    gone = {"records": 0, "bytes": 0, "oldest_s": 0}
    await redis.hset(redis_keys.proxies, "p1", orjson.dumps({"at_ms": now_ms, "spool": spool}))
    await redis.hset(redis_keys.proxies, "p2", orjson.dumps({"at_ms": 1, "spool": gone}))

    await _watch(ledger, redis, redis_keys).look()

    [(_, backlog), (_, depth)] = _alerts(ledger)
    assert backlog == {"kind": "backlog", "entries": 3, "high_water": 3}
    assert (depth["kind"], depth["proxy_id"], depth["records"]) == ("spool_depth", "p1", 4)
    assert await redis.hkeys(redis_keys.proxies) == [b"p1"]
