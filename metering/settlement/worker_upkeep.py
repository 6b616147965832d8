"""What the worker does beside the books, and what may be late.

Lost exchanges, rollups, windows, trimming, the comparison of Redis with the ledger, and alerts.
"""

from __future__ import annotations

import asyncio

from redis.asyncio import Redis

from metering.clock import monotonic_s, now_ns
from metering.redis_keys import RedisKeys
from metering.settlement.anomaly_watch import AnomalyWatch
from metering.settlement.confirming import Confirming
from metering.settlement.counting import Rules
from metering.settlement.credit_watch import CreditWatch
from metering.settlement.crossings import Marks
from metering.settlement.ledger.analytics_rollup import Summing
from metering.settlement.ledger.rollups import update_rollups
from metering.settlement.ledger.standing import settled_positions
from metering.settlement.ledger.store import Ledger
from metering.settlement.one_ledger import OneLedger
from metering.settlement.reaper import Reaper
from metering.settlement.redis_drift import DriftWatch
from metering.settlement.redis_notes import Notes
from metering.settlement.redis_scope_drift import ScopeWatch
from metering.settlement.redis_stream import StreamReader
from metering.settlement.redis_windows import (
    build_new_windows,
    forget_windows,
    rebuild_windows,
)
from metering.settlement.reread import reread_lost
from metering.settlement.timing import Timing
from metering.settlement.watch import Log
from metering.settlement.watch import Watch as Told
from metering.settlement.went_back import leave_stale_windows
from metering.settlement.worker_watch import Watch
from metering.tolerances import Tolerances


class Upkeep:
    """The worker's housekeeping. Lanes call it in turn; one writes to the ledger at a time."""

    def __init__(
        self,
        ledger: Ledger,
        redis: Redis,
        keys: RedisKeys,
        *,
        rules: Rules,
        timing: Timing,
        marks: Marks,
        tolerances: Tolerances,
        writing: asyncio.Lock,
        one_ledger: OneLedger,
        confirming: Confirming,
        log: Log,
        told: Told,
    ) -> None:
        self._ledger = ledger
        self._redis = redis
        self._keys = keys
        self._rules = rules
        self._timing = timing
        self._writing = writing
        self._one_ledger = one_ledger
        self._confirming = confirming
        self._log = log
        self._told = told
        self._summing = Summing(ledger)
        self._reaper = Reaper(ledger, redis, keys, timing=timing, writing=writing, log=log)
        self._drift = DriftWatch(ledger, redis, keys, writing=writing, every_s=timing.drift_every_s)
        self._scopes = ScopeWatch(ledger, redis, keys, rules, writing=writing)
        self._notes = Notes(ledger, redis, keys, writing=writing, log=log)
        self._watch = Watch(ledger, redis, keys, marks=marks, writing=writing, log=log)
        self._anomalies = AnomalyWatch(
            ledger, redis, keys, tolerances=tolerances, writing=writing, log=log, told=told
        )
        self.credits = CreditWatch(
            ledger, redis, keys, rules=rules, writing=writing, log=log, told=told
        )
        self._watch_at_s = 0.0
        self._look_at_s: dict[tuple[int, ...], float] = {}
        self._new_at_s: dict[tuple[int, ...], float] = {}
        self._pruned: set[int] = set()

    def adopt(self, rules: Rules, marks: Marks, tolerances: Tolerances) -> None:
        """Go by these from the next turn on. New windows are built then, not at the next round."""
        self._rules = self._scopes.rules = rules
        self._watch.adopt(marks)
        self._anomalies.adopt(tolerances)
        self._new_at_s.clear()
        self._pruned.clear()  # a window that goes counts no longer: it must not come back as whole

    async def run(self, reader: StreamReader) -> None:
        """One turn, for the shards of this reader."""
        await reader.speak()
        await self.rebuild_windows(reader)
        if recovered := await self._reaper.turn(reader, now_s=monotonic_s()):
            self._told.recovered(recovered)
        await self._keep_ledger(reader)
        await self._anomalies.turn(reader.shards, now_ns=now_ns())
        await self._build_new(reader)
        await self.credits.turn(reader)
        await self._notes.read(reader.shards)
        await self._compare(reader)
        if monotonic_s() >= self._watch_at_s:
            self._watch_at_s = monotonic_s() + self._timing.watch_every_s
            await self._watch.look()
            if gone := await reader.retire_consumers(idle_ms=self._timing.consumer_gone_ms):
                self._log.info("consumers_removed", consumers=gone)

    async def _compare(self, reader: StreamReader) -> None:
        """Windows and ledger: suspects are looked at in each turn, new ones sought in rounds."""
        repaired = await self._drift.judge(reader)
        if repaired:
            self._log.warning("windows_repaired", buckets=len(repaired))
            self._told.repaired(len(repaired))
        await self._drift.look(reader)
        if monotonic_s() >= self._look_at_s.get(reader.shards, 0.0):
            self._look_at_s[reader.shards] = monotonic_s() + self._timing.drift_every_s
            if drifted := await self._scopes.look(reader):
                self._log.warning("windows_repaired", buckets=len(drifted))
                self._told.repaired(len(drifted))
            if pruned := await reader.prune_tries():
                self._log.info("tries_pruned", entries=pruned)

    async def _build_new(self, reader: StreamReader) -> None:
        """What the configuration names for the first time starts with what the ledger knows."""
        for shard in reader.shards:
            if shard not in self._pruned:
                self._pruned.add(shard)
                await forget_windows(self._redis, self._keys, self._rules, shard)
        if monotonic_s() < self._new_at_s.get(reader.shards, 0.0):
            return
        args = self._ledger, reader, self._redis, self._keys, self._rules
        if built := await build_new_windows(*args):
            self._log.info("windows_built", windows=built)
        self._new_at_s[reader.shards] = monotonic_s() + self._timing.watch_every_s

    async def _keep_ledger(self, reader: StreamReader) -> None:
        await self._one_ledger.need(reader.shards)
        await self._confirming.say_what_is_owed(reader)
        async with self._writing:
            await asyncio.to_thread(self._summing.update_beside_rollups)
        async with self._writing:
            await asyncio.to_thread(update_rollups, self._ledger)
        async with self._writing:  # in turns: a ledger that was migrated has years to be summed
            await asyncio.to_thread(self._summing.update)
        await self.read_what_is_lost(reader)
        settled = await asyncio.to_thread(settled_positions, self._ledger)
        await reader.trim(settled, keep_ms=self._timing.keep_ms)

    async def read_what_is_lost(self, reader: StreamReader) -> None:
        """Have the streams read again where the ledger lacks what was acknowledged."""
        await reread_lost(self._ledger, self._redis, self._keys, reader.shards, log=self._log)

    async def rebuild_windows(self, reader: StreamReader) -> None:
        """Give a Redis that lost them its windows back; an older copy of it has lost some, too."""
        shards = reader.shards  # a shard whose Redis is away must not stop the others
        await leave_stale_windows(
            self._ledger, self._redis, self._keys, shards, writing=self._writing, log=self._log
        )
        await self._wait_for_spools(reader)
        async with self._writing:
            rebuilt = await rebuild_windows(
                self._ledger, self._redis, self._keys, self._rules, shards=shards
            )
        if rebuilt:
            self._log.info("windows_rebuilt", shards=list(rebuilt))

    async def _wait_for_spools(self, reader: StreamReader) -> None:
        """Let proxies send again what only they have, or windows would be whole without it.

        What they send before the rebuild counts once, what comes after it may count twice. They are
        told first what the ledger has: of what is on disk they send the rest.
        """
        epochs = [self._keys.epoch(shard) for shard in reader.shards]
        if all([await self._redis.exists(epoch) for epoch in epochs]):
            return
        await self._confirming.confirm(reader)
        settled = await asyncio.to_thread(settled_positions, self._ledger)
        if any(position > (0, 0) for position in settled.values()):  # else there is no past
            await asyncio.sleep(self._timing.spools_wait_s)
