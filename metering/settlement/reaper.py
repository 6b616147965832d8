"""The reaper: records what exchanges have used whose process died before it could say so.

Rules:
- A hold is recovered `recover_after_s` after it lapsed and not before: a proxy that lives replays
  its spool and renews its holds within that time, and its word is the better one.
- The same time passes after this worker has begun to look, or begun again after a pause: when
  Redis comes back from an outage, every hold has lapsed and every proxy is about to speak.
- A Redis that went back in time brings ended holds back. So the ledger is asked first, once the
  shard's stream is settled up to when the hold was due: what has a true event is not recovered.
- A record that cannot be read stops no other, and is not dropped: one of a newer version waits for
  an upgrade; then it is a dead letter, like one that nobody can ever read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from redis.asyncio import Redis

from metering.caps import Vector
from metering.caps_model import require_amounts
from metering.clock import now_ns
from metering.events import UnknownSchemaError
from metering.recovery import LostHold, Recovery, occurred_at, recovery
from metering.redis_keys import RedisKeys
from metering.redis_recovery import RedisRecovery, UnreadableHold
from metering.scripts import Script
from metering.settlement.ledger.dead_letters import LostRecord, keep_hold
from metering.settlement.ledger.exchanges import Exchange, booked_exchanges
from metering.settlement.ledger.store import Ledger
from metering.settlement.redis_stream import StreamReader
from metering.settlement.timing import Timing

LOST_MAX = 256
"""Holds recovered per shard and turn: after a mass crash, events are settled in between."""


_NOTHING = Recovery(Vector(), (), ())


class Log(Protocol):
    """What the reaper needs of a logger."""

    def warning(self, event: str, **values: Any) -> Any:
        """Say that something should be looked at."""


class Reaper:
    """Looks for lost holds, as often as it is asked to."""

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
        self._holds = RedisRecovery(WorkerRunner(redis), keys)
        self._timing = timing
        self._grace_ms = int(timing.recover_after_s * 1_000)
        self._writing = writing
        self._log = log
        self._looking: dict[tuple[int, ...], tuple[float, float]] = {}
        """Per set of shards, since when it is looked at without a pause, and when it last was."""
        self._newer: dict[str, float] = {}
        """Exchanges whose record waits for an upgrade, since when."""

    async def turn(self, reader: StreamReader, *, now_s: float) -> int:
        """Recover what is lost in the reader's shards; how many exchanges. `now_s` is monotonic."""
        if not self._has_looked_for_long(reader.shards, now_s):
            return 0
        recovered = 0
        for shard in reader.shards:
            found = await self._holds.lost(shard, grace_ms=self._grace_ms, limit=LOST_MAX)
            if not found:
                continue
            lost = [one for one in found if isinstance(one, LostHold)]
            settled_ms = await reader.settled_before_ms(shard)  # after the records were read
            if settled_ms is not None:
                lost = [one for one in lost if one.expires_ms + self._grace_ms < settled_ms]
            recovered += await self._recover(shard, lost, now_s)
            for hold in found:
                if isinstance(hold, UnreadableHold):
                    record = LostRecord(hold.exchange_id, hold.raw, hold.reason)
                    tenant = hold.tenant
                    if await self._keep(shard, tenant, record, newer=hold.is_newer, now_s=now_s):
                        await self._holds.put_aside(hold)
        return recovered

    def _has_looked_for_long(self, shards: tuple[int, ...], now_s: float) -> bool:
        wait_s = self._timing.recover_after_s
        since_s, last_s = self._looking.get(shards, (now_s, now_s))
        if now_s - last_s > wait_s / 2:  # Redis was away, or we were
            since_s = now_s
        self._looking[shards] = (since_s, now_s)
        return now_s - since_s >= wait_s

    async def _recover(self, shard: int, lost: Sequence[LostHold], now_s: float) -> int:
        known = await asyncio.to_thread(self._booked, lost)
        recovered = 0
        for one in lost:
            if one.hold.exchange_id in known:
                if await self._holds.recover(one, _NOTHING, grace_ms=self._grace_ms):
                    self._say("exchange_already_booked", one)
                continue
            try:
                made = recovery(one)
                require_amounts(made.actual)
            except ValueError as error:
                record = LostRecord(one.hold.exchange_id, one.raw, str(error))
                newer = isinstance(error, UnknownSchemaError)
                if await self._keep(shard, one.hold.tenant, record, newer=newer, now_s=now_s):
                    await self._holds.recover(one, _NOTHING, grace_ms=self._grace_ms)
                continue
            if await self._holds.recover(one, made, grace_ms=self._grace_ms):
                recovered += 1
                self._say(
                    "exchange_recovered", one, events=len(made.events), sell_nano=made.actual.nano
                )
        return recovered

    def _booked(self, lost: Sequence[LostHold]) -> set[str]:
        """The exchanges of which the ledger has a true event."""
        exchanges = [
            Exchange(one.hold.tenant, at, one.hold.exchange_id)
            for one in lost
            if (at := occurred_at(one)) is not None
        ]
        return booked_exchanges(self._ledger, exchanges)

    async def _keep(
        self, shard: int, tenant: str, lost: LostRecord, *, newer: bool, now_s: float
    ) -> bool:
        """Put a record that cannot be recovered into the ledger; False while it is to wait."""
        if newer:
            wait_s = self._timing.newer_wait_s
            if lost.exchange_id not in self._newer:
                old = [name for name, at_s in self._newer.items() if now_s - at_s > 2 * wait_s]
                for name in old:  # somebody else has seen to these
                    del self._newer[name]
                self._newer[lost.exchange_id] = now_s
                self._warn("recovery_waits_for_schema", tenant, lost)
            if now_s - self._newer[lost.exchange_id] < wait_s:
                await self._holds.postpone(tenant, lost.exchange_id)
                return False
            del self._newer[lost.exchange_id]
        async with self._writing:
            await asyncio.to_thread(keep_hold, self._ledger, shard, lost, now_ns=now_ns())
        self._warn("exchange_lost", tenant, lost)
        return True

    def _warn(self, event: str, tenant: str, lost: LostRecord) -> None:
        self._log.warning(event, tenant=tenant, exchange_id=lost.exchange_id, cause=lost.reason)

    def _say(self, event: str, lost: LostHold, **values: int) -> None:
        hold = lost.hold
        self._log.warning(
            event,
            tenant=hold.tenant,
            exchange_id=hold.exchange_id,
            proxy_id=lost.owner,
            **values,
        )


class WorkerRunner:
    """The worker's client as a `ScriptRunner`; errors are those of the client."""

    generation = 0
    """Nothing is kept here that another server could have lost."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def call(self, *args: str | bytes | int) -> Any:
        """Run one command."""
        execute: Any = self._redis.execute_command  # which is not typed
        return await execute(*args)

    async def call_each(self, *args: str | bytes | int) -> list[Any]:
        """Run it once: nothing here is a question to each server."""
        return [await self.call(*args)]

    async def eval(
        self, script: Script, keys: Sequence[str], args: Sequence[str | bytes | int]
    ) -> Any:
        """Run a script, sent whole: it is rare. Without flags every version takes it."""
        return await self._redis.eval(script.plain.text, len(keys), *keys, *args)
