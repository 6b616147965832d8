"""The registry from the ledger to a real Redis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fixtures_ledger import new_ledger

from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink
from metering.registry_body import Snapshot, read_snapshot
from metering.settlement.ledger.registry_books import put_tenant, snapshot
from metering.settlement.ledger.store import Ledger
from metering.settlement.registry_publishing import heal, publish


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Ledger]:
    opened = new_ledger(tmp_path)
    yield opened
    opened.close()


async def _there(link: RedisLink, keys: RedisKeys) -> Snapshot:
    version = await link.call("HGET", keys.registry, "version")
    return read_snapshot(version.decode(), await link.call("HGET", keys.registry, "body"))


async def test_what_is_lost_or_changed_is_published_again(
    books: Ledger, redis_link: RedisLink, redis_keys: RedisKeys
) -> None:
    """And nothing where the ledger never had a tenant, or Redis has what it says."""
    call, name = redis_link.call, redis_keys.registry
    await call("HSET", name, "version", "5-another-ledgers")
    assert await heal(call, redis_keys, books, is_thorough=True) is None
    put_tenant(books, {"id": "acme"}, now_ns=1)
    assert await heal(call, redis_keys, books, is_thorough=False) == snapshot(books)
    assert await _there(redis_link, redis_keys) == snapshot(books)

    for is_thorough in (False, True):
        assert await heal(call, redis_keys, books, is_thorough=is_thorough) is None
    await call("DEL", name)
    assert await heal(call, redis_keys, books, is_thorough=False) is not None
    await call("HSET", name, "body", "{}")
    assert await heal(call, redis_keys, books, is_thorough=False) is None
    assert await heal(call, redis_keys, books, is_thorough=True) is not None
    put_tenant(books, {"id": "beta"}, now_ns=2)
    assert await heal(call, redis_keys, books, is_thorough=False) is not None
    assert (await _there(redis_link, redis_keys)).number == 2


async def test_an_older_snapshot_does_not_stay(
    books: Ledger, redis_link: RedisLink, redis_keys: RedisKeys
) -> None:
    """Somebody changes the ledger while we publish: it is published once more."""
    put_tenant(books, {"id": "acme"}, now_ns=1)
    sent: list[Any] = []

    async def call(*words: Any) -> Any:
        if not sent:
            put_tenant(books, {"id": "beta"}, now_ns=2)
        sent.append(words)
        return await redis_link.call(*words)

    assert (await publish(call, redis_keys, books)).number == 2
    assert len(sent) == 2
    assert (await _there(redis_link, redis_keys)).number == 2
