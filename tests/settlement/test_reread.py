"""A ledger that went back in time gets again what the streams still have."""

from __future__ import annotations

import asyncio
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from fixtures_ledger import make_event
from fixtures_postgres import PostgresServer
from fixtures_settlement import Works

from metering.background import spawn
from metering.redis_keys import GROUP
from metering.settlement.ledger.store import Ledger
from metering.settlement.redis_stream import BATCH_MAX
from metering.settlement.reread import reread_lost
from metering.settlement.timing import Timing


@pytest.fixture
def copy_ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """Copies a ledger as it stands, as a backup or a standby that is behind; the copy's URL."""

    def copy(url: str) -> str:
        if url.startswith("sqlite"):
            path = tmp_path / "restored.db"
            with (
                closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as source,
                closing(sqlite3.connect(path)) as target,
            ):
                source.backup(target)
            return f"sqlite:///{path}"
        server: PostgresServer = request.getfixturevalue("postgres_server")
        name = re.search(r"@/(\w+)", url)
        assert name is not None
        database = server.new_database(template=name[1])
        request.addfinalizer(lambda: server.drop_database(database))
        return server.url(database)

    return copy


async def test_what_a_standby_had_not_yet_is_settled_again(
    works: Works, copy_ledger: Callable[[str], str]
) -> None:
    """F-18: acknowledged events that the promoted standby lacks come back; none is doubled."""
    events = [make_event(tenant=f"t{n % 20}") for n in range(600)]
    await works.commit(events[:300])
    await works.work(drain=True)
    behind = copy_ledger(works.ledger_url)
    await works.commit(events[300:])
    await works.work(drain=True)

    works.ledger_url = behind
    assert works.count() == 300
    tally = await works.work(drain=True)

    assert (tally.settled, works.count(), await works.pending()) == (300, 600, 0)
    assert works.log.said("ledger_lost_events") == 1
    assert works.findings() == []


async def test_what_came_since_does_not_hide_what_is_lost(
    works: Works, copy_ledger: Callable[[str], str]
) -> None:
    """F-18: a worker that starts on a restored ledger looks before it settles what is newer.

    Settling moves the watermark past what was acknowledged, and then nothing would tell.
    """
    events = [make_event() for _ in range(30)]
    await works.commit(events[:10])
    await works.work(drain=True)
    behind = copy_ledger(works.ledger_url)
    await works.commit(events[10:20])
    await works.work(drain=True)
    await works.commit(events[20:])

    works.ledger_url = behind
    tally = await works.work(drain=True)

    assert (tally.settled, works.count(), await works.pending()) == (20, 30, 0)
    assert works.log.said("ledger_lost_events") == 1
    assert works.findings() == []


@pytest.mark.slow(30)
@pytest.mark.timeout(30)
async def test_a_running_worker_notices_a_failover(
    sqlite_works: Works, own_postgres_server: PostgresServer
) -> None:
    """F-18: what answers at the old address is behind; the worker looks, and settles it again."""
    server = own_postgres_server
    sqlite_works.ledger_url = server.url(server.new_database())
    often = Timing(block_ms=20, upkeep_every_s=0.2)
    running = spawn(sqlite_works.work(timing=often), name="worker")
    await sqlite_works.commit([make_event() for _ in range(20)])
    await sqlite_works.until_settled(20)
    await asyncio.to_thread(server.stop)
    data, standby = server.folder / "data", server.folder / "standby"
    subprocess.run(["cp", "-a", data, standby], check=True)
    await asyncio.to_thread(server.start)
    await sqlite_works.commit([make_event() for _ in range(30)])
    await sqlite_works.until_settled(50)

    await asyncio.to_thread(server.stop)
    shutil.rmtree(data)
    standby.rename(data)
    await asyncio.to_thread(server.start)
    await sqlite_works.log.until_said("ledger_lost_events")
    await sqlite_works.until_settled(50)

    sqlite_works.stop.set()
    await running
    assert sqlite_works.findings() == []


async def test_a_ledger_that_lost_nothing_is_left_alone(works: Works, ledger: Ledger) -> None:
    """Neither by entries that wait with some worker, nor by new ones, nor with nothing at all."""
    shards = range(works.keys.shards)
    look = partial(reread_lost, ledger, works.redis, works.keys, shards, log=works.log)
    stream = works.keys.stream(works.keys.shard("acme"))
    for shard in shards:
        await works.redis.xgroup_create(works.keys.stream(shard), GROUP, id="0", mkstream=True)
    assert await look() == ()
    await works.commit([make_event() for _ in range(10)])
    await works.redis.xreadgroup(GROUP, "somebody", {stream: ">"}, count=3)
    assert await look() == ()

    await works.redis.xack(stream, GROUP, *[await _first(works, stream)])

    assert await look() == (works.keys.shard("acme"),)
    again = await works.redis.xreadgroup(GROUP, "another", {stream: ">"}, count=BATCH_MAX)
    assert len(again[0][1]) == 10


async def _first(works: Works, stream: str) -> bytes:
    return (await works.redis.xrange(stream, count=1))[0][0]
