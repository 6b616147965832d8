"""What the worker does beside the books, and what may be late: rollups, windows, trimming."""

from __future__ import annotations

import asyncio

from redis.asyncio import Redis

from metering.redis_keys import RedisKeys
from metering.settlement.ledger.rollups import update_rollups
from metering.settlement.ledger.standing import settled_positions
from metering.settlement.ledger.store import Ledger
from metering.settlement.redis_stream import StreamReader
from metering.settlement.redis_windows import rebuild_windows
from metering.settlement.timing import Timing
from metering.settlement.worker_tally import Log


class Upkeep:
    """The worker's housekeeping. Lanes call it in turn; one writes to the ledger at a time."""

    def __init__(
        self,
        ledger: Ledger,
        redis: Redis,
        keys: RedisKeys,
        *,
        timing: Timing,
        writing: asyncio.Lock,
        log: Log,
    ) -> None:
        self._ledger = ledger
        self._redis = redis
        self._keys = keys
        self._timing = timing
        self._writing = writing
        self._log = log

    async def run(self, reader: StreamReader) -> None:
        """One turn, for the shards of this reader."""
        await self.rebuild_windows()
        async with self._writing:
            await asyncio.to_thread(update_rollups, self._ledger)
        settled = await asyncio.to_thread(settled_positions, self._ledger)
        await reader.trim(settled, keep_ms=self._timing.keep_ms)

    async def rebuild_windows(self) -> None:
        """Give a Redis that lost them its windows back."""
        async with self._writing:  # one lane is enough for all shards
            rebuilt = await rebuild_windows(self._ledger, self._redis, self._keys)
        if rebuilt:
            self._log.info("windows_rebuilt", shards=list(rebuilt))
