"""The way to a Redis Cluster, over real ones."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from caps_samples import ask, cap, hold
from fixtures_cluster import HOST, Cluster, Node, nodes, until

from metering.caps import CapsUnavailableError, Reservation, Vector
from metering.redis_caps import CapsSetupError, RedisCaps
from metering.redis_cluster import ClusterLink
from metering.redis_events import mark_epoch, publish_prices, read_prices
from metering.redis_keys import RedisKeys
from metering.redis_slots import slot_of
from metering.redis_url import ClusterTarget, RedisTarget, parse_redis_url
from metering.redis_wire import RedisReplyError
from metering.scripts import load_script

pytestmark = pytest.mark.timeout(30)


@contextlib.asynccontextmanager
async def linked(url: str, *, timeout_ms: int = 2_000) -> AsyncIterator[ClusterLink]:
    target = parse_redis_url(url)
    assert isinstance(target, ClusterTarget)
    async with ClusterLink(target, timeout_ms=timeout_ms) as link:
        await link.wait_up(10)
        yield link


def others(cluster: Cluster, node: Node) -> list[Node]:
    return [each for each in cluster.masters if each is not node]


def begin_move(slot: int, source: Node, target: Node) -> None:
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)


def carry(slot: int, source: Node, target: Node, *, count: int = 1_000) -> None:
    keys = source.ask("CLUSTER", "GETKEYSINSLOT", slot, count)
    source.ask("MIGRATE", HOST, target.port, "", 0, 5_000, "KEYS", *keys)


def end_move(slot: int, source: Node, target: Node) -> None:
    for node in (target, source):
        node.ask("CLUSTER", "SETSLOT", slot, "NODE", target.id)


async def test_keys_of_every_slot_are_reached_by_one_seed(
    redis_cluster: Cluster, redis_keys: RedisKeys
) -> None:
    """Also those without a hash tag, which stand beside the shards."""
    async with linked(f"redis+cluster://{HOST}:{redis_cluster.masters[1].port}") as link:
        for shard in range(redis_keys.shards):
            assert await mark_epoch(link, redis_keys, shard, now_ms=1)
        await publish_prices(link, redis_keys, {"abc": b"{}"})

        assert await read_prices(link, redis_keys, "abc") == b"{}"
        assert await RedisCaps(link, redis_keys).prepare() == ()
        assert await link.call("PING") == b"PONG"
        assert await link.call_each("PING") == [b"PONG"] * 3
        assert link.is_up
        assert link.generation == 0
        assert link.version >= (6, 2)


async def test_eviction_is_checked_on_every_master(redis_cluster: Cluster) -> None:
    spoilt = redis_cluster.masters[2]
    spoilt.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        async with linked(redis_cluster.url) as link:
            with pytest.raises(CapsSetupError, match="allkeys-lru"):
                await RedisCaps(link, RedisKeys(prefix="evict")).prepare()
    finally:
        spoilt.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")


async def test_a_slot_that_has_moved_is_followed_at_once(
    redis_cluster: Cluster, redis_keys: RedisKeys
) -> None:
    """MOVED: the call that meets it succeeds, and its data came along, so nothing was replaced."""
    key = redis_keys.epoch(7)
    source = redis_cluster.owner(key)
    target, slot = others(redis_cluster, source)[0], slot_of(key)
    async with linked(redis_cluster.url) as link:
        await link.call("SET", key, "kept")
        begin_move(slot, source, target)
        carry(slot, source, target)
        end_move(slot, source, target)

        answers = await asyncio.gather(*(link.call("GET", key) for _ in range(20)))
        await asyncio.sleep(0.2)  # the map is asked for again

        assert answers == [b"kept"] * 20
        assert await link.call("GET", key) == b"kept"
        assert (link.is_up, link.generation) == (True, 0)


async def test_a_slot_on_its_way_is_asked_where_its_keys_are(
    redis_cluster: Cluster, redis_keys: RedisKeys
) -> None:
    """ASK for what is gone already, for commands and for scripts; the owner has the rest."""
    gone, left = redis_keys.epoch(9), redis_keys.stream(9)
    source = redis_cluster.owner(gone)
    target, slot = others(redis_cluster, source)[0], slot_of(gone)
    async with linked(redis_cluster.url) as link:
        await link.call("SET", gone, "gone")
        begin_move(slot, source, target)
        carry(slot, source, target)
        script = load_script("release")

        assert await link.call("GET", gone) == b"gone"
        assert await link.call("HSET", left, "p", "1") == 1
        with pytest.raises(RedisReplyError) as refused:
            await link.eval(script, [gone], [])  # one key, which is there: it is run there

        end_move(slot, source, target)
        assert await link.call("HGET", left, "p") == b"1"
    assert refused.value.code not in {"ASK", "MOVED", "TRYAGAIN"}


async def test_a_slot_with_its_keys_in_two_places_makes_a_script_wait(
    redis_cluster: Cluster, redis_keys: RedisKeys
) -> None:
    """TRYAGAIN: nothing is run until the slot has arrived; a call that is due before is refused."""
    exchange = hold(cap(1_000), tenant="acme")
    key = redis_keys.of("acme")
    source = redis_cluster.owner(key)
    target, slot = others(redis_cluster, source)[0], slot_of(key)
    async with linked(redis_cluster.url) as patient, linked(redis_cluster.url) as link:
        await mark_epoch(link, redis_keys, redis_keys.shard("acme"), now_ms=1)
        caps = RedisCaps(patient, redis_keys)
        await caps.reserve(exchange, [ask(100)], owner="p", ttl_ms=60_000)
        begin_move(slot, source, target)
        carry(slot, source, target, count=2)

        async with linked(redis_cluster.url, timeout_ms=100) as hasty:
            began_s = time.monotonic()
            with pytest.raises(CapsUnavailableError, match="on its way"):
                await RedisCaps(hasty, redis_keys).commit(exchange, Vector(1, 1, 1), [])
            took_s = time.monotonic() - began_s

        waiting = asyncio.ensure_future(caps.commit(exchange, Vector(50, 5, 1), [b"{}"]))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        carry(slot, source, target)
        end_move(slot, source, target)
        committed = await waiting

    assert took_s < 0.5
    assert committed.states[0].spent == Vector(50, 5, 1)
    assert committed.states[0].held == Vector()


async def test_a_master_dies_and_its_replica_takes_over(
    own_cluster: Cluster, redis_keys: RedisKeys
) -> None:
    """Its slots fail at once until then; the generation says that something may be lost."""
    dying = own_cluster.masters[0]
    mine = next(n for n in range(16) if own_cluster.owner(redis_keys.epoch(n)) is dying)
    exchange = hold(cap(1_000), tenant=next(_tenants_of(redis_keys, mine)))
    async with linked(own_cluster.url, timeout_ms=250) as link:
        caps = RedisCaps(link, redis_keys)
        await mark_epoch(link, redis_keys, mine, now_ms=1)
        await caps.reserve(exchange, [ask(100)], owner="p", ttl_ms=60_000)
        dying.ask("WAIT", 1, 1_000)

        dying.kill()
        slowest_s, refused = 0.0, 0
        while True:
            began_s = time.monotonic()
            try:
                answer = await caps.reserve(exchange, [ask(100)], owner="p", ttl_ms=60_000)
                break
            except CapsUnavailableError:
                refused += 1
                slowest_s = max(slowest_s, time.monotonic() - began_s)
            await asyncio.sleep(0.01)
        await link.wait_up(5)
        generation = link.generation

    assert isinstance(answer, Reservation)
    assert answer.repeat, "the hold was replicated"
    assert refused > 0
    assert slowest_s < 0.25 + 0.2
    assert generation == 1


async def test_a_restarted_master_is_another_generation(own_cluster: Cluster) -> None:
    """Nobody took over: the same node came back, perhaps with less than it had."""
    async with linked(own_cluster.url) as link:
        with contextlib.suppress(RedisReplyError, CapsUnavailableError):
            await link._links[HOST, own_cluster.masters[0].port].call("QUIT")
        await link.wait_up(5)
        assert link.generation == 0

        unreplicated = own_cluster.masters[2]
        unreplicated.kill()
        await asyncio.sleep(0.1)
        assert not link.is_up
        unreplicated.restart()
        while not (link.is_up and link.generation):
            await asyncio.sleep(0.02)
        assert link.generation == 1


async def test_a_server_alone_says_that_it_is_no_cluster() -> None:
    with nodes() as start:
        node = start()
        until(lambda: node.ask("PING"))
        target = ClusterTarget(((HOST, node.port),), RedisTarget())
        async with ClusterLink(target) as link:
            with pytest.raises(CapsUnavailableError, match="cluster support disabled"):
                await link.wait_up(0.3)


async def test_without_any_node_every_call_is_refused() -> None:
    async with ClusterLink(ClusterTarget(((HOST, 1),), RedisTarget())) as link:
        with pytest.raises(CapsUnavailableError, match=r"cluster 127\.0\.0\.1:1: 127\.0\.0\.1:1"):
            await link.wait_up(0.3)
        for refused in (link.call("PING"), link.call("GET", "key"), link.call_each("PING")):
            with pytest.raises(CapsUnavailableError):
                await refused


def _tenants_of(keys: RedisKeys, shard: int) -> Iterator[str]:
    return (f"t{n}" for n in range(1_000) if keys.shard(f"t{n}") == shard)
