"""Gives Redis the windows that the ledger knows of: all of a shard that lost them, or new ones.

A shard without its epoch key admits nobody until every window of every scope is what was committed,
by Redis' own time of the commit: events the ledger has and events still in the stream, each once.
A cap that is new in the configuration counts from its first exchange on and admits meanwhile; what
was spent before is added as soon as the worker sees the cap. What a window is noted under
(`RedisKeys.windows`) lies in the same slot as the window, so one is not lost without the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis

from metering.redis_keys import RedisKeys
from metering.settlement.counting import DAILY, NO_RULES, Rules, Series
from metering.settlement.ledger.store import Ledger
from metering.settlement.recount import Place, Recount, settled_id
from metering.settlement.redis_stream import StreamReader

_TOGETHER = 64
"""Windows written in one round trip."""

_TRIES_MAX = 200
"""Round trips in a row in which a commit was faster: then a new cap waits for the next turn."""


async def rebuild_windows(
    ledger: Ledger,
    redis: Redis,
    keys: RedisKeys,
    rules: Rules = NO_RULES,
    *,
    shards: Iterable[int] | None = None,
) -> tuple[int, ...]:
    """Restore every shard (of these, or of all) whose epoch is missing, then set it; which they
    were.

    Commits may go on meanwhile: a window is written only while the stream holds nothing that was
    not counted, in one script. Two workers doing this at once write the same.
    """
    rebuilt = []
    for shard in range(keys.shards) if shards is None else shards:
        if not await redis.exists(keys.epoch(shard)):
            await _rebuild_shard(ledger, redis, keys, rules, shard)
            rebuilt.append(shard)
    return tuple(rebuilt)


async def build_new_windows(
    ledger: Ledger, reader: StreamReader, redis: Redis, keys: RedisKeys, rules: Rules
) -> int:
    """Bring windows that the configuration names since lately up to what the ledger knows; how many
    kinds of window of how many tenants these were, together.

    Nothing is done for a shard that is to be rebuilt. Rates are left: they are whole by themselves
    sooner than they are looked at.
    """
    built = 0
    for shard in reader.shards:
        marks = _marks(rules, keys, shard)
        if not marks or not await redis.exists(keys.epoch(shard)):
            continue
        values: Any = await redis.hmget(keys.windows(shard), list(marks))
        missing = [name for name, value in zip(marks, values, strict=True) if value is None]
        if not missing:
            continue
        wanted: dict[Series, list[str]] = {}
        for name in missing:
            tenant, series = marks[name]
            wanted.setdefault(series, []).append(tenant)
        now_ms = await _now_ms(redis)
        begin = await settled_id(reader, redis, keys.stream(shard), shard)
        recount = Recount(ledger, redis, keys, shard, rules, wanted, now_ms, last_id=begin)
        await recount.run()
        if await _restore(recount, tries_max=_TRIES_MAX):
            await redis.hset(keys.windows(shard), mapping=dict.fromkeys(missing, str(now_ms)))
            built += len(missing)
    return built


async def forget_windows(redis: Redis, keys: RedisKeys, rules: Rules, shard: int) -> list[str]:
    """Take out the notes of windows that are not configured any more: they count no longer, and
    are to be built anew if they come back."""
    noted: Any = await redis.hkeys(keys.windows(shard))
    known = _marks(rules, keys, shard)
    gone = sorted(name for name in (raw.decode() for raw in noted) if name not in known)
    if gone:
        await redis.hdel(keys.windows(shard), *gone)
    return gone


async def built_series(
    redis: Redis, keys: RedisKeys, rules: Rules, shard: int
) -> dict[Series, list[str]]:
    """The windows that are whole, and the tenants for whom they are."""
    marks = _marks(rules, keys, shard)
    if not marks:
        return {}
    values: Any = await redis.hmget(keys.windows(shard), list(marks))
    found: dict[Series, list[str]] = {}
    for (tenant, series), value in zip(marks.values(), values, strict=True):
        if value is not None and tenant not in found.setdefault(series, []):
            found[series].append(tenant)
    return found


def _marks(rules: Rules, keys: RedisKeys, shard: int) -> dict[str, tuple[str, Series]]:
    return {
        name: (tenant, series)
        for tenant in rules.by_tenant
        if keys.shard(tenant) == shard
        for name, series in rules.marks(tenant).items()
    }


async def _rebuild_shard(
    ledger: Ledger, redis: Redis, keys: RedisKeys, rules: Rules, shard: int
) -> None:
    now_ms = await _now_ms(redis)
    tenants = [tenant for tenant in rules.by_tenant if keys.shard(tenant) == shard]
    wanted: Mapping[Series, Sequence[str] | None] = {DAILY: None, **rules.series(tenants)}
    recount = Recount(ledger, redis, keys, shard, rules, wanted, now_ms)
    await recount.run()
    await _restore(recount, tries_max=None)
    if marks := _marks(rules, keys, shard):
        await redis.hset(keys.windows(shard), mapping=dict.fromkeys(marks, str(now_ms)))
    await redis.set(keys.epoch(shard), str(now_ms), nx=True)


async def _restore(recount: Recount, *, tries_max: int | None) -> bool:
    """Write every window that was counted; False when commits were faster too often in a row."""
    script = await asyncio.to_thread(_script)
    restored: set[Place] = set()  # a commit that comes later has added itself to these
    tries = 0
    while left := [place for place in recount.spent if place not in restored]:
        batch = left[:_TOGETHER]
        async with recount.redis.pipeline(transaction=False) as pipeline:
            for place in batch:
                names = recount.key(place), recount.keys.stream(recount.shard)
                pipeline.eval(script, 2, *names, recount.last_id, *recount.arguments(place))
            answers = await pipeline.execute()
        done = [place for place, said in zip(batch, answers, strict=True) if said == b"restored"]
        restored.update(done)
        tries = 0 if done else tries + 1
        if len(done) < len(batch):
            if tries_max is not None and tries >= tries_max:
                return False
            await recount.catch_up()
    return True


async def _now_ms(redis: Redis) -> int:
    seconds, microseconds = await redis.time()
    return int(seconds) * 1_000 + int(microseconds) // 1_000


def _script() -> str:
    return files("metering").joinpath("lua", "restore.lua").read_text(encoding="utf-8")
