"""Compares the rolling day of tenants in Redis with the ledger, and puts Redis right.

The other windows are `redis_scope_drift`'s. Shell around `drift`. Rules: the ledger is right, for
every event in it came with its bytes; an alert is on disk before anything is changed; a bucket is
changed only while it still has the amounts that were compared. A bucket of which some event waits
as a dead letter or stands as a conflict is left as it is: Redis counted what the ledger does not
have yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    literal_column,
    select,
)

from metering.caps import ROLLING_DAY
from metering.clock import monotonic_s, now_ns
from metering.events import RECOVERED, Kind
from metering.redis_keys import RedisKeys
from metering.scope_names import scope_text
from metering.settlement.counting import TENANT, keep_ms
from metering.settlement.drift import (
    Amounts,
    Drift,
    Place,
    buckets_of_turn,
    compare,
)
from metering.settlement.ledger.outbox import put_alerts
from metering.settlement.ledger.spending import doubtful_times, measures
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.tables import balance, usage_event
from metering.settlement.redis_stream import StreamReader

TENANTS_MAX = 100
"""Tenants of a shard that one look compares; the others follow in the next looks, and only when all
had their turn the next round begins."""

LOOK_S = 0.5
"""No further shard is begun after so long: the lane settles nothing meanwhile."""

REST = 10.0
"""After a look, as many times as long as it took: with many tenants looks follow each other."""

_LABEL, _BUCKET_MS = ROLLING_DAY.label, ROLLING_DAY.bucket_ms


@dataclass(slots=True)
class _Shard:
    """Where the looks at a shard stand."""

    turn: int
    round_at_s: float = 0.0
    """When the next round may begin."""
    left: list[str] = field(default_factory=list)
    """Tenants that this round has not come to."""
    suspects: list[Drift] = field(default_factory=list)
    seen_ms: int = 0
    """Redis' time before the suspects were read."""


class DriftWatch:
    """Looks at a part of the windows each time it is asked."""

    def __init__(
        self,
        ledger: Ledger,
        redis: Redis,
        keys: RedisKeys,
        *,
        writing: asyncio.Lock,
        every_s: float = 0.0,
        rest: float = REST,
    ) -> None:
        """A round begins at most every `every_s`, and takes as many looks as it needs."""
        self._ledger = ledger
        self._redis = redis
        self._keys = keys
        self._writing = writing
        self._every_s = every_s
        self._rest = rest
        self._shards: dict[int, _Shard] = {}
        self._rest_until_s: dict[tuple[int, ...], float] = {}

    async def look(self, reader: StreamReader) -> None:
        """Compare the next tenants of each of the reader's shards; differences become suspects.

        All tenants have the same slice of old buckets compared before the next one is begun.
        """
        began_s = monotonic_s()
        if began_s < self._rest_until_s.get(reader.shards, 0.0):
            return
        now_ms = await self._now_ms()
        await self._begin_rounds(reader.shards, now_ms)
        # Those that had a look least lately first: there may be no time for all of them.
        for shard in sorted(reader.shards, key=lambda each: self._shards[each].seen_ms):
            state = self._shards[shard]
            if state.suspects or not state.left:
                continue
            if not await self._redis.exists(self._keys.epoch(shard)):
                continue  # its windows are about to be rebuilt
            now_ms = await self._now_ms()
            chosen = state.left[:TENANTS_MAX]
            buckets = buckets_of_turn(
                state.turn, newest=now_ms // _BUCKET_MS, buckets=ROLLING_DAY.buckets
            )
            places = [(tenant, bucket) for tenant in chosen for bucket in buckets]
            state.suspects = await self._compare(reader, shard, places, now_ms)
            state.seen_ms = now_ms
            del state.left[: len(chosen)]  # not before: a look that failed is made again
            if monotonic_s() - began_s > LOOK_S:
                break
        took_s = monotonic_s() - began_s
        self._rest_until_s[reader.shards] = monotonic_s() + self._rest * took_s

    async def _begin_rounds(self, shards: Iterable[int], now_ms: int) -> None:
        """Whose round is over, and its time has come, begins the next one."""
        due: list[int] = []
        for shard in shards:
            # Another slice after each start: a worker that is often started anew sees them all.
            state = self._shards.setdefault(shard, _Shard(now_ms // _BUCKET_MS))
            if not state.left and not state.suspects and monotonic_s() >= state.round_at_s:
                due.append(shard)
        if not due:
            return
        tenants = await asyncio.to_thread(self._tenants)
        for shard in due:
            state = self._shards[shard]
            state.turn += 1
            state.left = tenants.get(shard, [])
            state.round_at_s = monotonic_s() + self._every_s

    async def judge(self, reader: StreamReader) -> list[Drift]:
        """Look at the suspects once more and repair those that are the same; which these were."""
        repaired: list[Drift] = []
        for shard in reader.shards:
            state = self._shards.get(shard)
            if state is None or not state.suspects:
                continue
            before_ms = await reader.settled_before_ms(shard)
            if before_ms is not None and before_ms <= state.seen_ms:
                continue  # what was on its way at the first look still is
            suspects, state.suspects = state.suspects, []
            places = [each.place for each in suspects]
            again = await self._compare(reader, shard, places, await self._now_ms())
            drifted = [each for each in again if each in suspects]
            await self._alert(drifted)
            repaired += [each for each in drifted if await self._repair(each)]
        return repaired

    async def _compare(
        self, reader: StreamReader, shard: int, places: Sequence[Place], now_ms: int
    ) -> list[Drift]:
        """The closed places that differ, as far as everything in them is settled."""
        before_ms = await reader.settled_before_ms(shard)
        through_ms = now_ms if before_ms is None else before_ms
        ready = [place for place in places if (place[1] + 1) * _BUCKET_MS <= through_ms]
        if not ready:
            return []
        in_redis = await self._read_redis(ready)  # first: what the ledger gets later is no drift
        in_ledger, doubtful = await asyncio.to_thread(self._read_ledger, shard, ready)
        certain = [place for place in ready if place[1] not in doubtful]
        return compare(certain, in_redis, in_ledger)

    async def _read_redis(self, places: Sequence[Place]) -> dict[Place, Amounts]:
        buckets: dict[str, list[int]] = {}
        for tenant, bucket in places:
            buckets.setdefault(tenant, []).append(bucket)
        async with self._redis.pipeline(transaction=False) as pipeline:
            for tenant, wanted in buckets.items():
                names = [name for bucket in wanted for name in _fields(bucket)]
                pipeline.hmget(self._keys.scope(tenant, TENANT), names)
            answers = await pipeline.execute()
        found: dict[Place, Amounts] = {}
        for (tenant, wanted), values in zip(buckets.items(), answers, strict=True):
            for at, bucket in enumerate(wanted):
                nano, tokens, requests = (int(value or 0) for value in values[3 * at : 3 * at + 3])
                found[tenant, bucket] = (nano, tokens, requests)
        return found

    def _read_ledger(
        self, shard: int, places: Sequence[Place]
    ) -> tuple[dict[Place, Amounts], set[int]]:
        tenants = sorted({tenant for tenant, _ in places})
        found: dict[Place, list[int]] = {}
        with self._ledger.read() as connection:
            for first, last in _runs({bucket for _, bucket in places}):
                for row in _sums(connection, shard, tenants, first, last):
                    sums = found.setdefault((row.tenant, int(row.bucket)), [0, 0, 0])
                    for at, amount in enumerate((row.nano, row.tokens, row.requests)):
                        sums[at] += int(amount)
            since_ms = min(bucket for _, bucket in places) * _BUCKET_MS
            times = doubtful_times(connection, shard, since_ms)
        doubtful = {at_ms // _BUCKET_MS for at_ms in times}
        amounts = {place: (sums[0], sums[1], sums[2]) for place, sums in found.items()}
        return amounts, doubtful

    def _tenants(self) -> dict[int, list[str]]:
        """All that the ledger knows, by shard."""
        found: dict[int, list[str]] = {}
        query = select(balance.c.tenant).distinct().order_by(balance.c.tenant)
        with self._ledger.read() as connection:
            for name in connection.execute(query).scalars():
                found.setdefault(self._keys.shard(name), []).append(name)
        return found

    async def _alert(self, drifted: Iterable[Drift]) -> None:
        alerts = [
            (
                each.key,
                {
                    "tenant": each.tenant,
                    "scope": scope_text(TENANT, each.tenant),
                    "window": _LABEL,
                    "bucket": each.bucket,
                    "bucket_start_ms": each.bucket * _BUCKET_MS,
                    "redis": dict(zip(_NAMES, each.in_redis, strict=True)),
                    "ledger": dict(zip(_NAMES, each.in_ledger, strict=True)),
                },
            )
            for each in drifted
        ]
        if not alerts:
            return

        def write() -> None:
            with self._ledger.write() as connection:
                put_alerts(connection, alerts, now_ns())

        async with self._writing:
            await asyncio.to_thread(write)

    async def _repair(self, drift: Drift) -> bool:
        script = files("metering").joinpath("lua", "repair.lua").read_text(encoding="utf-8")
        amounts = map(str, (*drift.in_redis, *drift.in_ledger))
        head = _LABEL, str(keep_ms(ROLLING_DAY, 0)), str(drift.bucket)
        scope = self._keys.scope(drift.tenant, TENANT)
        answer: Any = await self._redis.eval(script, 1, scope, *head, *amounts)
        return bool(answer == b"repaired")

    async def _now_ms(self) -> int:
        seconds, microseconds = await self._redis.time()
        return int(seconds) * 1_000 + int(microseconds) // 1_000


_NAMES = ("nano", "tokens", "requests")


def _fields(bucket: int) -> list[str]:
    return [f"{_LABEL}:{bucket}:{dimension}" for dimension in "ntr"]


def _runs(buckets: Iterable[int]) -> list[tuple[int, int]]:
    """Buckets in a row as (first, last): a range is one question to the index."""
    runs: list[tuple[int, int]] = []
    for bucket in sorted(buckets):
        if runs and bucket == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], bucket)
        else:
            runs.append((bucket, bucket))
    return runs


def _sums(
    connection: Connection, shard: int, tenants: Sequence[str], first: int, last: int
) -> list[Any]:
    """By tenant and bucket what was used, then what was taken back from the same buckets.

    In Redis only recovered events are taken back, from the bucket where they stand, whenever the
    correction comes. Corrections of other events concern the books alone.
    """
    event, correction = usage_event.alias("event"), usage_event.alias("correction")
    at = [
        event.c.shard == shard,
        event.c.stream_ms >= first * _BUCKET_MS,
        event.c.stream_ms < (last + 1) * _BUCKET_MS,
        event.c.tenant.in_(tenants),
    ]
    bucket = _bucket(event.c.stream_ms)
    used = (
        select(event.c.tenant, bucket.label("bucket"), *measures(event, sign=1))
        .where(*at, event.c.kind != Kind.CORRECTION)
        .group_by(event.c.tenant, bucket)
    )
    corrected = (
        select(event.c.tenant, bucket.label("bucket"), *measures(correction, sign=-1))
        .join(correction, correction.c.corrects == event.c.event_id)
        .where(
            *at,
            event.c.usage_source == RECOVERED,
            correction.c.corrects.is_not(None),
        )
        .group_by(event.c.tenant, bucket)
    )
    return [*connection.execute(used), *connection.execute(corrected)]


def _bucket(stream_ms: ColumnElement[int]) -> ColumnElement[int]:
    length: ColumnElement[int] = literal_column(str(_BUCKET_MS), BigInteger)
    return stream_ms // length  # no parameter: PostgreSQL would take GROUP BY's for another one
