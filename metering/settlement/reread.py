"""Finds out that the ledger lost what it had acknowledged, and has the streams read again.

That happens when a database goes back in time: a failover to a standby that was behind, a backup
put in the ledger's place. Rule: what was acknowledged had been committed before, so the ledger's
watermark, read afterwards, can only be behind it when commits were lost. Then the shard's stream is
read from its beginning once more. What the ledger still has is a repeat, so nothing is doubled. It
is looked for all the time: a new connection after a failover need not have failed before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from metering.redis_keys import GROUP, RedisKeys
from metering.settlement.ledger.standing import settled_positions
from metering.settlement.ledger.store import Ledger
from metering.settlement.watch import Log

Position = tuple[int, int]


async def reread_lost(
    ledger: Ledger, redis: Redis, keys: RedisKeys, shards: Sequence[int], *, log: Log
) -> tuple[int, ...]:
    """Rewind the group on every stream whose settled entries the ledger has lost; those shards.

    Streams keep settled entries for `keep_ms` only: what is older comes from a backup, or not.
    """
    acknowledged = {shard: await _acknowledged(redis, keys.stream(shard)) for shard in shards}
    settled = await asyncio.to_thread(settled_positions, ledger)
    lost = tuple(
        shard for shard, position in acknowledged.items() if position > settled.get(shard, (0, 0))
    )
    for shard in lost:
        await redis.xgroup_setid(keys.stream(shard), GROUP, "0")
    if lost:
        log.warning("ledger_lost_events", shards=list(lost))
    return lost


async def _acknowledged(redis: Redis, stream: str) -> Position:
    """A position up to which everything delivered was acknowledged, and at which something was.

    With entries pending, only what lies before the oldest of them is sure.
    """
    groups: Any = await redis.xinfo_groups(stream)
    delivered = next(each["last-delivered-id"] for each in groups if _text(each["name"]) == GROUP)
    pending: Any = await redis.xpending(stream, GROUP)
    if not pending["pending"]:
        return _position(delivered)
    before: Any = await redis.xrevrange(stream, max=f"({_text(pending['min'])}", count=1)
    return _position(before[0][0]) if before else (0, 0)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _position(stream_id: bytes | str) -> Position:
    ms, _, n = _text(stream_id).partition("-")
    return int(ms), int(n)
