"""One Redis is settled into one ledger: whoever has another one must not touch its streams.

Two ledgers on one Redis would each get a part of the events, take the other's part for lost, and
set windows to what a part comes to. So each ledger has an id, made by its first worker, and the
first ledger that settles a Redis is noted there. The note goes away only with what it is about, or
by a person's hand: no worker takes another ledger's place by itself.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

from redis.asyncio import Redis
from sqlalchemy import select

from metering.redis_keys import RedisKeys
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


async def need_this_ledger(ledger: Ledger, redis: Redis, keys: RedisKeys) -> None:
    """Note this ledger in Redis, or find it there; OtherLedgerError when another one is noted."""
    own = await asyncio.to_thread(ledger_id, ledger)
    await redis.hsetnx(keys.meta, FIELD, own)
    raw: Any = await redis.hget(keys.meta, FIELD)
    noted = own if raw is None else raw.decode(errors="replace")
    if noted != own:
        raise OtherLedgerError(
            f"this Redis is settled into another ledger ({noted[:8]}, this one is {own[:8]}), so "
            "nothing is settled here: give every worker the same `ledger.url`, or this "
            "installation a `redis.prefix` of its own; should this ledger take the other's place, "
            f"stop the other's workers, run `redis-cli HDEL {keys.meta} {FIELD}` and start this "
            "one again"
        )
