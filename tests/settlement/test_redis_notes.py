"""Notes on their way from Redis to the outbox."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson
import pytest
from fixtures_redis import RedisServer
from fixtures_worker import CollectingLog
from redis.asyncio import Redis
from sqlalchemy import select

from metering.redis_keys import RedisKeys
from metering.settlement.ledger import tables
from metering.settlement.ledger.store import Ledger
from metering.settlement.notes import NoteAlert
from metering.settlement.redis_client import connect
from metering.settlement.redis_notes import Notes

NOTE = {
    "v": 1,
    "kind": "cap_mark",
    "tenant": "acme",
    "scope": "tenant",
    "window": "24h",
    "mark_ppm": 800_000,
    "limit_nano": "10",
    "spent_nano": "8",
    "at_ms": 5,
}


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    client = connect(f"unix://{redis_server.path}")
    yield client
    await client.aclose()


def _notes(ledger: Ledger, redis: Redis, keys: RedisKeys, log: Any = None) -> Notes:
    return Notes(ledger, redis, keys, writing=asyncio.Lock(), log=log or CollectingLog())


def _keys_of(ledger: Ledger) -> list[str]:
    with ledger.read() as connection:
        return list(connection.execute(select(tables.outbox.c.key)).scalars())


async def test_every_note_is_put_away_once(
    redis: Redis, redis_keys: RedisKeys, ledger: Ledger
) -> None:
    stream, notes = redis_keys.notes(3), _notes(ledger, redis, redis_keys)
    ids = [await redis.xadd(stream, {"n": orjson.dumps(NOTE)}) for _ in range(2)]

    assert await notes.read(range(redis_keys.shards)) == 2
    assert await notes.read(range(redis_keys.shards)) == 0

    assert _keys_of(ledger) == [f"cap_mark:acme:3:{each.decode()}" for each in ids]
    assert (await redis.xpending(stream, "notes"))["pending"] == 0


async def test_a_worker_that_dies_before_it_acknowledges_leaves_the_note_to_the_next(
    redis: Redis, redis_keys: RedisKeys, ledger: Ledger
) -> None:
    """Before or after its alert is on disk: it is said once."""

    class Dying(Notes):
        after_write = False

        def _write(self, alerts: Sequence[NoteAlert]) -> None:
            if self.after_write:
                super()._write(alerts)
            raise OSError("killed here")

    await redis.xadd(redis_keys.notes(0), {"n": orjson.dumps(NOTE)})
    dying = Dying(ledger, redis, redis_keys, writing=asyncio.Lock(), log=CollectingLog())
    for dying.after_write in (False, True):
        with pytest.raises(OSError, match="killed here"):
            await dying.read([0])

    assert await _notes(ledger, redis, redis_keys).read([0]) == 1
    assert len(_keys_of(ledger)) == 1


async def test_what_is_no_note_stops_no_other(
    redis: Redis, redis_keys: RedisKeys, ledger: Ledger
) -> None:
    log, stream = CollectingLog(), redis_keys.notes(0)
    await redis.xadd(stream, {"x": "not ours"})
    gone = await redis.xadd(stream, {"n": orjson.dumps(NOTE)})
    notes = _notes(ledger, redis, redis_keys, log)
    await redis.xgroup_create(stream, "notes", id="0")
    await redis.xreadgroup("notes", "worker", {stream: ">"})
    await redis.xdel(stream, gone)
    await redis.xadd(stream, {"n": b"{"})
    await redis.xadd(stream, {"n": orjson.dumps(NOTE)})

    await notes.read([0])

    assert len(_keys_of(ledger)) == 1
    assert log.said == ["note_not_read"] * 2
    assert (await redis.xpending(stream, "notes"))["pending"] == 0
