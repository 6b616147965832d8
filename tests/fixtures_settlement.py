"""What a worker stands between: a Redis with streams, and a ledger on either database."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fixtures_ledger import PRICES, new_ledger
from fixtures_redis import RedisServer
from redis.asyncio import Redis
from sqlalchemy import func, select

from metering.events import UsageEvent, encode, payload_hash
from metering.redis_keys import RedisKeys
from metering.settlement import worker
from metering.settlement.ledger import tables
from metering.settlement.ledger.store import open_ledger
from metering.settlement.ledger.verify import verify
from metering.settlement.redis_client import connect
from metering.settlement.redis_stream import stream_pending
from metering.settlement.timing import Timing

STABLE = Path(__file__).parent / "settlement" / "programs" / "worker_stable.py"


@dataclass
class RememberingLog:
    """A logger that remembers what was said, and with which values."""

    lines: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def info(self, event: str, **values: Any) -> None:
        self.lines.append((event, values))

    warning = info

    def said(self, event: str, part: str = "") -> int:
        """How often an event was logged with this in its values."""
        return sum(name == event and part in str(values) for name, values in self.lines)

    async def until_said(self, event: str, part: str = "") -> None:
        async with asyncio.timeout(8):
            while not self.said(event, part):
                await asyncio.sleep(0.005)


@dataclass
class Works:
    """Streams on one side, a ledger on the other, and workers between them."""

    redis: Redis
    redis_url: str
    keys: RedisKeys
    ledger_url: str
    log: RememberingLog = field(default_factory=RememberingLog)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def publish_prices(self) -> None:
        for version, body in PRICES.items():
            await self.redis.set(self.keys.prices(version), body)

    async def commit(self, events: Iterable[UsageEvent]) -> None:
        async with self.redis.pipeline(transaction=False) as pipeline:
            for event in events:
                body = encode(event)
                stream = self.keys.stream(self.keys.shard(event.tenant))
                pipeline.xadd(stream, {"e": body, "h": payload_hash(body)})
            await pipeline.execute()

    async def work(self, *, drain: bool = False, timing: Timing | None = None) -> worker.Tally:
        return await worker.run(
            self.redis_url,
            self.keys,
            self.ledger_url,
            stop=self.stop,
            drain=drain,
            log=self.log,
            timing=timing or Timing(block_ms=20),
        )

    async def pending(self) -> int:
        return await stream_pending(self.redis, self.keys)

    def count(self) -> int:
        """How many events the ledger has."""
        with closing(open_ledger(self.ledger_url)) as ledger, ledger.read() as connection:
            query = select(func.coalesce(func.sum(tables.watermark.c.events), 0))
            return int(connection.execute(query).scalar_one())

    async def until_settled(self, count: int, *, within_s: float = 8) -> None:
        async with asyncio.timeout(within_s):
            while await asyncio.to_thread(self.count) < count:
                await asyncio.sleep(0.02)

    def findings(self) -> list[str]:
        with closing(open_ledger(self.ledger_url)) as ledger:
            return verify(ledger)

    @contextmanager
    def stable(self, *, claim_idle_ms: int) -> Iterator[Stable]:
        """A source of worker processes; all of them are gone at the end of the block."""
        words = [self.redis_url, self.keys.prefix, self.ledger_url, str(claim_idle_ms)]
        process = subprocess.Popen(
            [sys.executable, str(STABLE), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
            text=True,
        )
        assert process.stdout is not None
        with process:
            yield Stable(process)
            process.communicate(timeout=5)


@dataclass
class Stable:
    """Worker processes by name, to be killed, stopped and woken."""

    process: subprocess.Popen[str]
    pids: dict[str, int] = field(default_factory=dict)

    def start(self, name: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{name}\n")
        self.process.stdin.flush()
        self.pids[name] = int(self.process.stdout.readline())

    def send(self, name: str, number: signal.Signals) -> None:
        os.kill(self.pids[name], number)


@pytest.fixture
async def sqlite_works(
    redis_server: RedisServer, redis_keys: RedisKeys, tmp_path: Path
) -> AsyncIterator[Works]:
    """With the prices published and an empty ledger; another one may be put in."""
    new_ledger(tmp_path).close()
    url = f"unix://{redis_server.path}"
    client = connect(url)
    made = Works(client, url, redis_keys, f"sqlite:///{tmp_path / 'ledger.db'}")
    await made.publish_prices()
    yield made
    await client.aclose()


@pytest.fixture
def works(sqlite_works: Works, ledger_url: str) -> Works:
    """The same on each of the databases."""
    sqlite_works.ledger_url = ledger_url
    return sqlite_works
