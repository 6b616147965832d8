"""A ledger that is full, locked, damaged or away: nothing is acknowledged that is not booked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from fixtures_ledger import make_event, new_ledger
from fixtures_postgres import PostgresServer
from fixtures_redis import RedisServer
from fixtures_settlement import Works
from sqlalchemy import Connection, Engine, event, text

from metering.background import spawn
from metering.redis_keys import RedisKeys
from metering.settlement import worker
from metering.settlement.ledger import store
from metering.settlement.ledger.store import open_ledger
from metering.settlement.redis_stream import connect


@pytest.fixture
async def works(
    redis_server: RedisServer, redis_keys: RedisKeys, tmp_path: Path
) -> AsyncIterator[Works]:
    """On SQLite; the tests on PostgreSQL say so by putting another URL in."""
    new_ledger(tmp_path).close()
    url = f"unix://{redis_server.path}"
    client = connect(url)
    made = Works(client, url, redis_keys, f"sqlite:///{tmp_path / 'ledger.db'}")
    await made.publish_prices()
    yield made
    await client.aclose()


@dataclass
class Disk:
    """How many pages SQLite may use, as if the disk had no more."""

    pages_max: int = 2**30

    def limit(self, connection: Connection) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {self.pages_max}")


@pytest.fixture
def disk() -> Iterator[Disk]:
    made = Disk()
    event.listen(Engine, "begin", made.limit)
    yield made
    event.remove(Engine, "begin", made.limit)


async def test_a_full_disk_holds_everything_up_and_loses_nothing(works: Works, disk: Disk) -> None:
    """F-16: said, nothing acknowledged; with room again it goes on by itself within 5 s."""
    with closing(open_ledger(works.ledger_url)) as ledger, ledger.read() as connection:
        used = connection.execute(text("PRAGMA page_count")).scalar_one()
    disk.pages_max = used + 20
    await works.commit([make_event() for _ in range(400)])
    running = spawn(works.work(), name="worker")

    await works.log.until_said("settlement_retries", "database or disk is full")
    assert (works.count(), await works.pending()) == (0, 400)
    disk.pages_max = 2**30
    await works.until_settled(400, within_s=5)

    works.stop.set()
    await running
    assert await works.pending() == 0
    assert works.findings() == []


async def test_a_locked_ledger_is_waited_for(works: Works, monkeypatch: pytest.MonkeyPatch) -> None:
    """F-17: by the busy timeout and beyond it; then everything is booked."""
    monkeypatch.setattr(store, "BUSY_TIMEOUT_MS", 50)
    running = spawn(works.work(), name="worker")
    with closing(open_ledger(works.ledger_url)) as ledger:
        with ledger.write():
            await works.commit([make_event() for _ in range(20)])
            await works.log.until_said("settlement_retries", "database is locked")
            assert await works.pending() == 20
        await works.until_settled(20, within_s=5)

    works.stop.set()
    await running
    assert works.findings() == []


def _overwrite(path: Path, table: str) -> None:
    """Destroy the root page of a table, as a disk would that lost it."""
    with closing(open_ledger(f"sqlite:///{path}")) as ledger, ledger.read() as connection:
        query = text("SELECT rootpage FROM sqlite_master WHERE name = :name")
        page = connection.execute(query, {"name": table}).scalar_one()
        size = connection.execute(text("PRAGMA page_size")).scalar_one()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xa5" * size)


@pytest.mark.parametrize("drain", [False, True])
async def test_a_damaged_ledger_is_written_no_more(
    works: Works, tmp_path: Path, drain: bool
) -> None:
    """F-17: one clear line, nothing acknowledged, the process stays; `verify` says it too."""
    await works.commit([make_event() for _ in range(300)])
    await works.work(drain=True)
    _overwrite(tmp_path / "ledger.db", "usage_event")
    await works.commit([make_event() for _ in range(10)])

    running = spawn(works.work(drain=drain), name="worker")
    await works.log.until_said("ledger_unusable", "is damaged (database disk image is malformed)")
    await asyncio.sleep(0.1)
    assert running.done() is drain
    works.stop.set()

    with pytest.raises(worker.DrainGaveUpError, match="put a backup in its place"):
        await running
    assert works.log.said("ledger_unusable") == 1
    assert works.log.said("settlement_retries") == 0
    assert await works.pending() == 10
    assert any("the database itself is damaged" in found for found in works.findings())


async def test_a_postgresql_that_dies_in_mid_batch_is_used_again(
    works: Works, own_postgres_server: PostgresServer
) -> None:
    """F-18: `-m immediate` while a batch is open: nothing lost or doubled, back within 5 s."""
    server = own_postgres_server
    database = server.new_database()
    works.ledger_url = server.url(database)
    with closing(server.connect(database)) as blocker:
        blocker.execute("BEGIN")
        blocker.execute("LOCK TABLE posting IN EXCLUSIVE MODE")
        await works.commit([make_event(tenant=f"t{n % 9}") for n in range(1_000)])
        running = spawn(works.work(), name="worker")
        await _until_waiting(server)
        await asyncio.to_thread(server.stop)
    await works.log.until_said("settlement_retries")
    await works.commit([make_event() for _ in range(50)])
    await asyncio.to_thread(server.start)
    began = time.monotonic()
    await works.until_settled(1_050, within_s=9)

    assert time.monotonic() - began < 5
    works.stop.set()
    await running
    assert await works.pending() == 0
    assert works.findings() == []


async def _until_waiting(server: PostgresServer) -> None:
    """Until the worker's batch holds its watermarks and waits for the table."""
    with closing(server.connect()) as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        async with asyncio.timeout(8):
            while connection.execute(query).fetchone() == (0,):
                await asyncio.sleep(0.01)
