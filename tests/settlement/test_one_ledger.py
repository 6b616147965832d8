"""A Redis that is settled into one ledger is left alone by workers of another."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from fixtures_ledger import new_ledger
from fixtures_redis import RedisServer
from fixtures_worker import CollectingLog
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from metering.redis_keys import RedisKeys
from metering.settlement.common_keys import AwayError, CommonKeys
from metering.settlement.ledger.faults import OtherLedgerError
from metering.settlement.ledger.store import Ledger
from metering.settlement.one_ledger import OneLedger, ledger_id
from metering.settlement.redis_client import connect


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    client = connect(f"unix://{redis_server.path}")
    yield client
    await client.aclose()


def test_an_id_is_made_once(ledger: Ledger) -> None:
    assert ledger_id(ledger) == ledger_id(ledger)
    assert len(ledger_id(ledger)) == 32


def one_ledger(
    ledger: Ledger, redis: Redis, keys: RedisKeys, *, is_cluster: bool = False
) -> OneLedger:
    common = CommonKeys(keys.meta, is_cluster=is_cluster, log=CollectingLog())
    return OneLedger(ledger, redis, keys, common=common)


async def test_the_second_ledger_is_refused_until_a_person_decides(
    redis: Redis, redis_keys: RedisKeys, ledger: Ledger, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = new_ledger(tmp_path / "other")
    first, second = (one_ledger(each, redis, redis_keys) for each in (ledger, other))
    await first.need((0, 1))
    await first.need((0, 1))

    with pytest.raises(OtherLedgerError) as refused:
        await second.need((0, 1))

    assert f"`redis-cli HDEL {redis_keys.meta} ledger`" in str(refused.value)
    assert await redis.hget(redis_keys.meta, "ledger") == ledger_id(ledger).encode()
    await redis.hdel(redis_keys.meta, "ledger")
    await second.need((0, 1))
    with pytest.raises(OtherLedgerError):
        await first.need((0, 1))
    other.close()


class PartlyAway:
    """A Cluster of which one node, that with the note, may be away."""

    def __init__(self, redis: Redis, lost: str) -> None:
        self._redis = redis
        self._lost = lost
        self.is_away = False

    def __getattr__(self, command: str) -> Callable[..., Awaitable[Any]]:
        async def send(key: str, *args: Any) -> Any:
            if self.is_away and key == self._lost:
                raise RedisConnectionError("refused")
            return await getattr(self._redis, command)(key, *args)

        return send


@pytest.fixture
def parts(redis: Redis, redis_keys: RedisKeys) -> Any:
    return PartlyAway(redis, redis_keys.meta)


async def test_who_was_told_once_goes_by_the_copies(
    parts: Any, redis_keys: RedisKeys, ledger: Ledger
) -> None:
    """While the node with the note is away, of the shards that have a copy."""
    worker = one_ledger(ledger, parts, redis_keys, is_cluster=True)
    await worker.need((3,))
    parts.is_away = True

    await worker.need((3,))
    with pytest.raises(AwayError, match=r"refused"):
        await worker.need((4,))


async def test_a_worker_that_has_just_started_waits_for_the_note(
    parts: Any, redis_keys: RedisKeys, ledger: Ledger
) -> None:
    """Somebody may have decided for another ledger since the copies were written."""
    await one_ledger(ledger, parts, redis_keys, is_cluster=True).need((3,))
    parts.is_away = True

    with pytest.raises(AwayError):
        await one_ledger(ledger, parts, redis_keys, is_cluster=True).need((3,))


@pytest.mark.parametrize("copy", [b"another", None])
async def test_data_that_is_not_what_it_was_waits_for_the_note(
    parts: Any, redis: Redis, redis_keys: RedisKeys, ledger: Ledger, copy: bytes | None
) -> None:
    """Another Cluster at the same place, or one that another ledger has taken."""
    worker = one_ledger(ledger, parts, redis_keys, is_cluster=True)
    await worker.need((3,))
    parts.is_away = True
    if copy is None:
        await redis.delete(redis_keys.ledger(3))
    else:
        await redis.set(redis_keys.ledger(3), copy)

    with pytest.raises(AwayError):
        await worker.need((3,))


async def test_copies_follow_the_note(
    parts: Any, redis: Redis, redis_keys: RedisKeys, ledger: Ledger
) -> None:
    """A ledger that took another's place by a person's hand is in every shard it settles."""
    await redis.set(redis_keys.ledger(3), b"another")

    await one_ledger(ledger, parts, redis_keys, is_cluster=True).need((3,))

    assert await redis.get(redis_keys.ledger(3)) == ledger_id(ledger).encode()
