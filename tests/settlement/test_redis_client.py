"""The worker's clients, over every shape of Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from caps_samples import ask, cap, hold
from fixtures_cluster import HOST, Cluster, Node, Watched
from fixtures_ledger import PRICES, make_event
from redis.asyncio import Redis
from redis.exceptions import RedisError

from metering.background import spawn
from metering.caps import Vector
from metering.events import encode, payload_hash
from metering.redis_caps import RedisCaps
from metering.redis_connect import open_runner
from metering.redis_events import is_rebuilt
from metering.redis_keys import RedisKeys
from metering.redis_slots import SLOTS, slot_of
from metering.settlement import worker
from metering.settlement.ledger.store import open_ledger
from metering.settlement.ledger.usage_report import usage_report
from metering.settlement.redis_client import connect, is_cluster
from metering.settlement.redis_stream import stream_pending
from metering.settlement.timing import Timing

pytestmark = pytest.mark.timeout(120)

DOCS = Path(__file__).parents[2] / "docs" / "redis.md"
FAST = Timing(block_ms=20, upkeep_every_s=0.2, retry_first_s=0.02, retry_max_s=0.1)
SHARDS = 16


@dataclass
class CollectingLog:
    """A logger that remembers what was said."""

    said: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def info(self, event: str, **values: Any) -> None:
        self.said.append((event, values))

    warning = info


@dataclass
class Run:
    """A worker beside the test: what it books, and how it is told to end."""

    url: str
    keys: RedisKeys
    ledger_url: str
    redis: Redis
    log: CollectingLog = field(default_factory=CollectingLog)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    def start(self) -> asyncio.Task[worker.Tally]:
        work = worker.run(
            self.url, self.keys, self.ledger_url, stop=self.stop, timing=FAST, log=self.log
        )
        return spawn(work, name="worker")

    async def publish_prices(self) -> None:
        for version, body in PRICES.items():
            await self.redis.set(self.keys.prices(version), body)

    async def commit(self, *tenants: str) -> None:
        for tenant in tenants:
            body = encode(make_event(tenant=tenant))
            stream = self.keys.stream(self.keys.shard(tenant))
            await self.redis.xadd(stream, {"e": body, "h": payload_hash(body)})

    def booked(self) -> int:
        with closing(open_ledger(self.ledger_url)) as ledger:
            if ledger.revision() is None:
                return 0
            return int(usage_report(ledger, pending=0)["totals"]["requests"])

    async def until_booked(self, count: int) -> None:
        async with asyncio.timeout(90):  # sixteen lanes share what a busy machine leaves them
            while self.booked() < count:
                await asyncio.sleep(0.1)


def tenants_of(keys: RedisKeys) -> Iterator[str]:
    """One tenant of every shard."""
    for shard in range(SHARDS):
        yield next(f"t{n}" for n in range(10_000) if keys.shard(f"t{n}") == shard)


@pytest.fixture
def run(redis_keys: RedisKeys, tmp_path: Path) -> Any:
    def make(url: str) -> Run:
        return Run(url, redis_keys, f"sqlite:///{tmp_path / 'ledger.db'}", connect(url))

    return make


async def test_every_shard_of_a_cluster_is_settled(redis_cluster: Cluster, run: Any) -> None:
    """Groups, windows, prices, acknowledging and trimming, one slot at a time."""
    site = run(redis_cluster.url)
    async with site.redis as redis:
        await site.publish_prices()
        working = site.start()
        await site.commit(*tenants_of(site.keys), *tenants_of(site.keys))
        await site.until_booked(2 * SHARDS)
        site.stop.set()

        assert (await working).settled == 2 * SHARDS
        assert await stream_pending(redis, site.keys) == 0
        assert [await redis.exists(site.keys.epoch(n)) for n in range(SHARDS)] == [1] * SHARDS
        rebuilt = [
            values["shards"] for event, values in site.log.said if event == "windows_rebuilt"
        ]
        assert sorted(shard for shards in rebuilt for shard in shards) == list(range(SHARDS))
        assert "settlement_retries" not in dict(site.log.said)


def total(cluster: Cluster) -> int:
    return sum(connections(node) for node in cluster.masters)


async def test_lanes_keep_a_bounded_number_of_connections(redis_cluster: Cluster, run: Any) -> None:
    """Each lane waits on one of its own; what served a burst of commands before is kept too."""
    site = run(redis_cluster.url)
    before = total(redis_cluster)
    async with site.redis:
        working = site.start()
        await site.commit(*tenants_of(site.keys))
        async with asyncio.timeout(15):  # the first turn of a lane has a lot to look after
            while (now := total(redis_cluster)) - before < SHARDS:
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.5)
        now = total(redis_cluster)
        site.stop.set()
        await working

    assert SHARDS <= now - before <= 4 * SHARDS


async def test_settlement_goes_on_when_a_replica_has_taken_over(
    own_cluster: Cluster, run: Any
) -> None:
    """Without a restart, and for the shards of the dead master like for the others."""
    site = run(own_cluster.url)
    dying = own_cluster.masters[0]
    tenants = list(tenants_of(site.keys))
    async with site.redis:
        await site.publish_prices()
        working = site.start()
        await site.commit(*tenants)
        await site.until_booked(SHARDS)
        dying.ask("WAIT", 1, 1_000)

        dying.kill()
        for tenant in tenants:
            await patiently(site, tenant)
        await site.until_booked(2 * SHARDS)
        site.stop.set()
        await working

    assert site.booked() == 2 * SHARDS


def on_node(cluster: Cluster, node: Node, *, common: bool) -> RedisKeys:
    """Keys of which all those without a shard are on this node, or none of them is."""
    for number in range(100_000):
        keys = RedisKeys(prefix=f"common{number}")
        names = (keys.meta, keys.confirmed, keys.proxies, keys.crossings, keys.health)
        slots = [slot_of(name) for name in names]
        if common and any(slot <= 2 * SLOTS // 3 for slot in slots):
            continue  # the third master has the last third
        if all((cluster.owner(name) is node) is common for name in names):
            return keys
    raise AssertionError("no prefix will do")


@pytest.mark.parametrize("common", [False, True])
async def test_a_master_without_a_replica_stops_its_own_shards_only(
    own_cluster: Cluster, run: Any, common: bool
) -> None:
    """The others are settled and looked after, for as long as it is away; also when the keys of no
    shard are there: whose ledger it is, and what of the spools is booked."""
    site = run(own_cluster.url)
    for node in (*own_cluster.masters, *own_cluster.replicas):
        node.ask("CONFIG", "SET", "cluster-require-full-coverage", "no")
    dying = own_cluster.masters[2]
    site.keys = on_node(own_cluster, dying, common=common)
    tenants = list(tenants_of(site.keys))
    spared = [each for each in tenants if own_cluster.owner(site.keys.of(each)) is not dying]
    async with site.redis:
        await site.publish_prices()
        working = site.start()
        await site.commit(*tenants)
        await site.until_booked(SHARDS)

        dying.kill()
        for number in range(1, 4):
            await asyncio.sleep(2 * FAST.upkeep_every_s)
            for tenant in spared:
                await patiently(site, tenant)
            await site.until_booked(SHARDS + number * len(spared))
        site.stop.set()
        await working

    assert 0 < len(spared) < SHARDS
    assert common == any(said == "common_keys_away" for said, _ in site.log.said)


async def test_a_slot_that_moves_is_read_where_it_went(redis_cluster: Cluster, run: Any) -> None:
    """A lane that waits for entries is told by Redis that its slot has gone."""
    site = run(redis_cluster.url)
    tenant = next(tenants_of(site.keys))
    key = site.keys.of(tenant)
    source = redis_cluster.owner(key)
    target = next(node for node in redis_cluster.masters if node is not source)
    async with site.redis:
        await site.publish_prices()
        working = site.start()
        await site.commit(tenant)
        await site.until_booked(1)

        source_slot = source.ask("CLUSTER", "KEYSLOT", key)
        target.ask("CLUSTER", "SETSLOT", source_slot, "IMPORTING", source.id)
        source.ask("CLUSTER", "SETSLOT", source_slot, "MIGRATING", target.id)
        names = source.ask("CLUSTER", "GETKEYSINSLOT", source_slot, 1_000)
        source.ask("MIGRATE", HOST, target.port, "", 0, 5_000, "KEYS", *names)
        for node in (target, source):
            node.ask("CLUSTER", "SETSLOT", source_slot, "NODE", target.id)
        await site.commit(tenant)
        await site.until_booked(2)
        site.stop.set()
        await working

    assert redis_cluster.owner(key) is target


async def test_the_watched_master_is_settled_and_followed(own_watched: Watched, run: Any) -> None:
    site = run(own_watched.url)
    async with site.redis:
        await site.publish_prices()
        working = site.start()
        await site.commit("acme")
        await site.until_booked(1)

        own_watched.master().kill()
        await patiently(site, "acme")
        await site.until_booked(2)
        site.stop.set()
        await working

    assert site.booked() == 2


async def test_nobody_there_is_an_error_that_the_worker_waits_out() -> None:
    for url in (f"redis+cluster://{HOST}:1", f"redis+sentinel://{HOST}:1/m", f"redis://{HOST}:1"):
        async with connect(url) as client:
            with pytest.raises(RedisError):
                await client.exists("key")


def test_only_a_cluster_is_a_cluster() -> None:
    assert is_cluster("redis+cluster://h")
    assert not is_cluster("redis+sentinel://h/m")
    assert not is_cluster("unix:///s")


def connections(node: Node) -> int:
    return int(node.ask("INFO", "clients")["connected_clients"])


async def patiently(site: Run, tenant: str) -> None:
    """Commit once a failover is over."""
    async with asyncio.timeout(25):
        while True:
            try:
                await site.commit(tenant)
            except RedisError:
                await asyncio.sleep(0.05)
            else:
                return


async def test_the_documented_rights_are_enough(redis_cluster: Cluster, run: Any) -> None:
    """For a proxy and for a worker, with nothing to warn of."""
    (line,) = [each for each in DOCS.read_text().splitlines() if each.startswith("ACL SETUSER")]
    for node in redis_cluster.masters:
        node.ask("ACL", "SETUSER", "weir", "reset")
        node.ask(*line.replace("~weir:*", "~t*:*").split())
    url = redis_cluster.url.replace("://", "://weir:PASSWORD@")
    site = run(url)
    exchange = hold(cap(1_000), tenant="acme")
    async with site.redis, open_runner(url, timeout_ms=5_000) as runner:
        await site.publish_prices()
        working = site.start()
        await runner.wait_up(5)
        caps = RedisCaps(runner, site.keys)
        assert await caps.prepare() == ()
        while not await is_rebuilt(runner, site.keys, site.keys.shard("acme")):
            await asyncio.sleep(0.02)
        await caps.reserve(exchange, [ask(100)], owner="p", ttl_ms=60_000)
        await caps.renew(exchange, ttl_ms=60_000)
        await caps.commit(exchange, Vector(50, 5, 1), [encode(make_event(tenant="acme"))])
        await caps.release(hold(cap(1_000), tenant="acme"))
        await site.until_booked(1)
        site.stop.set()
        await working

        assert runner.generation == 0
        assert "settlement_retries" not in dict(site.log.said)
