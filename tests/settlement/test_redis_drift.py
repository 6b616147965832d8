"""Redis beside the ledger (I2): what differs is alerted, then repaired to the nano."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from fixtures_ledger import book, make_event, new_ledger
from fixtures_redis import RedisServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from sqlalchemy import select

from metering.caps import ROLLING_DAY, Scope, ScopeKind
from metering.events import UsageEvent, encode, payload_hash
from metering.redis_keys import RedisKeys
from metering.settlement import redis_drift
from metering.settlement.drift import Drift
from metering.settlement.entries import Entry
from metering.settlement.ledger import tables
from metering.settlement.ledger.store import Ledger
from metering.settlement.redis_client import connect
from metering.settlement.redis_drift import DriftWatch
from metering.settlement.redis_stream import StreamReader
from metering.settlement.redis_windows import rebuild_windows

BUCKET = ROLLING_DAY.bucket_ms
TENANT = Scope(ScopeKind.TENANT)


@dataclass
class Place:
    """A Redis with the windows of acme's shard, the ledger beside it, and who compares them."""

    redis: Redis
    keys: RedisKeys
    ledger: Ledger
    now_ms: int

    def __post_init__(self) -> None:
        self.shard = self.keys.shard("acme")
        self.scope = self.keys.scope("acme", TENANT)
        self.reader = StreamReader(self.redis, self.keys, consumer="w", shards=(self.shard,))
        self.watch = DriftWatch(
            self.ledger, self.redis, self.keys, writing=asyncio.Lock(), rest=0.0
        )

    def bucket(self, ago: int) -> int:
        return self.now_ms // BUCKET - ago

    def settle(self, event: UsageEvent, *, ago: int, count: int = 0) -> None:
        """In the ledger, committed in the bucket so many before the current one."""
        body = encode(event)
        stream_id = f"{self.bucket(ago) * BUCKET + count}-0"
        book(self.ledger, [Entry(self.shard, stream_id, body, payload_hash(body))])

    async def window(self) -> dict[str, str]:
        found = await self.redis.hgetall(self.scope)
        return {name.decode(): value.decode() for name, value in found.items()}

    async def compare(self) -> list[Drift]:
        await self.watch.look(self.reader)
        return await self.watch.judge(self.reader)

    def alerts(self) -> list[str]:
        with self.ledger.read() as connection:
            return [row.key for row in connection.execute(select(tables.outbox)).all()]


@pytest.fixture
async def place(
    redis_server: RedisServer, redis_keys: RedisKeys, ledger: Ledger
) -> AsyncIterator[Place]:
    client = connect(f"unix://{redis_server.path}")
    made = Place(client, redis_keys, ledger, (await client.time())[0] * 1_000)
    await made.reader.ensure_groups()
    yield made
    await client.aclose()


async def test_what_commits_made_is_no_drift(place: Place) -> None:
    place.settle(make_event(), ago=3)
    await rebuild_windows(place.ledger, place.redis, place.keys)

    assert await place.compare() == []
    assert place.alerts() == []


async def test_an_event_that_was_counted_twice_is_counted_once_again(place: Place) -> None:
    """A late replay of a spool adds to the caps what the ledger absorbs."""
    place.settle(make_event(), ago=3)
    await rebuild_windows(place.ledger, place.redis, place.keys)
    before = await place.window()
    bucket = place.bucket(5)
    for name, by in (("n", 5_500_000), ("t", 700), ("r", 1)):
        await place.redis.hincrby(place.scope, f"24h:{bucket}:{name}", by)
        await place.redis.hincrby(place.scope, f"24h:{name}", by)
    await place.redis.hset(place.scope, mapping={"24h:lo": str(bucket), "held:n": "7"})

    [drift] = await place.compare()

    assert drift == Drift("acme", bucket, (5_500_000, 700, 1), (0, 0, 0))
    assert await place.window() == {**before, "held:n": "7"}
    assert place.alerts() == [drift.key]
    assert await place.compare() == []


@pytest.mark.parametrize("lost", ["bucket", "all"])
async def test_what_redis_lost_comes_back(place: Place, lost: str) -> None:
    """A failover forgets the last second, or a person deletes the key."""
    place.settle(make_event(), ago=3)
    place.settle(make_event(), ago=4)
    await rebuild_windows(place.ledger, place.redis, place.keys)
    before = await place.window()
    if lost == "all":
        await place.redis.delete(place.scope)
    else:
        for name, by in (("n", 5_500_000), ("t", 700), ("r", 1)):
            await place.redis.hdel(place.scope, f"24h:{place.bucket(4)}:{name}")
            await place.redis.hincrby(place.scope, f"24h:{name}", -by)

    assert len(await place.compare()) == (2 if lost == "all" else 1)
    assert await place.window() == before
    assert await place.redis.pttl(place.scope) > 86_400_000


async def test_open_buckets_are_left_alone(place: Place) -> None:
    place.settle(make_event(), ago=1)
    await place.redis.set(place.keys.epoch(place.shard), "1")

    assert await place.compare() == []


async def test_what_is_on_its_way_is_no_drift(place: Place) -> None:
    """Somebody has it and has not acknowledged it: Redis counted it, the ledger has it later."""
    await place.redis.set(place.keys.epoch(place.shard), "1")
    place.settle(make_event(), ago=9)
    old = f"{place.bucket(12) * BUCKET}-0"
    await place.redis.xadd(place.keys.stream(place.shard), {"e": b"x", "h": "y"}, id=old)
    assert await place.compare() == []  # unread

    [entry] = await place.reader.read_new(block_ms=1)
    assert await place.compare() == []  # unacknowledged

    await place.reader.acknowledge([entry])
    assert [drift.bucket for drift in await place.compare()] == [place.bucket(9)]


async def test_a_suspect_is_judged_only_after_what_came_before_is_settled(place: Place) -> None:
    """A correction in the stream has changed Redis already and the ledger not yet."""
    await place.redis.set(place.keys.epoch(place.shard), "1")
    place.settle(make_event(), ago=3)
    stream = place.keys.stream(place.shard)
    await place.redis.xadd(stream, {"e": b"x", "h": "y"})
    await place.reader.acknowledge(await place.reader.read_new(block_ms=1))
    first = await place.redis.xadd(stream, {"e": b"x", "h": "y"})
    await place.watch.look(place.reader)

    assert await place.watch.judge(place.reader) == []
    entries = await place.reader.read_new(block_ms=1)
    assert entries[0].stream_id == first.decode()
    await place.reader.acknowledge(entries)

    assert len(await place.watch.judge(place.reader)) == 1


async def test_numbers_that_change_between_two_looks_are_left(place: Place) -> None:
    await place.redis.set(place.keys.epoch(place.shard), "1")
    place.settle(make_event(), ago=3)
    await place.watch.look(place.reader)
    await place.redis.hincrby(place.scope, f"24h:{place.bucket(3)}:n", 1)

    assert await place.watch.judge(place.reader) == []
    assert len(await place.compare()) == 1


async def test_a_bucket_that_changed_after_the_comparison_is_not_written(place: Place) -> None:
    stale = Drift("acme", place.bucket(3), (9, 9, 9), (1, 1, 1))

    assert not await place.watch._repair(stale)
    assert await place.window() == {}


@pytest.mark.parametrize("kind", ["dead", "conflict"])
async def test_a_bucket_with_an_event_that_the_ledger_lacks_is_left(
    place: Place, kind: str
) -> None:
    """What waits as a dead letter was spent: taking it out of the cap would let more through."""
    await place.redis.set(place.keys.epoch(place.shard), "1")
    if kind == "dead":
        entry = Entry(place.shard, f"{place.bucket(3) * BUCKET}-0", b"no event", "h")
        book(place.ledger, [entry])
    event = make_event()
    place.settle(event, ago=4)
    if kind == "conflict":
        place.settle(replace(event, latency_ms=9), ago=3)
    for ago in (3, 4):
        await place.redis.hset(place.scope, f"24h:{place.bucket(ago)}:n", "99")

    assert [drift.bucket for drift in await place.compare()] == [place.bucket(4)]


@pytest.mark.parametrize("source", ["recovered", "provider"])
async def test_a_correction_takes_a_recovered_event_back_where_it_stands(
    place: Place, source: str
) -> None:
    """However late it comes. Corrections of other events concern the books alone."""
    await place.redis.set(place.keys.epoch(place.shard), "1")
    wrong = make_event(usage_source=source)
    place.settle(wrong, ago=7)
    reversal = make_event(
        kind="correction",
        corrects=wrong.event_id,
        units={unit: -count for unit, count in wrong.units.items()},
        admission_nano=-wrong.admission_nano,
        cost_nano=-wrong.cost_nano,
    )
    place.settle(reversal, ago=3)

    drifted = await place.compare()

    left = [] if source == "recovered" else [(place.bucket(7), (5_500_000, 700, 1))]
    assert [(drift.bucket, drift.in_ledger) for drift in drifted] == left


async def test_a_shard_without_its_epoch_is_left_to_the_rebuild(place: Place) -> None:
    place.settle(make_event(), ago=3)

    assert await place.compare() == []


async def crowd(place: Place, count: int) -> list[str]:
    """So many tenants of the shard, whose windows are as the ledger has them."""
    names = [name for name in (f"t{n}" for n in range(1_000)) if place.keys.shard(name) == 0]
    place.shard = 0
    place.reader = StreamReader(place.redis, place.keys, consumer="w", shards=(0,))
    await place.reader.ensure_groups()
    for number, name in enumerate(names[:count]):
        place.settle(make_event(tenant=name), ago=60, count=number)
    await rebuild_windows(place.ledger, place.redis, place.keys)
    return names[:count]


async def test_more_tenants_than_a_look_compares_are_compared_in_one_round(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look goes on where the last one stopped, and the next round waits for its time."""
    monkeypatch.setattr(redis_drift, "TENANTS_MAX", 2)
    names = await crowd(place, 5)
    place.watch = DriftWatch(
        place.ledger, place.redis, place.keys, writing=asyncio.Lock(), every_s=3_600, rest=0.0
    )

    async def spoil() -> None:
        for name in names:
            scope = place.keys.scope(name, TENANT)
            await place.redis.hset(scope, f"24h:{place.bucket(3)}:n", "99")

    await spoil()
    looks = [{drift.tenant for drift in await place.compare()} for _ in range(3)]
    await spoil()

    assert [len(each) for each in looks] == [2, 2, 1]
    assert set().union(*looks) == set(names)
    assert await place.compare() == []  # an hour has not passed


async def test_shards_that_had_no_time_come_first_in_the_next_look(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look is short, for its lane settles nothing meanwhile; nobody is left out by that."""
    monkeypatch.setattr(redis_drift, "LOOK_S", 0.0)
    shards = range(4)
    place.reader = StreamReader(place.redis, place.keys, consumer="w", shards=shards)
    await place.reader.ensure_groups()
    names = [
        next(n for n in map("t{}".format, range(999)) if place.keys.shard(n) == shard)
        for shard in shards
    ]
    for number, name in enumerate(names):
        await place.redis.set(place.keys.epoch(place.keys.shard(name)), "1")
        body = encode(make_event(tenant=name))
        stream_id = f"{place.bucket(3) * BUCKET + number}-0"
        book(place.ledger, [Entry(place.keys.shard(name), stream_id, body, payload_hash(body))])

    looks = [[drift.tenant for drift in await place.compare()] for _ in shards]

    assert sorted(tenant for look in looks for tenant in look) == sorted(names)
    assert [len(look) for look in looks] == [1, 1, 1, 1]


async def test_every_bucket_of_every_tenant_gets_its_turn(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tenants and slices of old buckets do not move on together, or some would never meet."""
    monkeypatch.setattr(redis_drift, "TENANTS_MAX", 2)
    names = await crowd(place, 4)
    agos = range(14, 286, 11)
    for name in names:
        for ago in agos:
            scope = place.keys.scope(name, TENANT)
            await place.redis.hset(scope, f"24h:{place.bucket(ago)}:n", "99")

    found = {drift.place for _ in range(2 * 25) for drift in await place.compare()}

    assert len(found) == len(names) * len(agos)


async def test_a_look_that_failed_is_made_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that is away for a moment leaves no tenants out until the next round."""
    await crowd(place, 1)
    bad = Drift("t", 1, (1, 1, 1), (0, 0, 0))

    async def fails(*_: object) -> list[Drift]:
        raise OSError("away")

    async def finds(*_: object) -> list[Drift]:
        return [bad]

    place.watch = DriftWatch(
        place.ledger, place.redis, place.keys, writing=asyncio.Lock(), every_s=3_600, rest=0.0
    )
    monkeypatch.setattr(place.watch, "_compare", fails)
    with pytest.raises(OSError, match="away"):
        await place.watch.look(place.reader)
    monkeypatch.setattr(place.watch, "_compare", finds)
    await place.watch.look(place.reader)

    assert place.watch._shards[0].suspects == [bad]


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # it clears the keys itself
)
@given(
    spent=st.dictionaries(st.integers(2, 12), st.integers(1, 2), max_size=4),
    noise=st.lists(
        st.tuples(st.integers(2, 12), st.integers(-9, 9_000_000).filter(bool)), max_size=6
    ),
)
async def test_whatever_was_done_to_the_buckets_they_come_back(
    redis_server: RedisServer,
    redis_keys: RedisKeys,
    tmp_path_factory: pytest.TempPathFactory,
    spent: dict[int, int],
    noise: list[tuple[int, int]],
) -> None:
    """Totals are the sums of the buckets again, and the edges the first and last of them."""
    ledger: Ledger = new_ledger(Path(tmp_path_factory.mktemp("drift")))
    client = connect(f"unix://{redis_server.path}")
    names = await client.keys(f"{redis_keys.prefix}:*")
    if names:
        await client.delete(*names)
    place = Place(client, redis_keys, ledger, (await client.time())[0] * 1_000)
    await place.reader.ensure_groups()
    for ago, count in spent.items():
        for number in range(count):
            place.settle(make_event(), ago=ago, count=number)
    place.settle(make_event(), ago=60)  # or the tenant would be unknown
    await rebuild_windows(ledger, client, redis_keys)
    before = await place.window()
    for ago, by in noise:
        await client.hincrby(place.scope, f"24h:{place.bucket(ago)}:n", by)

    await place.compare()

    assert await place.window() == before
    ledger.close()
    await client.aclose()
