"""A worker's site: a Redis, a ledger file, and what proxies and workers do with them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fixtures_ledger import PRICES
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
from metering.settlement.timing import Timing

FAST = Timing(
    block_ms=20, claim_idle_ms=50, claim_every_s=0.05, retry_first_s=0.02, retry_max_s=0.1
)


@dataclass
class CollectingLog:
    """A logger that remembers what was said."""

    said: list[str] = field(default_factory=list)
    lines: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def info(self, event: str, **values: Any) -> None:
        self.said.append(event)
        self.lines.append((event, values))

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


def start_worker(site: Site, name: str, *, before: str = "") -> subprocess.Popen[bytes]:
    """A worker process; `before` is Python that runs in it first."""
    arguments = [site.redis_url, site.keys.prefix, site.ledger_url, name]
    return subprocess.Popen(
        [sys.executable, "-c", before + _WORKER, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
