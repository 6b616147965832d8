"""The worker end to end: real Redis, real SQLite, real kills."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from fixtures_ledger import PRICES, make_event
from fixtures_redis import RedisServer
from redis.asyncio import Redis
from sqlalchemy import func, select

from metering.background import spawn
from metering.events import UsageEvent, encode, payload_hash
from metering.redis_keys import RedisKeys
from metering.settlement import worker
from metering.settlement.ledger import tables
from metering.settlement.ledger.queries import invoice_report
from metering.settlement.ledger.store import open_ledger
from metering.settlement.ledger.verify import verify
from metering.settlement.redis_client import connect
from metering.settlement.redis_stream import stream_pending
from metering.settlement.timing import Timing

FAST = Timing(
    block_ms=20, claim_idle_ms=50, claim_every_s=0.05, retry_first_s=0.02, retry_max_s=0.1
)


@dataclass
class CollectingLog:
    """A logger that remembers what was said."""

    said: list[str] = field(default_factory=list)

    def info(self, event: str, **values: Any) -> None:
        self.said.append(event)

    warning = info


@dataclass
class Site:
    """A Redis, a ledger file, and what a proxy and a worker do with them."""

    redis: Redis
    redis_url: str
    keys: RedisKeys
    ledger_url: str
    log: CollectingLog = field(default_factory=CollectingLog)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def publish_prices(self) -> None:
        for version, body in PRICES.items():
            await self.redis.set(self.keys.prices(version), body)

    async def commit(self, *events: UsageEvent) -> None:
        async with self.redis.pipeline(transaction=False) as pipeline:
            for event in events:
                body = encode(event)
                stream = self.keys.stream(self.keys.shard(event.tenant))
                pipeline.xadd(stream, {"e": body, "h": payload_hash(body)})
            await pipeline.execute()

    async def work(self, *, drain: bool = True, **changes: Any) -> worker.Tally:
        arguments = {"timing": FAST, "log": self.log, **changes}
        return await worker.run(
            self.redis_url, self.keys, self.ledger_url, stop=self.stop, drain=drain, **arguments
        )

    async def until_settled(self, count: int) -> None:
        """Wait until the ledger has that many events."""
        async with asyncio.timeout(8):
            while self.count("usage_event") < count:
                await asyncio.sleep(0.01)

    def rows(self, table: str) -> list[Any]:
        with closing(open_ledger(self.ledger_url)) as ledger, ledger.read() as connection:
            return list(connection.execute(select(tables.metadata.tables[table])).all())

    def count(self, table: str) -> int:
        with closing(open_ledger(self.ledger_url)) as ledger:
            if ledger.revision() is None:
                return 0
            with ledger.read() as connection:
                query = select(func.count()).select_from(tables.metadata.tables[table])
                return int(connection.execute(query).scalar_one())

    def findings(self) -> list[str]:
        with closing(open_ledger(self.ledger_url)) as ledger:
            return verify(ledger)


@pytest.fixture
async def site(
    redis_server: RedisServer, redis_keys: RedisKeys, tmp_path: Path
) -> AsyncIterator[Site]:
    url = f"unix://{redis_server.path}"
    client = connect(url)
    yield Site(client, url, redis_keys, f"sqlite:///{tmp_path / 'ledger.db'}")
    await client.aclose()


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


_WORKER = """
import asyncio, sys
from metering.redis_keys import RedisKeys
from metering.settlement import worker
from metering.settlement.timing import Timing
url, prefix, ledger, name = sys.argv[1:]
timing = Timing(block_ms=20, claim_idle_ms=300, claim_every_s=0.1)
asyncio.run(worker.run(url, RedisKeys(prefix=prefix), ledger, stop=asyncio.Event(),
                       consumer=name, timing=timing))
"""


def _start_worker(site: Site, name: str) -> subprocess.Popen[bytes]:
    arguments = [site.redis_url, site.keys.prefix, site.ledger_url, name]
    return subprocess.Popen([sys.executable, "-c", _WORKER, *arguments], stdout=subprocess.DEVNULL)


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
        process = _start_worker(site, f"w{number % 2}")
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
