"""Compares the windows of all scopes in Redis with the ledger, and puts Redis right.

Beside `redis_drift`, which looks at the rolling day of tenants bucket by bucket: here one window of
one kind of scope is counted anew as a whole, at a place of the stream, and read in Redis at the
same place. So there is no guess in a difference, calendar windows can be compared while they count,
and one look is enough. Rules: the ledger is right; an alert is on disk before anything is changed;
a bucket is changed only while it still has the amounts that were compared; buckets of which some
event waits as a dead letter or stands as a conflict are left. Rates are not compared. What took
more than a second rests for fifty times as long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis

from metering.caps import Window
from metering.clock import monotonic_s, now_ns
from metering.redis_keys import RedisKeys
from metering.scope_names import scope_text
from metering.settlement.all_time import AllTime
from metering.settlement.counting import (
    Rules,
    Series,
    bucket_of,
    bucket_start_ms,
    keep_ms,
    name_of,
    oldest_bucket,
)
from metering.settlement.drift import Amounts
from metering.settlement.ledger.outbox import put_alerts
from metering.settlement.ledger.spending import doubtful_times
from metering.settlement.ledger.store import Ledger
from metering.settlement.recount import Place, Recount, settled_id
from metering.settlement.redis_stream import StreamReader
from metering.settlement.redis_windows import built_series

_TOGETHER = 32
"""Scopes read in one script: a window of 30 days has 240 buckets."""

_TRIES = 20
"""Reads in a row in which a commit was faster."""

_REST = 50.0

_NAMES = ("nano", "tokens", "requests")


@dataclass(frozen=True, slots=True)
class ScopeDrift:
    """A bucket of a scope's window that Redis and the ledger remember differently."""

    place: Place
    bucket: int
    in_redis: Amounts
    in_ledger: Amounts

    @property
    def scope(self) -> str:
        """The scope in words: `user:alice`."""
        return scope_text(self.place.scope, self.place.tenant)

    @property
    def key(self) -> str:
        """Names this difference: the same one is said once."""
        numbers = ":".join(map(str, (*self.in_redis, *self.in_ledger)))
        where = f"{self.place.tenant}:{self.scope}:{name_of(self.place.window)}"
        return f"cap_drift:{where}:{self.bucket}:{numbers}"

    def body(self) -> dict[str, Any]:
        """What the alert says."""
        return {
            "tenant": self.place.tenant,
            "scope": self.scope,
            "window": self.place.window.label,
            "bucket": self.bucket,
            "bucket_start_ms": bucket_start_ms(self.place.window, self.bucket),
            "redis": dict(zip(_NAMES, self.in_redis, strict=True)),
            "ledger": dict(zip(_NAMES, self.in_ledger, strict=True)),
        }


class ScopeWatch:
    """Looks at one window of one kind of scope each time it is asked, in turns."""

    def __init__(
        self,
        ledger: Ledger,
        redis: Redis,
        keys: RedisKeys,
        rules: Rules,
        *,
        writing: asyncio.Lock,
        rest: float = _REST,
    ) -> None:
        self._ledger = ledger
        self._redis = redis
        self._keys = keys
        self._rest = rest
        self.rules = rules
        self._writing = writing
        self._turns: dict[int, int] = {}
        self._rest_until_s = 0.0
        self._all_time = AllTime()

    async def look(self, reader: StreamReader) -> list[ScopeDrift]:
        """Compare the next window of each of the reader's shards; what was repaired."""
        repaired: list[ScopeDrift] = []
        for shard in reader.shards:
            began_s = monotonic_s()
            if began_s < self._rest_until_s:
                break
            if not await self._redis.exists(self._keys.epoch(shard)):
                continue  # its windows are about to be rebuilt
            series = await built_series(self._redis, self._keys, self.rules, shard)
            if not series:
                continue
            turn = self._turns.get(shard, 0)
            self._turns[shard] = turn + 1
            chosen = list(series)[turn % len(series)]
            repaired += await self._compare(reader, shard, chosen, series[chosen])
            took_s = monotonic_s() - began_s
            if took_s > 1.0:  # a short look needs no rest
                self._rest_until_s = monotonic_s() + self._rest * took_s
        return repaired

    async def _compare(
        self, reader: StreamReader, shard: int, series: Series, tenants: Sequence[str]
    ) -> list[ScopeDrift]:
        now_ms = await self._now_ms()
        begin = await settled_id(reader, self._redis, self._keys.stream(shard), shard)
        recount = Recount(
            self._ledger,
            self._redis,
            self._keys,
            shard,
            self.rules,
            {series: tenants},
            now_ms,
            all_time=self._all_time,
            last_id=begin,
        )
        await recount.run()
        doubtful = await asyncio.to_thread(self._doubtful, shard, series, now_ms)
        repaired: list[ScopeDrift] = []
        places = list(recount.spent)
        for start in range(0, len(places), _TOGETHER):
            batch = places[start : start + _TOGETHER]
            found = await self._read(recount, batch)
            read_ms = await self._now_ms()  # what left the window since, Redis may have dropped
            drifted = [
                each
                for place, fields in zip(batch, found, strict=False)
                for each in differences(place, fields, recount.spent[place], now_ms=read_ms)
                if each.bucket not in doubtful
            ]
            await self._alert(drifted)
            repaired += [each for each in drifted if await self._repair(each, now_ms)]
        return repaired

    async def _read(self, recount: Recount, places: Sequence[Place]) -> list[dict[str, int]]:
        """The fields of these windows where everything is counted; none while commits are faster
        (they come next time)."""
        script = files("metering").joinpath("lua", "look.lua").read_text(encoding="utf-8")
        names = [recount.keys.stream(recount.shard), *(recount.key(place) for place in places)]
        for _ in range(_TRIES):
            answer: Any = await self._redis.eval(script, len(names), *names, recount.last_id)
            if answer != b"moved":
                return [
                    _window(raw, place.window.label)
                    for place, raw in zip(places, answer, strict=True)
                ]
            await recount.catch_up()
        return []

    async def _now_ms(self) -> int:
        seconds, _ = await self._redis.time()
        return int(seconds) * 1_000

    def _doubtful(self, shard: int, series: Series, now_ms: int) -> set[int]:
        since_ms = bucket_start_ms(series.window, oldest_bucket(series.window, now_ms))
        with self._ledger.read() as connection:
            times = doubtful_times(connection, shard, since_ms)
        return {bucket_of(series.window, at_ms) for at_ms in times}

    async def _alert(self, drifted: Sequence[ScopeDrift]) -> None:
        if not drifted:
            return

        def write() -> None:
            with self._ledger.write() as connection:
                put_alerts(connection, [(each.key, each.body()) for each in drifted], now_ns())

        async with self._writing:
            await asyncio.to_thread(write)

    async def _repair(self, drift: ScopeDrift, now_ms: int) -> bool:
        script = files("metering").joinpath("lua", "repair.lua").read_text(encoding="utf-8")
        window = drift.place.window
        amounts = map(str, (*drift.in_redis, *drift.in_ledger))
        head = window.label, str(keep_ms(window, now_ms)), str(drift.bucket)
        key = self._keys.scope(drift.place.tenant, drift.place.scope)
        answer: Any = await self._redis.eval(script, 1, key, *head, *amounts)
        return bool(answer == b"repaired")


def differences(
    place: Place, fields: dict[str, int], spent: dict[int, list[int]], *, now_ms: int
) -> list[ScopeDrift]:
    """The buckets that differ; `fields` are `<bucket>:<n|t|r>` of this window.

    The oldest bucket may be dropped at any moment, so it is left out where there are others; of a
    calendar window only the period that was counted is looked at. Less than nothing is nothing.
    """
    edge = 2 if isinstance(place.window, Window) else 0
    oldest = oldest_bucket(place.window, now_ms) + edge
    numbers = set(spent) | {int(name.partition(":")[0]) for name in fields}
    found = []
    for bucket in sorted(number for number in numbers if number >= oldest):
        nano, tokens, requests = spent.get(bucket, (0, 0, 0))
        there = (max(nano, 0), max(tokens, 0), max(requests, 0))
        here = tuple(fields.get(f"{bucket}:{dimension}", 0) for dimension in "ntr")
        if here != there:
            found.append(ScopeDrift(place, bucket, (here[0], here[1], here[2]), there))
    return found


def _window(raw: Sequence[bytes], label: str) -> dict[str, int]:
    """The buckets of one window out of a hash, by `<bucket>:<dimension>`."""
    found: dict[str, int] = {}
    for name, value in zip(raw[::2], raw[1::2], strict=True):
        head, _, rest = name.decode().partition(":")
        bucket, _, dimension = rest.partition(":")
        if head == label and bucket.isdigit() and dimension in ("n", "t", "r"):
            found[rest] = int(value)
    return found
