"""What the worker looks at so that a person need not: the backlog, Redis' memory, the spools.

Shell around `crossings`. What has crossed its mark is noted in Redis, shared by all workers and
kept over restarts, and the alert is named by the time of its crossing: so it is said once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from redis.asyncio import Redis

from metering.clock import now_ns
from metering.redis_keys import RedisKeys
from metering.settlement.crossings import (
    Marks,
    Reading,
    backlog_reading,
    memory_reading,
    spool_readings,
)
from metering.settlement.ledger.outbox import put_alerts
from metering.settlement.ledger.store import Ledger
from metering.settlement.redis_stream import read_memory, unsettled_entries
from metering.settlement.watch import Log


class Watch:
    """Compares what there is with its marks, and raises what has crossed."""

    def __init__(
        self,
        ledger: Ledger,
        redis: Redis,
        keys: RedisKeys,
        *,
        marks: Marks,
        writing: asyncio.Lock,
        log: Log,
    ) -> None:
        self._ledger = ledger
        self._redis = redis
        self._keys = keys
        self._marks = marks
        self._writing = writing
        self._log = log

    def adopt(self, marks: Marks) -> None:
        """Hold the next look to these."""
        self._marks = marks

    async def look(self) -> None:
        """One look at everything."""
        marks, keys = self._marks, self._keys
        now_ms = now_ns() // 1_000_000
        found: Any = await self._redis.hgetall(keys.proxies)
        reports = {name.decode(): body for name, body in found.items()}
        spools, forgotten = spool_readings(reports, marks, now_ms=now_ms)
        if forgotten:
            await self._redis.hdel(keys.proxies, *forgotten)
        await self.judge(
            [
                backlog_reading(await unsettled_entries(self._redis, keys), marks),
                memory_reading(await read_memory(self._redis), marks),
                *spools,
            ],
            now_ms=now_ms,
        )

    async def judge(self, readings: Sequence[Reading], *, now_ms: int) -> None:
        """Raise what is over its mark, end what is well below it."""
        raised = []
        for reading in readings:
            if reading.is_over:
                await self._redis.hsetnx(self._keys.crossings, reading.name, str(now_ms))
            elif reading.has_ended:
                if await self._redis.hdel(self._keys.crossings, reading.name):
                    self._log.info("alert_over", kind=reading.kind, subject=reading.subject)
                continue
            since: Any = await self._redis.hget(self._keys.crossings, reading.name)
            if since is not None:  # each time while it lasts: its key says that it was said
                raised.append((f"{reading.name}:{since.decode()}", reading.body))
        if raised:
            async with self._writing:
                await asyncio.to_thread(self._put, raised)

    def _put(self, raised: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        with self._ledger.write() as connection:
            put_alerts(connection, raised, now_ns())
