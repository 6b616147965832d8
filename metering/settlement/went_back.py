"""Finds out that Redis is an older copy of itself, and has its windows made anew.

That happens after a power cut, a failover to a replica that was behind, or a copy put in its place:
the epoch says that the windows are whole, and they lack what was spent since. Rule: what was
settled had been in the stream, so a stream that ends before the ledger's watermark went back. Its
epoch is taken away, in one script, and the rebuild that follows sets one above the watermark: so
each time is found once, by whichever worker looks first, and a crash in between only leaves a shard
that is to be rebuilt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis

from metering.clock import now_ns
from metering.redis_keys import RedisKeys
from metering.settlement.ledger.outbox import put_alerts
from metering.settlement.ledger.standing import settled_positions
from metering.settlement.ledger.store import Ledger
from metering.settlement.watch import Log


async def leave_stale_windows(
    ledger: Ledger,
    redis: Redis,
    keys: RedisKeys,
    shards: Sequence[int],
    *,
    writing: asyncio.Lock,
    log: Log,
) -> tuple[int, ...]:
    """Take the epoch of every shard that went back; those shards. Said in the log and an alert."""
    settled = await asyncio.to_thread(settled_positions, ledger)
    script = files("metering").joinpath("lua", "went_back.lua").read_text(encoding="utf-8")
    back: dict[int, str] = {}
    for shard in shards:
        if shard not in settled:
            continue
        position = [str(part) for part in settled[shard]]
        names = keys.epoch(shard), keys.stream(shard)
        last: Any = await redis.eval(script, 2, *names, *position)
        if last is not None:
            back[shard] = last.decode()
    if not back:
        return ()
    log.warning("redis_went_back", shards=list(back))
    first = next(iter(back))
    key = f"redis_went_back:{first}:{now_ns() // 1_000_000}"  # each time is found once
    body = {
        "shards": list(back),
        "last_ids": list(back.values()),
        "settled_ids": ["{}-{}".format(*settled[shard]) for shard in back],
    }

    def write() -> None:
        with ledger.write() as connection:
            put_alerts(connection, [(key, body)], now_ns())

    async with writing:
        await asyncio.to_thread(write)
    return tuple(back)
