"""A Redis that is settled into one ledger is left alone by workers of another."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fixtures_ledger import new_ledger
from fixtures_redis import RedisServer
from redis.asyncio import Redis

from metering.redis_keys import RedisKeys
from metering.settlement.ledger.faults import OtherLedgerError
from metering.settlement.ledger.store import Ledger
from metering.settlement.one_ledger import ledger_id, need_this_ledger
from metering.settlement.redis_client import connect


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    client = connect(f"unix://{redis_server.path}")
    yield client
    await client.aclose()


def test_an_id_is_made_once(ledger: Ledger) -> None:
    assert ledger_id(ledger) == ledger_id(ledger)
    assert len(ledger_id(ledger)) == 32


async def test_the_second_ledger_is_refused_until_a_person_decides(
    redis: Redis, redis_keys: RedisKeys, ledger: Ledger, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = new_ledger(tmp_path / "other")
    await need_this_ledger(ledger, redis, redis_keys)
    await need_this_ledger(ledger, redis, redis_keys)

    with pytest.raises(OtherLedgerError) as refused:
        await need_this_ledger(other, redis, redis_keys)

    assert f"`redis-cli HDEL {redis_keys.meta} ledger`" in str(refused.value)
    assert await redis.hget(redis_keys.meta, "ledger") == ledger_id(ledger).encode()
    await redis.hdel(redis_keys.meta, "ledger")
    await need_this_ledger(other, redis, redis_keys)
    with pytest.raises(OtherLedgerError):
        await need_this_ledger(ledger, redis, redis_keys)
    other.close()
