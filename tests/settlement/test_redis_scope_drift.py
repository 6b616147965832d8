"""The windows of all scopes beside the ledger: rebuilt, built when they are new, and compared."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from fixtures_ledger import book, make_event
from fixtures_redis import RedisServer
from redis.asyncio import Redis
from sqlalchemy import select

from metering.caps import (
    ROLLING_DAY,
    AnyWindow,
    CalendarUnit,
    CalendarWindow,
    Candidate,
    Cap,
    Hold,
    Limit,
    Scope,
    ScopeKind,
    Vector,
)
from metering.events import RECOVERED, UsageEvent, encode, payload_hash
from metering.ids import scope_id
from metering.recovery import reversal
from metering.redis_caps import RedisCaps
from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink
from metering.settlement.counting import TENANT, Rules, bucket_of, bucket_start_ms
from metering.settlement.entries import Entry
from metering.settlement.ledger import tables
from metering.settlement.ledger.store import Ledger
from metering.settlement.recount import Place
from metering.settlement.redis_client import connect
from metering.settlement.redis_scope_drift import ScopeDrift, ScopeWatch, differences
from metering.settlement.redis_stream import StreamReader
from metering.settlement.redis_windows import (
    build_new_windows,
    built_series,
    forget_windows,
    rebuild_windows,
)
from metering.tenants import CapRule
from metering.window import rolling

MONTH = CalendarWindow(CalendarUnit.MONTH, "Asia/Tokyo")
WEEK, MINUTE = rolling(7 * 86_400), rolling(60)
HOUR_MS = 3_600_000
LIMIT = Limit(nano=1)
KEY, USER = Scope(ScopeKind.KEY, "k1"), Scope(ScopeKind.USER, scope_id("Zoë"))
RULES = Rules(
    {
        "acme": (
            CapRule(ScopeKind.KEY, WEEK, LIMIT),
            CapRule(ScopeKind.USER, MONTH, LIMIT),
            CapRule(ScopeKind.TENANT, MINUTE, LIMIT),
            CapRule(ScopeKind.RUN, rolling(2 * 86_400), LIMIT, id="r9"),
        )
    }
)


@dataclass
class Site:
    """Acme's shard in Redis and the ledger beside it."""

    redis: Redis
    keys: RedisKeys
    ledger: Ledger
    now_ms: int
    rules: Rules = RULES
    count: int = field(default=0)

    def __post_init__(self) -> None:
        self.shard = self.keys.shard("acme")
        self.stream = self.keys.stream(self.shard)
        self.reader = StreamReader(self.redis, self.keys, consumer="w", shards=(self.shard,))

    def settle(self, event: UsageEvent, *, ago_ms: int = 0) -> None:
        """In the ledger, and trimmed from the stream."""
        self.count += 1
        body = encode(event)
        stream_id = f"{self.now_ms - ago_ms}-{self.count}"
        book(self.ledger, [Entry(self.shard, stream_id, body, payload_hash(body))])

    async def commit(self, event: UsageEvent) -> None:
        """In the stream, and nowhere else."""
        body = encode(event)
        await self.redis.xadd(self.stream, {"e": body, "h": payload_hash(body)})

    async def window(self, scope: Scope, window: AnyWindow) -> tuple[int, ...]:
        names = [f"{window.label}:{dimension}" for dimension in "ntr"]
        found: Any = await self.redis.hmget(self.keys.scope("acme", scope), names)
        return tuple(int(value or 0) for value in found)

    async def fields(self, scope: Scope) -> dict[bytes, bytes]:
        """All that a scope's hash says of its windows, rates aside: they begin earlier."""
        found: Any = await self.redis.hgetall(self.keys.scope("acme", scope))
        others = (b"held", b"until", b"told", b"refused", b"1m:")
        return {name: value for name, value in found.items() if not name.startswith(others)}

    async def rebuild(self) -> None:
        await rebuild_windows(self.ledger, self.redis, self.keys, self.rules, shards=(self.shard,))

    async def build(self) -> int:
        return await build_new_windows(self.ledger, self.reader, self.redis, self.keys, self.rules)

    async def compare(self) -> list[ScopeDrift]:
        """Every window once, however slow this machine is just now."""
        watch = ScopeWatch(
            self.ledger, self.redis, self.keys, self.rules, writing=asyncio.Lock(), rest=0
        )
        return [drift for _ in range(3) for drift in await watch.look(self.reader)]

    def alerts(self) -> list[str]:
        with self.ledger.read() as connection:
            return [row.key for row in connection.execute(select(tables.outbox)).all()]


@pytest.fixture
async def site(
    redis_server: RedisServer, redis_keys: RedisKeys, ledger: Ledger
) -> AsyncIterator[Site]:
    client = connect(f"unix://{redis_server.path}")
    made = Site(client, redis_keys, ledger, (await client.time())[0] * 1_000)
    await made.reader.ensure_groups()
    yield made
    await client.aclose()


def _spent(count: int) -> tuple[int, int, int]:
    return 5_500_000 * count, 700 * count, count


async def test_an_emptied_redis_gets_the_windows_of_every_scope_back(site: Site) -> None:
    """From the ledger and the stream, each event once; what no rule names has no window."""
    settled = make_event(user="Zoë", run="r9")
    site.settle(settled)
    site.settle(make_event(user="Zoë", run="r1"), ago_ms=30 * HOUR_MS)
    await site.commit(settled)
    await site.commit(make_event(user="Zoë", session="s"))

    await site.rebuild()

    assert await site.window(KEY, WEEK) == _spent(3)
    assert (await site.window(USER, MONTH))[2] in (2, 3)  # the older one may be of last month
    assert await site.window(Scope(ScopeKind.TENANT), ROLLING_DAY) == _spent(2)
    assert (await site.window(Scope(ScopeKind.TENANT), MINUTE))[2] >= 1
    assert await site.window(Scope(ScopeKind.RUN, "r9"), rolling(2 * 86_400)) == _spent(1)
    for scope in (Scope(ScopeKind.RUN, "r1"), Scope(ScopeKind.SESSION, "s")):
        assert await site.redis.exists(site.keys.scope("acme", scope)) == 0
    assert await site.redis.pttl(site.keys.scope("acme", KEY)) > 7 * 86_400_000
    assert await site.compare() == []


async def test_what_is_rebuilt_is_what_commits_had_made(site: Site, redis_link: RedisLink) -> None:
    """Field by field, in rolling and in calendar windows; none differs from the ledger."""
    await site.rebuild()
    caps = RedisCaps(redis_link, site.keys)
    limit = Limit(nano=10**12)
    under = (Cap(TENANT, ROLLING_DAY, limit), Cap(KEY, WEEK, limit), Cap(USER, MONTH, limit))
    for number in range(1, 4):
        event = make_event(user="Zoë", units={"output_text": number})
        hold = Hold("acme", event.exchange_id, under)
        held = [Candidate("x", Vector(nano=10**9, tokens=99, requests=1))]
        await caps.reserve(hold, held, owner="p", ttl_ms=9_000)
        actual = Vector(nano=event.admission_nano, tokens=number, requests=1)
        await caps.commit(hold, actual, [encode(event)])
    assert await site.compare() == []
    before = {scope: await site.fields(scope) for scope in (TENANT, KEY, USER)}
    for scope in before:
        await site.redis.delete(site.keys.scope("acme", scope))
    await site.redis.delete(site.keys.epoch(site.shard))

    await site.rebuild()

    assert {scope: await site.fields(scope) for scope in before} == before
    assert (await site.window(USER, MONTH))[1:] == (1 + 2 + 3, 3)


async def test_a_cap_that_is_new_starts_with_what_the_ledger_knows(site: Site) -> None:
    """And with what it has counted itself since; it is built once, and other windows stay."""
    await site.redis.set(site.keys.epoch(site.shard), "1")
    site.settle(make_event(user="Zoë"), ago_ms=20 * HOUR_MS)
    await site.commit(make_event(user="Zoë"))  # counted by its commit already:
    bucket = bucket_of(WEEK, site.now_ms)
    mine = {"7d:n": 5_500_000, "7d:lo": bucket, "7d:hi": bucket, f"7d:{bucket}:n": 5_500_000}
    key = site.keys.scope("acme", KEY)
    await site.redis.hset(key, mapping={**mine, "held:n": 7, "24h:n": 9})

    assert await site.build() == 3
    assert await site.build() == 0

    assert await site.window(KEY, WEEK) == _spent(2)
    assert await site.redis.hmget(key, ["held:n", "24h:n"]) == [b"7", b"9"]
    assert await site.window(Scope(ScopeKind.TENANT), ROLLING_DAY) == (0, 0, 0)  # not asked for


async def test_commits_that_are_faster_than_the_build_are_counted(site: Site) -> None:
    await site.redis.set(site.keys.epoch(site.shard), "1")
    site.settle(make_event())
    key, stream, late = site.keys.scope("acme", KEY), site.stream, make_event()

    class Committing(Redis):
        """A commit lands when the end of the stream was read."""

        committed = False

        async def execute_command(self, *arguments: Any, **options: Any) -> Any:
            found = await super().execute_command(*arguments, **options)
            if not self.committed and arguments[:2] == ("XRANGE", stream) and not found:
                self.committed = True
                body = encode(late)
                await self.xadd(stream, {"e": body, "h": payload_hash(body)})
                await self.hincrby(key, "7d:n", late.admission_nano)
            return found

    async with Committing(connection_pool=site.redis.connection_pool) as committing:
        await build_new_windows(site.ledger, site.reader, committing, site.keys, site.rules)

    assert await site.window(KEY, WEEK) == _spent(2)


async def test_a_cap_that_went_and_comes_back_is_built_anew(site: Site) -> None:
    await site.redis.set(site.keys.epoch(site.shard), "1")
    await site.build()
    without = Rules({"acme": RULES.by_tenant["acme"][1:]})

    gone = await forget_windows(site.redis, site.keys, without, site.shard)
    site.settle(make_event())

    assert len(gone) == 1
    assert await site.build() == 1
    assert await site.window(KEY, WEEK) == _spent(1)


async def test_nothing_is_built_in_a_shard_that_is_to_be_rebuilt(site: Site) -> None:
    assert await site.build() == 0
    assert await built_series(site.redis, site.keys, site.rules, site.shard) == {}


async def test_what_differs_is_alerted_and_repaired_in_any_scope(site: Site) -> None:
    """A rolling window in one of its buckets, a calendar window while it counts."""
    site.settle(make_event(user="Zoë"))
    await site.rebuild()
    month, week = bucket_of(MONTH, site.now_ms), bucket_of(WEEK, site.now_ms) - 3
    for scope, label, bucket in ((USER, "month", month), (KEY, "7d", week)):
        await site.redis.hincrby(site.keys.scope("acme", scope), f"{label}:{bucket}:n", 5)

    drifted = await site.compare()

    assert {(each.scope, each.bucket, each.in_redis[0]) for each in drifted} == {
        (f"user:{USER.id}", month, 5_500_005),
        ("key:k1", week, 5),
    }
    assert sorted(site.alerts()) == sorted(each.key for each in drifted)
    assert await site.window(KEY, WEEK) == await site.window(USER, MONTH) == _spent(1)
    assert await site.compare() == []


async def test_what_is_on_its_way_to_the_ledger_is_no_difference(site: Site) -> None:
    site.settle(make_event())
    await site.rebuild()
    await site.commit(make_event())
    key, bucket = site.keys.scope("acme", KEY), bucket_of(WEEK, site.now_ms)
    for dimension, by in (("n", 5_500_000), ("t", 700), ("r", 1)):
        await site.redis.hincrby(key, f"7d:{bucket}:{dimension}", by)

    assert await site.compare() == []


async def test_a_window_that_is_not_built_yet_is_not_compared(site: Site) -> None:
    await site.redis.set(site.keys.epoch(site.shard), "1")
    site.settle(make_event())

    assert await site.compare() == []


async def test_a_bucket_with_an_event_that_the_ledger_lacks_is_left(site: Site) -> None:
    site.settle(make_event())
    await site.rebuild()
    book(site.ledger, [Entry(site.shard, f"{site.now_ms}-9", b"no event", "h")])
    key, bucket = site.keys.scope("acme", KEY), bucket_of(WEEK, site.now_ms)
    await site.redis.hincrby(key, f"7d:{bucket}:n", 5)

    assert await site.compare() == []


@pytest.mark.parametrize("is_settled", [True, False])
async def test_what_was_recovered_is_taken_back_where_it_counted(
    site: Site, *, is_settled: bool
) -> None:
    wrong = make_event(usage_source=RECOVERED, user="Zoë")
    site.settle(wrong, ago_ms=20 * HOUR_MS)
    if is_settled:
        site.settle(reversal(wrong))
    else:
        await site.commit(reversal(wrong))

    await site.rebuild()

    assert await site.window(KEY, WEEK) == (0, 0, 0)


def test_the_oldest_buckets_of_a_rolling_window_are_not_compared() -> None:
    """They may be dropped at any moment; of a calendar window only the current period is."""
    now_ms = 1_793_491_200_000
    week, month = Place("acme", KEY, WEEK), Place("acme", USER, MONTH)
    first, here = bucket_of(WEEK, now_ms) - WEEK.buckets, bucket_of(MONTH, now_ms)
    fields = {f"{bucket}:n": 1 for bucket in (first, first + 1, first + 2)}

    assert [each.bucket for each in differences(week, fields, {}, now_ms=now_ms)] == [first + 2]
    old = {f"{here - 1}:n": 1, f"{here}:n": 1}
    assert [each.bucket for each in differences(month, old, {}, now_ms=now_ms)] == [here]


async def test_a_period_that_ends_while_it_is_counted_is_no_difference(site: Site) -> None:
    """Counted in one month, read in the next: Redis has dropped what the ledger summed, and must
    not get it back, nor anybody an alert."""
    month = bucket_of(MONTH, site.now_ms)
    began_ms = bucket_start_ms(MONTH, month) - 1_000
    await site.redis.set(site.keys.epoch(site.shard), "1")
    await site.build()
    site.settle(make_event(user="Zoë"), ago_ms=site.now_ms - began_ms)

    class Late(Redis):
        """The first look at the clock was long ago."""

        asked = 0

        async def time(self, **options: Any) -> Any:
            self.asked += 1
            return (began_ms // 1_000, 0) if self.asked == 1 else await super().time(**options)

    only = Rules({"acme": (RULES.by_tenant["acme"][1],)})
    async with Late(connection_pool=site.redis.connection_pool) as late:
        watch = ScopeWatch(site.ledger, late, site.keys, only, writing=asyncio.Lock())
        drifted = await watch.look(site.reader)

    assert drifted == []
    assert site.alerts() == []
    assert await site.window(USER, MONTH) == (0, 0, 0)
    assert late.asked > 1
