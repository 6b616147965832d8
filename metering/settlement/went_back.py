"""Finds out that Redis is an older copy of itself, and has its windows made anew.

That happens after a power cut, a failover to a replica that was behind, or a copy put in its place:
the epoch says that the windows are whole, and they lack what was spent since. Rules:

- Before a batch goes to the ledger, the newest stream id of it is noted in the shard's slot. The
  note only grows, so a note behind the ledger was lost: this Redis went back.
- A note ahead of the ledger says nothing: a worker died in between, or is just writing.
- A note that is there came after all it covers, which therefore is there, too. What was added to
  the stream since proves nothing, and is not looked at.
- What is found takes the epoch away and moves the note, in one script: so each time is found once,
  by whichever worker looks first, and a crash later only leaves a shard that is to be rebuilt.
- Whoever moves the note on looks first, so that settling does not hide it. The ledger is read just
  before the note: only another worker's batch that ends in between, with Redis going back in the
  same moment, is missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files

from redis.asyncio import Redis

from metering.clock import now_ns
from metering.redis_keys import RedisKeys
from metering.settlement.ledger.outbox import put_alerts
from metering.settlement.ledger.standing import settled_positions
from metering.settlement.ledger.store import Ledger
from metering.settlement.watch import Log

Position = tuple[int, int]
"""The two halves of a stream id."""


async def leave_stale_windows(
    ledger: Ledger,
    redis: Redis,
    keys: RedisKeys,
    shards: Iterable[int],
    *,
    settling: Mapping[int, Position] | None = None,
    writing: asyncio.Lock,
    log: Log,
) -> tuple[int, ...]:
    """Take the epoch of every shard that went back; those shards. Said in the log and an alert.

    `settling` has, by shard, the newest id that the caller is about to settle: it is noted.
    """
    settling = settling or {}
    settled = await asyncio.to_thread(settled_positions, ledger)
    known = [shard for shard in shards if shard in settled or shard in settling]
    async with redis.pipeline(transaction=False) as pipeline:
        for shard in known:
            at = settled.get(shard, (0, 0))
            positions = map(str, (*at, *settling.get(shard, at)))
            pipeline.eval(_script(), 2, keys.epoch(shard), keys.settled(shard), *positions)
        notes = await pipeline.execute()
    back = {
        shard: note.decode() for shard, note in zip(known, notes, strict=True) if note is not None
    }
    if not back:
        return ()
    log.warning("redis_went_back", shards=list(back))
    first = next(iter(back))
    key = f"redis_went_back:{first}:{now_ns() // 1_000_000}"  # each time is found once
    body = {
        "shards": list(back),
        "noted_ids": list(back.values()),
        "settled_ids": ["{}-{}".format(*settled[shard]) for shard in back],
    }

    def write() -> None:
        with ledger.write() as connection:
            put_alerts(connection, [(key, body)], now_ns())

    async with writing:
        await asyncio.to_thread(write)
    return tuple(back)


@cache
def _script() -> str:
    return files("metering").joinpath("lua", "went_back.lua").read_text(encoding="utf-8")
