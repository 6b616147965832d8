"""A Redis that is an older copy of itself, its epoch included, gets its windows back at once."""

from __future__ import annotations

import asyncio
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import pytest
from fixtures_ledger import PRICES, make_event
from fixtures_settlement import Works
from sqlalchemy import select

from metering.caps import ROLLING_DAY, Scope, ScopeKind
from metering.clock import now_ns
from metering.events import UsageEvent, encode, payload_hash
from metering.settlement.ledger.store import open_ledger
from metering.settlement.ledger.tables import outbox
from metering.settlement.redis_windows import rebuild_windows
from metering.settlement.timing import Timing
from metering.settlement.went_back import leave_stale_windows

TENANT = Scope(ScopeKind.TENANT)


@dataclass
class Copies:
    """One tenant's Redis, as it was at some moment."""

    works: Works
    kept: dict[str, bytes] = field(default_factory=dict)

    @property
    def keys(self) -> list[str]:
        names, shard = self.works.keys, self.works.keys.shard("acme")
        first = [names.epoch(shard), names.stream(shard), names.scope("acme", TENANT)]
        return [*first, names.settled(shard)]

    async def take(self) -> None:
        self.kept = {key: await self.works.redis.dump(key) for key in self.keys}

    async def put_back(self) -> None:
        for key, body in self.kept.items():
            await self.works.redis.delete(key)
            if body is not None:
                await self.works.redis.restore(key, 0, body)

    async def settle(self) -> None:
        """Run a worker until nothing is left; no proxy is here to be waited for."""
        await self.works.work(drain=True, timing=Timing(block_ms=20, spools_wait_s=0))

    async def spend(self) -> UsageEvent:
        """A commit as Redis sees it: the window and the stream."""
        event = make_event(occurred_at=now_ns())
        body = encode(event)
        _, stream, scope, _ = self.keys
        await self.works.redis.hincrby(scope, f"{ROLLING_DAY.label}:n", event.admission_nano)
        await self.works.redis.xadd(stream, {"e": body, "h": payload_hash(body)})
        return event

    async def spent(self) -> int:
        found = await self.works.redis.hget(self.keys[2], f"{ROLLING_DAY.label}:n")
        return int(found or 0)


@pytest.fixture
async def copies(works: Works) -> Copies:
    for version, body in PRICES.items():
        await works.redis.set(works.keys.prices(version), body)
    return Copies(works)


async def test_what_was_settled_is_counted_again(copies: Copies) -> None:
    """F-05: the copy admits nobody on what it remembers; found once, and once more if it recurs."""
    works = copies.works
    first = await copies.spend()
    await copies.settle()
    await copies.take()
    await copies.spend()
    await copies.settle()
    await copies.put_back()
    assert await copies.spent() == first.admission_nano

    await copies.settle()
    assert await copies.spent() == 2 * first.admission_nano
    await copies.settle()
    assert works.log.said("redis_went_back") == 1

    await copies.put_back()
    await copies.settle()
    assert await copies.spent() == 2 * first.admission_nano
    assert works.log.said("redis_went_back") == 2
    assert works.findings() == []
    ledger = open_ledger(works.ledger_url)
    with ledger.read() as connection:
        keys = list(connection.execute(select(outbox.c.key)).scalars())
    ledger.close()
    assert [key.partition(":")[0] for key in keys] == ["redis_went_back"] * 2


async def test_what_came_since_does_not_hide_it(copies: Copies) -> None:
    """F-05: a proxy has committed over the copy, and the stream is past what was settled, before
    any worker looked."""
    works = copies.works
    await copies.settle()  # whose windows are whole
    events = [await copies.spend()]
    await copies.take()  # before anything was settled from it
    events.append(await copies.spend())
    await copies.settle()
    await copies.put_back()
    events.append(await copies.spend())

    await copies.settle()

    assert works.log.said("redis_went_back") == 1
    assert await copies.spent() == sum(event.admission_nano for event in events)
    assert works.findings() == []


async def test_settling_does_not_hide_it(copies: Copies) -> None:
    """A worker that has not looked yet settles what came to the copy: it looks as it notes."""
    works, shard = copies.works, copies.works.keys.shard("acme")
    await copies.spend()
    await copies.settle()
    await copies.take()
    await copies.spend()
    await copies.settle()
    await copies.put_back()

    found = await look(copies, settling={shard: (now_ns() // 1_000_000 + 1_000, 0)})

    assert found == (shard,)
    assert not await works.redis.exists(works.keys.epoch(shard))
    assert await look(copies) == ()  # the rebuild is due, and nothing else


async def test_a_worker_that_died_before_the_ledger_had_it_is_no_alarm(copies: Copies) -> None:
    """F-03: the note is ahead of the ledger then, and what it speaks of is settled by the next."""
    works, shard = copies.works, copies.works.keys.shard("acme")
    await copies.spend()
    await copies.settle()
    await copies.spend()
    await look(copies, settling={shard: (now_ns() // 1_000_000 + 1_000, 0)})

    await copies.settle()

    assert works.log.said("redis_went_back") == 0
    assert works.count() == 2


async def test_a_worker_that_knows_less_is_no_alarm(copies: Copies) -> None:
    """Of two that settle the same shard the slower one does not move the note back."""
    works, shard = copies.works, copies.works.keys.shard("acme")
    await copies.spend()
    await copies.settle()
    noted = await works.redis.get(works.keys.settled(shard))

    assert await look(copies, settling={shard: (1, 0)}) == ()
    assert await works.redis.get(works.keys.settled(shard)) == noted


async def test_a_redis_that_is_full_takes_the_note(copies: Copies) -> None:
    """Settling is what gives it room again."""
    works, shard = copies.works, copies.works.keys.shard("acme")
    await copies.spend()
    await works.redis.config_set("maxmemory", 1)
    try:
        await look(copies, settling={shard: (5, 7)})
    finally:
        await works.redis.config_set("maxmemory", 0)

    assert await works.redis.get(works.keys.settled(shard)) == b"5-7"


async def look(copies: Copies, **options: Any) -> tuple[int, ...]:
    works = copies.works
    with closing(open_ledger(works.ledger_url)) as ledger:
        return await leave_stale_windows(
            ledger,
            works.redis,
            works.keys,
            range(works.keys.shards),
            writing=asyncio.Lock(),
            log=works.log,
            **options,
        )


async def test_only_one_of_several_workers_finds_it(copies: Copies) -> None:
    works, lock = copies.works, asyncio.Lock()
    await copies.spend()
    await copies.settle()
    await copies.take()
    await copies.spend()
    await copies.settle()
    await copies.put_back()
    ledger, shards = open_ledger(works.ledger_url), range(works.keys.shards)

    async def look() -> tuple[int, ...]:
        place = ledger, works.redis, works.keys, shards
        return await leave_stale_windows(*place, writing=lock, log=works.log)

    found = await asyncio.gather(look(), look())
    await rebuild_windows(ledger, works.redis, works.keys)
    later = await look()
    ledger.close()

    assert sorted(found) == [(), (works.keys.shard("acme"),)]
    assert later == ()


async def test_what_a_proxy_sends_again_while_rebuilding_counts_once(copies: Copies) -> None:
    """It is in the ledger from its first place, and comes to the stream a second time."""
    works = copies.works
    event = await copies.spend()
    await copies.settle()
    await works.redis.delete(*copies.keys)
    body, stream = encode(event), copies.keys[1]

    class SendingAgain(type(works.redis)):  # type: ignore[misc]
        """A proxy's commit lands just after the end of the stream was read."""

        sent = False

        async def execute_command(self, *arguments: Any, **options: Any) -> Any:
            found = await super().execute_command(*arguments, **options)
            if not self.sent and arguments[:2] == ("XRANGE", stream) and not found:
                self.sent = True
                await self.xadd(stream, {"e": body, "h": payload_hash(body)})
            return found

    ledger = open_ledger(works.ledger_url)
    async with SendingAgain(connection_pool=works.redis.connection_pool) as sending:
        await rebuild_windows(ledger, sending, works.keys)
    ledger.close()

    assert await copies.spent() == event.admission_nano
    assert sending.sent
