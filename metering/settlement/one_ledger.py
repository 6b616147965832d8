"""One Redis is settled into one ledger: whoever has another one must not touch its streams.

Two ledgers on one Redis would each get a part of the events, take the other's part for lost, and
set windows to what a part comes to. So each ledger has an id, made by its first worker, and the
first ledger that settles a Redis is noted there. The note goes away only with what it is about, or
by a person's hand: no worker takes another ledger's place by itself.

In a Cluster the node with that note can be away while others are there. So each shard has a copy,
written by whoever was just told that it is so. A worker that was told so once in its life goes by
the copy for as long as the note cannot be read; one that has just started, or that finds no copy or
another one (the data is not what it was), waits.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from sqlalchemy import select

from metering.redis_keys import RedisKeys
from metering.settlement.common_keys import AwayError, CommonKeys
from metering.settlement.ledger.faults import OtherLedgerError
from metering.settlement.ledger.store import Ledger, keep_rows
from metering.settlement.ledger.tables import ledger_identity

FIELD = "ledger"
"""Of the hash `RedisKeys.meta`."""


def ledger_id(ledger: Ledger) -> str:
    """The ledger's id; made now where it has none, and the same for all who ask."""
    query = select(ledger_identity.c.id)
    with ledger.read() as connection:
        found = connection.execute(query).scalar()
    if found is not None:
        return str(found)
    with ledger.write() as connection:
        keep_rows(connection, ledger_identity, [{"one": 1, "id": secrets.token_hex(16)}])
        return str(connection.execute(query).scalar_one())


class OneLedger:
    """Asks for all lanes of a worker, as often as they like."""

    def __init__(
        self, ledger: Ledger, redis: Redis, keys: RedisKeys, *, common: CommonKeys
    ) -> None:
        self._ledger = ledger
        self._redis = redis
        self._keys = keys
        self._common = common
        self._told: str | None = None

    async def need(self, shards: Sequence[int]) -> None:
        """OtherLedgerError when these shards are another ledger's; AwayError when nobody knows."""
        own = await asyncio.to_thread(ledger_id, self._ledger)  # somebody may exchange the file
        try:
            await self._common.ask(lambda: need_this_ledger(own, self._redis, self._keys))
        except AwayError:
            if self._told != own or not await self._have_copies(shards, own):
                raise
            return
        self._told = own
        if self._common.is_cluster and not await self._have_copies(shards, own):
            for shard in shards:
                await self._redis.set(self._keys.ledger(shard), own)

    async def _have_copies(self, shards: Sequence[int], own: str) -> bool:
        found = [await self._redis.get(self._keys.ledger(shard)) for shard in shards]
        return all(copy == own.encode() for copy in found)


async def need_this_ledger(own: str, redis: Redis, keys: RedisKeys) -> None:
    """Note this ledger in Redis, or find it there; OtherLedgerError when another one is noted."""
    raw: Any = await redis.hget(keys.meta, FIELD)
    if raw is None:
        await redis.hsetnx(keys.meta, FIELD, own)
        raw = await redis.hget(keys.meta, FIELD)
    noted = own if raw is None else raw.decode(errors="replace")
    if noted != own:
        raise OtherLedgerError(
            f"this Redis is settled into another ledger ({noted[:8]}, this one is {own[:8]}), so "
            "nothing is settled here: give every worker the same `ledger.url`, or this "
            "installation a `redis.prefix` of its own; should this ledger take the other's place, "
            f"stop the other's workers, run `redis-cli HDEL {keys.meta} {FIELD}` and start this "
            "one again"
        )
