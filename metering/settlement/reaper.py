"""The reaper: records what exchanges have used whose process died before it could say so.

Rules:
- A hold is recovered `recover_after_s` after it lapsed and not before: a proxy that lives replays
  its spool and renews its holds within that time, and its word is the better one.
- The same time passes after this worker has begun to look, or begun again after a pause: when
  Redis comes back from an outage, every hold has lapsed and every proxy is about to speak.
- A record that cannot be read is put aside as recovered without an event, and said: it stops no
  other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from redis.asyncio import Redis

from metering.caps import Vector
from metering.caps_model import require_amounts
from metering.recovery import LostHold, Recovery, recovery
from metering.redis_keys import RedisKeys
from metering.redis_recovery import RedisRecovery
from metering.scripts import Script
from metering.settlement.timing import Timing

LOST_MAX = 256
"""Holds recovered per shard and turn: after a mass crash, events are settled in between."""


class Log(Protocol):
    """What the reaper needs of a logger."""

    def warning(self, event: str, **values: Any) -> Any:
        """Say that something should be looked at."""


class Reaper:
    """Looks for lost holds, as often as it is asked to."""

    def __init__(self, redis: Redis, keys: RedisKeys, *, timing: Timing, log: Log) -> None:
        self._holds = RedisRecovery(WorkerRunner(redis), keys)
        self._timing = timing
        self._log = log
        self._looking: dict[tuple[int, ...], tuple[float, float]] = {}
        """Per set of shards, since when it is looked at without a pause, and when it last was."""

    async def turn(self, shards: Sequence[int], *, now_s: float) -> int:
        """Recover what is lost in these shards; how many exchanges. `now_s` is monotonic."""
        if not self._has_looked_for_long(tuple(shards), now_s):
            return 0
        recovered = 0
        grace_ms = int(self._timing.recover_after_s * 1_000)
        for shard in shards:
            for lost in await self._holds.lost(shard, grace_ms=grace_ms, limit=LOST_MAX):
                made = self._made(lost)
                if await self._holds.recover(lost, made, grace_ms=grace_ms):
                    recovered += 1
                    self._log.warning(
                        "exchange_recovered",
                        tenant=lost.hold.tenant,
                        exchange_id=lost.hold.exchange_id,
                        proxy_id=lost.owner,
                        events=len(made.events),
                        sell_nano=made.actual.nano,
                    )
        return recovered

    def _has_looked_for_long(self, shards: tuple[int, ...], now_s: float) -> bool:
        wait_s = self._timing.recover_after_s
        since_s, last_s = self._looking.get(shards, (now_s, now_s))
        if now_s - last_s > wait_s / 2:  # Redis was away, or we were
            since_s = now_s
        self._looking[shards] = (since_s, now_s)
        return now_s - since_s >= wait_s

    def _made(self, lost: LostHold) -> Recovery:
        try:
            made = recovery(lost)
            require_amounts(made.actual)
        except ValueError as error:
            self._log.warning(
                "exchange_lost",
                tenant=lost.hold.tenant,
                exchange_id=lost.hold.exchange_id,
                cause=str(error),
            )
            return Recovery(Vector(), (), ())
        return made


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
