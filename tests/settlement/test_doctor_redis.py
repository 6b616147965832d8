"""What the doctor asks Redis: of one server and of a Cluster, and of one that is not there."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from fixtures_cluster import Cluster
from fixtures_ledger import BOOK, make_event
from fixtures_redis import RedisServer

from metering.clock import now_ns
from metering.events import encode, payload_hash
from metering.flags import TENANT, Flag, FlagKind, put_up
from metering.redis_keys import GROUP, RedisKeys
from metering.settlement.doctor_facts import FlagUp, Reached, Streams, Unknown
from metering.settlement.doctor_redis import ask_redis
from metering.settlement.redis_client import connect


async def _fill(url: str, keys: RedisKeys) -> None:
    """Two events of acme of which one was given to a worker, one of beta, and a flag."""
    async with connect(url) as redis:
        await redis.hset(keys.meta, "shards", "16")
        await redis.set(keys.prices(BOOK.sell_version), b"body")
        await redis.set(keys.epoch(0), "1")
        report = {"at_ms": now_ns() // 10**6, "spool": {"records": 3, "bytes": 9, "oldest_s": 5.0}}
        await redis.hset(keys.proxies, "far-0", orjson.dumps(report))
        await put_up(redis.execute_command, keys, "acme", Flag(FlagKind.KILLED, TENANT, "ann"))
        for tenant in ("acme", "acme", "beta"):
            body = encode(make_event(tenant=tenant))
            stream = keys.stream(keys.shard(tenant))
            await redis.xadd(stream, {"e": body, "h": payload_hash(body)})
        stream = keys.stream(keys.shard("acme"))
        await redis.xgroup_create(stream, GROUP, id="0")
        await redis.xreadgroup(GROUP, "w0", {stream: ">"}, count=1)


def _check(keys: RedisKeys, answer: tuple[object, object, object]) -> None:
    reached, streams, flags = answer
    assert isinstance(reached, Reached)
    assert (reached.meta, len(reached.without_epoch)) == ({"shards": "16"}, 15)
    assert abs(reached.skew_ms) <= 1_000 + reached.round_trip_ms
    assert isinstance(streams, Streams)
    assert (streams.waiting, streams.looked_at, streams.of_tenant) == (3, 3, 2)
    assert (streams.has_group, set(streams.workers)) == (True, {"w0"})
    assert streams.wanted_prices == {BOOK.cost_version: 3}
    assert streams.newest_of_tenant_ms is not None
    assert streams.since_ms is not None
    assert [(each.proxy_id, each.records) for each in streams.spools] == [("far-0", 3)]
    assert flags == (FlagUp("killed", "", "ann", "", 0),)
    assert keys.prefix == reached.prefix


async def test_of_one_server(redis_server: RedisServer, redis_keys: RedisKeys) -> None:
    await _fill(redis_server.url, redis_keys)

    _check(redis_keys, await ask_redis(redis_server.url, redis_keys, "acme"))


@pytest.mark.timeout(60)
async def test_of_a_cluster(redis_cluster: Cluster, redis_keys: RedisKeys) -> None:
    """Every command has keys of one slot."""
    await _fill(redis_cluster.url, redis_keys)

    _check(redis_keys, await ask_redis(redis_cluster.url, redis_keys, "acme"))


async def test_what_is_no_event_is_passed_over(
    redis_server: RedisServer, redis_keys: RedisKeys
) -> None:
    """Nonsense in a stream stops no question."""
    async with connect(redis_server.url) as redis:
        for body in (b"nonsense", b"[1]"):
            await redis.xadd(redis_keys.stream(redis_keys.shard("acme")), {"e": body})

    _, streams, _ = await ask_redis(redis_server.url, redis_keys, "acme")

    assert isinstance(streams, Streams)
    assert (streams.waiting, streams.looked_at, streams.newest_of_tenant_ms) == (2, 0, None)


async def test_nobody_is_there(redis_keys: RedisKeys, tmp_path: Path) -> None:
    """One reason for all; a password in the address is not in it."""
    for url in (f"unix://{tmp_path}/none.sock", "redis://:geheim@127.0.0.1:1/0"):
        reached, streams, flags = await ask_redis(url, redis_keys, "acme")

        assert isinstance(reached, Unknown)
        assert "geheim" not in reached.why
        assert streams == flags == Unknown("Redis is away")
