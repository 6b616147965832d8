"""The worker end to end: real Redis, real SQLite, real kills."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from fixtures_ledger import PRICES, make_event
from fixtures_worker import FAST, Site, start_worker

from metering.background import spawn
from metering.events import encode, payload_hash
from metering.settlement import worker
from metering.settlement.ledger.queries import invoice_report
from metering.settlement.ledger.store import open_ledger
from metering.settlement.redis_stream import stream_pending


async def test_a_drain_settles_all_and_ends(site: Site) -> None:
    await site.publish_prices()
    events = [make_event(tenant=f"t{n % 20}") for n in range(700)]
    await site.commit(*events, *events[:50])

    tally = await site.work()

    assert (tally.settled, tally.repeats, tally.malformed) == (700, 50, 0)
    assert await stream_pending(site.redis, site.keys) == 0
    assert site.findings() == []
    assert site.count("rollup") > 0
    assert {row.version: row.body for row in site.rows("price_body")} == PRICES
    for shard in range(site.keys.shards):
        assert await site.redis.exists(site.keys.epoch(shard))


async def test_new_events_are_settled_at_once_and_a_stop_ends_it(site: Site) -> None:
    await site.publish_prices()
    running = spawn(site.work(drain=False), name="worker")
    await site.commit(make_event())
    await site.until_settled(1)
    started = time.monotonic()

    await site.commit(make_event())
    await site.until_settled(2)

    assert time.monotonic() - started < 1
    site.stop.set()
    assert (await running).settled == 2


async def test_a_stop_takes_what_stands_in_the_streams(site: Site) -> None:
    await site.publish_prices()
    site.stop.set()
    await site.commit(*[make_event(tenant=f"t{n % 20}") for n in range(700)])

    assert (await site.work(drain=False)).settled == 700
    assert site.count("rollup") > 0


async def test_a_stop_in_a_hurry_takes_nothing(site: Site) -> None:
    await site.publish_prices()
    hurry = asyncio.Event()
    hurry.set()
    site.stop.set()
    await site.commit(make_event())

    assert (await site.work(drain=False, hurry=hurry)).settled == 0
    assert await stream_pending(site.redis, site.keys) == 1


async def test_each_shard_can_be_read_by_itself(site: Site) -> None:
    await site.publish_prices()
    await site.commit(*[make_event(tenant=f"t{n}") for n in range(60)])

    assert (await site.work(one_server=False)).settled == 60
    assert site.findings() == []


async def test_an_unknown_price_version_waits_and_stops_nobody_else(site: Site) -> None:
    event = make_event()
    await site.commit(event)
    running = spawn(site.work(drain=False), name="worker")
    await site.commit(make_event(units={}, cost_version=None, sell_version=None))
    await site.until_settled(1)

    assert await stream_pending(site.redis, site.keys) == 1
    assert "settlement_waits_for_prices" in site.log.said
    assert site.count("dead_letter") == 0

    await site.publish_prices()
    await site.until_settled(2)
    site.stop.set()
    await running
    assert await stream_pending(site.redis, site.keys) == 0


async def test_a_price_body_that_is_not_its_version_is_as_good_as_none(site: Site) -> None:
    for version in PRICES:
        await site.redis.set(site.keys.prices(version), b"{}")
    await site.commit(make_event())
    running = spawn(site.work(drain=False), name="worker")
    async with asyncio.timeout(8):
        while "settlement_waits_for_prices" not in site.log.said:
            await asyncio.sleep(0.01)

    await site.publish_prices()
    await site.until_settled(1)

    site.stop.set()
    assert (await running).malformed == 0


async def test_prices_in_the_ledger_outlive_redis(site: Site) -> None:
    await site.publish_prices()
    await site.commit(make_event())
    await site.work()
    for version in PRICES:
        await site.redis.delete(site.keys.prices(version))
    await site.commit(make_event())

    assert (await site.work()).settled == 1


async def test_poison_is_dead_lettered_and_the_rest_goes_on(site: Site) -> None:
    await site.publish_prices()
    stream = site.keys.stream(site.keys.shard("acme"))
    absurd = encode(make_event(units={"output_text": 2**53 - 1}, admission_nano=0))
    await site.redis.xadd(stream, {"e": b"nope", "h": payload_hash(b"nope")})
    await site.redis.xadd(stream, {"other": b"fields"})
    await site.redis.xadd(stream, {"e": absurd, "h": payload_hash(absurd)})
    await site.commit(make_event())

    tally = await site.work()

    assert (tally.settled, tally.malformed) == (1, 3)
    assert [row.raw for row in site.rows("dead_letter")] == [b"nope", b"", absurd]
    assert await stream_pending(site.redis, site.keys) == 0


async def test_a_conflict_is_kept_and_reported(site: Site) -> None:
    await site.publish_prices()
    event = make_event()
    await site.commit(event, replace(event, latency_ms=5))

    assert (await site.work()).conflicts == 1
    assert site.count("event_conflict") == 1
    assert "settlement_found_faults" in site.log.said


async def test_what_still_waits_is_not_confirmed(site: Site) -> None:
    """Its proxy would drop the one copy of it that lies outside Redis."""
    await site.publish_prices()
    waiting = make_event(proxy_id="p", spool_seq=3, sell_version="ffffffffffff", admission_nano=0)
    await site.commit(waiting, make_event(proxy_id="p", spool_seq=8))
    running = spawn(site.work(drain=False), name="worker")
    async with asyncio.timeout(8):
        while await site.redis.hget(site.keys.confirmed, "p") is None:
            await asyncio.sleep(0.01)

    site.stop.set()
    await running
    assert await site.redis.hget(site.keys.confirmed, "p") == b"8-8"


async def test_a_redis_that_lost_everything_is_read_on(site: Site) -> None:
    await site.publish_prices()
    running = spawn(site.work(drain=False), name="worker")
    await site.commit(make_event())
    await site.until_settled(1)
    names = await site.redis.keys(f"{site.keys.prefix}:*")
    await site.redis.delete(*names)

    await site.commit(make_event())
    await site.until_settled(2)

    async with asyncio.timeout(8):
        while not await site.redis.exists(site.keys.epoch(0)):
            await asyncio.sleep(0.01)
    site.stop.set()
    await running
    assert "settlement_retries" in site.log.said


async def test_a_ledger_that_fails_condemns_nothing(site: Site) -> None:
    await site.publish_prices()
    with closing(open_ledger(site.ledger_url)) as ledger:
        ledger.migrate()
        with ledger.write() as connection:
            connection.exec_driver_sql("ALTER TABLE usage_event RENAME TO hidden")
        await site.commit(make_event())
        running = spawn(site.work(drain=False), name="worker")
        async with asyncio.timeout(8):
            while "settlement_retries" not in site.log.said:
                await asyncio.sleep(0.01)
        with ledger.write() as connection:
            connection.exec_driver_sql("ALTER TABLE hidden RENAME TO usage_event")
    await site.until_settled(1)

    site.stop.set()
    await running
    assert site.count("dead_letter") == 0
    assert site.findings() == []


IMPATIENT = replace(FAST, drain_patience_s=0.2)


@pytest.mark.parametrize("one_server", [True, False])
async def test_a_drain_without_redis_gives_up(site: Site, tmp_path: Path, one_server: bool) -> None:
    """Whoever waits for a drain is told, once, with the name of what is away."""
    site.redis_url = f"unix://{tmp_path / 'nobody.sock'}"

    with pytest.raises(worker.DrainGaveUpError, match=r"^gave up after 0 s: .*nobody\.sock.*$"):
        await site.work(timing=IMPATIENT, one_server=one_server)


async def test_without_a_drain_redis_is_waited_for(site: Site, tmp_path: Path) -> None:
    """A worker that runs for good says that it waits, and goes on."""
    site.redis_url = f"unix://{tmp_path / 'nobody.sock'}"
    running = spawn(site.work(drain=False, timing=IMPATIENT), name="worker")
    async with asyncio.timeout(8):
        while site.log.said.count("settlement_retries") < 10:
            await asyncio.sleep(0.01)

    assert not running.done()
    site.stop.set()
    await running


async def test_a_drain_without_a_price_names_it_and_settles_the_rest(site: Site) -> None:
    """What can be settled is; what waits stays where it is, for when the price has come."""
    await site.publish_prices()
    await site.commit(
        make_event(sell_version="ffffffffffff", admission_nano=0), make_event(), make_event()
    )

    with pytest.raises(worker.DrainGaveUpError, match="price version ffffffffffff"):
        await site.work(timing=IMPATIENT)

    assert site.count("usage_event") == 2
    assert await stream_pending(site.redis, site.keys) == 1


async def test_a_drain_without_a_ledger_gives_up(site: Site, tmp_path: Path) -> None:
    """The database is waited for as Redis is."""
    site.ledger_url = f"sqlite:///{tmp_path / 'no' / 'such' / 'folder.db'}"

    with pytest.raises(worker.DrainGaveUpError, match=r"unable to open database file$"):
        await site.work(timing=IMPATIENT)


@pytest.mark.slow(30)
@pytest.mark.timeout(30)
async def test_kill_9_again_and_again_loses_and_doubles_nothing(site: Site) -> None:
    """Each worker is killed at another moment of its first batches; a last one ends the work."""
    await site.publish_prices()
    events = [make_event(tenant=f"t{n % 9}", units={"output_text": n}) for n in range(9_000)]
    for start in range(0, len(events), 1_000):
        await site.commit(*events[start : start + 1_000])
    await site.commit(*events[:500])
    with closing(open_ledger(site.ledger_url)) as ledger:
        ledger.migrate()
    settled = sqlite3.connect(site.ledger_url.removeprefix("sqlite:///"))

    def count() -> int:
        return int(settled.execute("SELECT sum(events) FROM watermark").fetchone()[0] or 0)

    kills = 0
    for number in range(3):
        before = count()
        process = start_worker(site, f"w{number % 2}")
        deadline = time.monotonic() + 5
        while count() == before < len(events) and time.monotonic() < deadline:
            await asyncio.sleep(0.001 + 0.007 * number)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += before < count() < len(events)
    settled.close()
    await asyncio.sleep(0.1)
    await site.work(consumer="w1")

    assert kills >= 1  # they did die in the middle of the work
    assert site.count("usage_event") == len(events)
    assert site.findings() == []
    assert await stream_pending(site.redis, site.keys) == 0
    with closing(open_ledger(site.ledger_url)) as ledger:
        reports = [invoice_report(ledger, f"t{n}", "2026-11") for n in range(9)]
    billed = sum(report.invoice["total_nano"] for report in reports if report is not None)
    assert billed == sum(event.admission_nano for event in events)
