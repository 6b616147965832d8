"""A ledger that is full, locked, damaged or away: nothing is acknowledged that is not booked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from fixtures_ledger import make_event
from fixtures_postgres import PostgresServer
from fixtures_settlement import Works
from sqlalchemy import Connection, Engine, event, text

from metering.background import spawn
from metering.settlement import worker
from metering.settlement.ledger import store
from metering.settlement.ledger.store import open_ledger


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


async def test_a_full_disk_holds_everything_up_and_loses_nothing(
    sqlite_works: Works, disk: Disk
) -> None:
    """F-16: said, nothing acknowledged; with room again it goes on by itself within 5 s."""
    with closing(open_ledger(sqlite_works.ledger_url)) as ledger, ledger.read() as connection:
        used = connection.execute(text("PRAGMA page_count")).scalar_one()
    disk.pages_max = used + 20
    await sqlite_works.commit([make_event() for _ in range(400)])
    running = spawn(sqlite_works.work(), name="worker")

    await sqlite_works.log.until_said("settlement_retries", "database or disk is full")
    assert (sqlite_works.count(), await sqlite_works.pending()) == (0, 400)
    disk.pages_max = 2**30
    await sqlite_works.until_settled(400, within_s=5)

    sqlite_works.stop.set()
    await running
    assert await sqlite_works.pending() == 0
    assert sqlite_works.findings() == []


async def test_a_locked_ledger_is_waited_for(
    sqlite_works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F-17: by the busy timeout and beyond it; then everything is booked."""
    monkeypatch.setattr(store, "BUSY_TIMEOUT_MS", 50)
    running = spawn(sqlite_works.work(), name="worker")
    with closing(open_ledger(sqlite_works.ledger_url)) as ledger:
        with ledger.write():
            await sqlite_works.commit([make_event() for _ in range(20)])
            await sqlite_works.log.until_said("settlement_retries", "database is locked")
            assert await sqlite_works.pending() == 20
        await sqlite_works.until_settled(20, within_s=5)

    sqlite_works.stop.set()
    await running
    assert sqlite_works.findings() == []


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
    sqlite_works: Works, tmp_path: Path, drain: bool
) -> None:
    """F-17: one clear line, nothing acknowledged, the process stays; `verify` says it too."""
    await sqlite_works.commit([make_event() for _ in range(300)])
    await sqlite_works.work(drain=True)
    _overwrite(tmp_path / "ledger.db", "usage_event")
    await sqlite_works.commit([make_event() for _ in range(10)])

    running = spawn(sqlite_works.work(drain=drain), name="worker")
    await sqlite_works.log.until_said(
        "ledger_unusable", "is damaged (database disk image is malformed)"
    )
    await asyncio.sleep(0.1)
    assert running.done() is drain
    sqlite_works.stop.set()

    with pytest.raises(worker.DrainGaveUpError, match="put a backup in its place"):
        await running
    assert sqlite_works.log.said("ledger_unusable") == 1
    assert sqlite_works.log.said("settlement_retries") == 0
    assert await sqlite_works.pending() == 10
    assert any("the database itself is damaged" in found for found in sqlite_works.findings())


@pytest.mark.slow(30)
@pytest.mark.timeout(30)
async def test_a_postgresql_that_dies_in_mid_batch_is_used_again(
    sqlite_works: Works, own_postgres_server: PostgresServer
) -> None:
    """F-18: `-m immediate` while a batch is open: nothing lost or doubled, back within 5 s."""
    server = own_postgres_server
    database = server.new_database()
    sqlite_works.ledger_url = server.url(database)
    with closing(server.connect(database)) as blocker:
        blocker.execute("BEGIN")
        blocker.execute("LOCK TABLE posting IN EXCLUSIVE MODE")
        await sqlite_works.commit([make_event(tenant=f"t{n % 9}") for n in range(1_000)])
        running = spawn(sqlite_works.work(), name="worker")
        await _until_waiting(server)
        await asyncio.to_thread(server.stop)
    await sqlite_works.log.until_said("settlement_retries")
    await sqlite_works.commit([make_event() for _ in range(50)])
    await asyncio.to_thread(server.start)
    began = time.monotonic()
    await sqlite_works.until_settled(1_050, within_s=9)

    assert time.monotonic() - began < 5
    sqlite_works.stop.set()
    await running
    assert await sqlite_works.pending() == 0
    assert sqlite_works.findings() == []


async def _until_waiting(server: PostgresServer) -> None:
    """Until the worker's batch holds its watermarks and waits for the table."""
    with closing(server.connect()) as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        async with asyncio.timeout(8):
            while connection.execute(query).fetchone() == (0,):
                await asyncio.sleep(0.01)
