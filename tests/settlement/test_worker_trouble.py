"""The worker under trouble: poison, gaps, zombies, repeats, kills at every point."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any

import orjson
import pytest
from fixtures_ledger import book, make_event
from fixtures_worker import FAST, Site, start_worker

from metering.background import spawn
from metering.events import UsageEvent, encode, payload_hash
from metering.redis_keys import GROUP
from metering.settlement.crossings import Marks
from metering.settlement.ledger.store import open_ledger
from metering.settlement.rating import RateCards
from metering.settlement.redis_stream import StreamReader, stream_pending
from metering.settlement.worker_booking import Booker
from metering.settlement.worker_lane import Lane

KILL = """
import os, signal
def die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)
"""
POINTS = {
    "after-read": "from metering.settlement.worker_booking import Booker as at; at._settle_batch",
    "after-insert": "from metering.settlement.ledger import writer as at; at._advance",
    "before-ack": "from metering.settlement.redis_stream import StreamReader as at; at.acknowledge",
}


@pytest.mark.parametrize("point", POINTS)
async def test_f03_a_kill_at_any_point_loses_and_doubles_nothing(site: Site, point: str) -> None:
    """Another worker takes over what the dead one was given."""
    await site.publish_prices()
    events = [make_event(tenant=f"t{n % 9}") for n in range(600)]
    await site.commit(*events)

    process = start_worker(site, "dead", before=f"{KILL}{POINTS[point]} = die\n")
    async with asyncio.timeout(8):
        while process.poll() is None:
            await asyncio.sleep(0.01)
    assert process.returncode == -9
    assert await stream_pending(site.redis, site.keys) == 600
    await asyncio.sleep(0.06)  # claim_idle_ms
    tally = await site.work(consumer="other")

    assert site.count("usage_event") == 600
    assert (tally.repeats > 0) == (point == "before-ack")
    assert await stream_pending(site.redis, site.keys) == 0
    assert site.findings() == []


async def test_an_event_at_which_the_worker_dies_is_condemned_and_no_other(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes its neighbours along at first, then it is tried alone."""
    await site.publish_prices()
    await site.commit(*[make_event(latency_ms=666 if n == 3 else n) for n in range(20)])
    rate = RateCards.rate

    def deadly(self: RateCards, event: UsageEvent) -> Any:
        if event.latency_ms == 666:
            raise RuntimeError("a bug that only this event meets")
        return rate(self, event)

    monkeypatch.setattr(RateCards, "rate", deadly)

    starts = 0
    while await stream_pending(site.redis, site.keys):
        starts += 1
        with suppress(ExceptionGroup):
            await site.work()

    [dead] = site.rows("dead_letter")
    assert dead.reason == "the worker died 5 times while it was settling this entry"
    assert dead.deliveries >= 5
    assert site.count("usage_event") == 19
    assert starts == 7  # new, twice together, three times alone, and the one that gives it up
    shard = site.keys.shard("acme")
    assert await site.redis.xlen(site.keys.dead(shard)) == 1
    assert not await site.redis.exists(site.keys.tries(shard))
    assert ("alert", "dead_letter") in _alerts(site)


async def test_one_event_that_the_database_refuses_does_not_stop_its_batch(site: Site) -> None:
    await site.publish_prices()
    with closing(open_ledger(site.ledger_url)) as ledger:
        ledger.migrate()
        with ledger.write() as connection:
            connection.exec_driver_sql(
                "CREATE TRIGGER picky BEFORE INSERT ON usage_event WHEN NEW.latency_ms = 66 "
                "BEGIN SELECT RAISE(ABORT, 'not this one'); END"
            )
    await site.commit(*[make_event(latency_ms=n) for n in range(200)])

    tally = await site.work()

    assert (tally.settled, tally.malformed) == (199, 1)
    [dead] = site.rows("dead_letter")
    assert dead.reason == "the ledger's database refuses it: not this one"
    assert orjson.loads(dead.raw)["latency_ms"] == 66
    assert site.findings() == []


async def test_broken_books_condemn_no_event(site: Site) -> None:
    """A chain that goes back in time refuses every event: that is not the events' fault."""
    await site.publish_prices()
    await site.commit(make_event())
    await site.work()
    with closing(sqlite3.connect(site.ledger_url.removeprefix("sqlite:///"))) as connection:
        connection.execute("UPDATE watermark SET events = 0")
        connection.commit()
    await site.commit(make_event(), make_event())
    running = spawn(site.work(drain=False), name="worker")
    async with asyncio.timeout(8):
        while site.log.said.count("settlement_retries") < 8:
            await asyncio.sleep(0.01)
    site.stop.set()
    await running

    assert site.count("dead_letter") == 0
    assert await stream_pending(site.redis, site.keys) == 2
    assert await site.redis.hlen(site.keys.tries(site.keys.shard("acme"))) == 0


async def test_f22_a_newer_schema_waits_for_an_upgrade_then_is_put_aside(site: Site) -> None:
    """Unknown fields are kept; an unknown schema stops nobody and is never dropped."""
    await site.publish_prices()
    newer, odd = encode(make_event(schema=9)), make_event()
    with_field = encode(odd)[:-1] + b',"of_tomorrow":1}'
    stream = site.keys.stream(site.keys.shard("acme"))
    for body in (newer, with_field):
        await site.redis.xadd(stream, {"e": body, "h": payload_hash(body)})
    timing = replace(FAST, newer_deliveries=4)

    assert (await site.work(timing=timing)).settled == 1

    assert "settlement_waits_for_schema" in site.log.said
    [row] = site.rows("usage_event")
    assert b"of_tomorrow" in row.payload
    [dead] = site.rows("dead_letter")
    assert (dead.raw, dead.deliveries) == (newer, 4)
    assert "schema 9 is not known" in dead.reason


async def test_entries_that_somebody_deleted_are_reported_with_their_ids(site: Site) -> None:
    """They were given to a worker that died, so one of them may be lost."""
    await site.publish_prices()
    lost, booked = make_event(), make_event()
    await site.commit(lost, booked)
    stream = site.keys.stream(site.keys.shard("acme"))
    await site.redis.xgroup_create(stream, GROUP, id="0")
    reader = StreamReader(site.redis, site.keys, consumer="dead", shards=range(16))
    entries = [entry for entry in await _given(reader, site) if entry.body is not None]
    with closing(open_ledger(site.ledger_url)) as ledger:
        ledger.migrate()
        book(ledger, [entries[1]])
    await site.redis.xdel(stream, *[entry.stream_id for entry in entries])
    await asyncio.sleep(0.06)

    await site.work()
    await site.work()

    [alert] = [row for row in site.rows("outbox") if row.key.startswith("stream_gap")]
    assert orjson.loads(alert.body)["stream_ids"] == [entries[0].stream_id]
    assert _alerts(site).count(("alert", "stream_gap")) == 1
    assert [row.stream_id for row in site.rows("dead_letter")] == [entries[0].stream_id]
    assert await stream_pending(site.redis, site.keys) == 0


async def test_f20_repeats_in_any_order_and_late_ones_are_booked_once(site: Site) -> None:
    await site.publish_prices()
    late = make_event(occurred_at=make_event().occurred_at - 25 * 3_600 * 10**9)
    events = [late, *(make_event(tenant=f"t{n % 5}") for n in range(50))]
    shuffled = events * 3
    random.Random(20).shuffle(shuffled)
    await site.commit(*shuffled)

    tally = await site.work()

    assert (tally.settled, tally.repeats, tally.conflicts) == (51, 102, 0)
    assert site.findings() == []


async def test_f21_a_zombie_books_nothing_twice(site: Site) -> None:
    """A worker that was stopped for long wakes up with a batch that another has settled."""
    await site.publish_prices()
    await site.commit(*[make_event() for _ in range(30)])
    zombie = StreamReader(site.redis, site.keys, consumer="zombie", shards=range(16))
    await zombie.ensure_groups()
    held = await zombie.read_new(block_ms=1)
    await asyncio.sleep(0.06)
    assert (await site.work(consumer="other")).settled == 30

    with closing(open_ledger(site.ledger_url)) as ledger:
        booker = Booker(
            ledger, site.redis, site.keys, timing=FAST, writing=asyncio.Lock(), log=site.log
        )
        await booker.settle(zombie, Lane(FAST), held)

    assert (booker.tally.settled, booker.tally.repeats) == (0, 30)
    assert site.count("usage_event") == 30
    assert site.findings() == []


@pytest.mark.parametrize("name", ["same", "different"])
async def test_f21_workers_at_once_book_each_event_once(site: Site, name: str) -> None:
    await site.publish_prices()
    await site.commit(*[make_event(tenant=f"t{n % 7}") for n in range(800)])
    names = ["w", "w"] if name == "same" else ["w1", "w2"]

    tallies = await asyncio.gather(*(site.work(consumer=each) for each in names))

    assert sum(tally.settled for tally in tallies) == 800
    assert site.findings() == []


async def test_an_alert_is_logged_once_however_often_the_worker_starts(site: Site) -> None:
    await site.publish_prices()
    event = make_event()
    await site.commit(event, replace(event, latency_ms=5))

    for _ in range(3):
        await site.work()

    assert _alerts(site) == [("alert", "event_conflict")]
    assert {row.state for row in site.rows("outbox")} == {"sent"}


async def test_a_backlog_is_said_once_while_it_lasts(site: Site) -> None:
    """What waits for a price is a backlog too: nobody settles it."""
    await site.commit(*[make_event() for _ in range(5)])
    timing = replace(FAST, upkeep_every_s=0.01, watch_every_s=0.01)
    running = spawn(
        site.work(drain=False, timing=timing, marks=Marks(backlog_high=5)), name="worker"
    )
    async with asyncio.timeout(8):
        while ("alert", "backlog") not in _alerts(site):
            await asyncio.sleep(0.01)
    await site.publish_prices()
    async with asyncio.timeout(8):
        while "alert_over" not in site.log.said:
            await asyncio.sleep(0.01)
    site.stop.set()
    await running

    assert _alerts(site) == [("alert", "backlog")]


@pytest.mark.slow(60)
@pytest.mark.timeout(60)
async def test_f03_a_backlog_of_ten_thousand_is_settled_within_a_minute(site: Site) -> None:
    await site.publish_prices()
    for _ in range(10):
        await site.commit(*[make_event(tenant=f"t{n % 40}") for n in range(1_000)])
    started = time.monotonic()

    assert (await site.work()).settled == 10_000

    took_s = time.monotonic() - started
    print(f"10,000 events settled in {took_s:.1f} s")
    assert took_s < 60


def _alerts(site: Site) -> list[tuple[str, str]]:
    return [(event, values["kind"]) for event, values in site.log.lines if event == "alert"]


async def _given(reader: StreamReader, site: Site) -> list[Any]:
    await reader.ensure_groups()
    return await reader.read_new(block_ms=1)
