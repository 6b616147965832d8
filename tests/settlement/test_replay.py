"""Dead letters sent into the ledger once more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace as changed

import pytest
from fixtures_ledger import KEYS, PRICES, book, make_entry, make_event
from fixtures_redis import RedisServer
from redis.asyncio import Redis
from sqlalchemy import select

from metering.events import encode
from metering.redis_keys import RedisKeys
from metering.settlement.entries import Entry
from metering.settlement.ledger import tables
from metering.settlement.ledger.dead_letters import (
    DeadLetter,
    dead_letters,
    find_dead_letter,
)
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.verify import verify
from metering.settlement.redis_client import connect
from metering.settlement.replay import Replay, ReplayRefusedError, replay

FINANCE = Replay(by="finance")


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    client = connect(f"unix://{redis_server.path}")
    yield client
    await client.aclose()


def _bury(ledger: Ledger, body: bytes, *, digest: str = "none") -> DeadLetter:
    """A dead letter with these bytes, from acme's shard."""
    book(ledger, [Entry(KEYS.shard("acme"), "1793491200000-7", body, digest)])
    return dead_letters(ledger, with_resolved=True)[-1]


async def _publish(redis: Redis, keys: RedisKeys) -> None:
    for version, body in PRICES.items():
        await redis.set(keys.prices(version), body)


async def test_mended_bytes_are_booked_once_where_they_were_spent(
    redis: Redis, redis_keys: RedisKeys, ledger: Ledger
) -> None:
    await _publish(redis, redis_keys)
    event = make_event()
    letter = _bury(ledger, encode(event).replace(b'"attempt":1', b'"attempt":"one"'))
    request = Replay(by="finance", mended=encode(event))

    assert await replay(ledger, redis, redis_keys, letter, request) == "booked"
    assert await replay(ledger, redis, redis_keys, letter, request) == "known"  # killed before

    with ledger.read() as connection:
        [row] = connection.execute(select(tables.usage_event)).all()
    assert (row.event_id, row.stream_id) == (event.event_id, "1793491200000-7")
    noted = find_dead_letter(ledger, letter.id)
    assert noted is not None
    assert (noted.outcome, noted.resolved_by, noted.event_id) == (
        "booked",
        "finance",
        event.event_id,
    )
    assert dead_letters(ledger) == []
    assert await replay(ledger, redis, redis_keys, noted, FINANCE) == "booked"  # as it was noted
    assert verify(ledger) == []


async def test_what_is_in_the_ledger_already_is_only_noted(
    redis: Redis, redis_keys: RedisKeys, ledger: Ledger
) -> None:
    event = make_event()
    book(ledger, [event])
    letter = _bury(ledger, encode(event))

    outcome = await replay(ledger, redis, redis_keys, letter, changed(FINANCE, force=True))

    assert outcome == "known"
    with ledger.read() as connection:
        assert len(connection.execute(select(tables.usage_event)).all()) == 1


async def test_other_bytes_under_a_booked_id_are_a_conflict(
    redis: Redis, redis_keys: RedisKeys, ledger: Ledger
) -> None:
    event = make_event()
    book(ledger, [event])
    letter = _bury(ledger, b"no event")
    request = Replay(by="f", mended=encode(changed(event, latency_ms=9)), force=True)

    assert await replay(ledger, redis, redis_keys, letter, request) == "conflict"


@pytest.mark.parametrize(
    ("body", "digest", "request_", "why"),
    [
        (b"no event", "none", Replay(by="f", force=True), "not JSON"),
        (encode(make_event(schema=9)), "right", FINANCE, "schema 9 is not known"),
        (encode(make_event()), "none", FINANCE, "not those the proxy wrote"),
        (b"no event", "none", Replay(by="f", mended=b""), "file is empty"),
        (b"no event", "none", Replay(by="f", mended=encode(make_event())), "the dead letter none"),
        (
            encode(make_event()),
            "none",
            Replay(by="f", mended=encode(make_event())),
            "could bill something twice",
        ),
        (
            b"no event",
            "none",
            Replay(by="f", mended=encode(make_event(tenant="elsewhere")), force=True),
            "another tenant's",
        ),
        (
            encode(make_event(units={"output_text": 2**53 - 1}, admission_nano=0)),
            "right",
            FINANCE,
            "cannot be rated",
        ),
    ],
    ids=["garbage", "newer", "hash", "empty", "no-id", "other-id", "other-shard", "absurd"],
)
async def test_doubts_are_refused_and_nothing_is_booked(
    redis: Redis,
    redis_keys: RedisKeys,
    ledger: Ledger,
    body: bytes,
    digest: str,
    request_: Replay,
    why: str,
) -> None:
    await _publish(redis, redis_keys)
    if digest == "right":
        digest = make_entry(make_event()).digest
    letter = _bury(ledger, body, digest=digest)
    if digest != "none":
        letter = changed(letter, reason="another")

    with pytest.raises(ReplayRefusedError, match=why):
        await replay(ledger, redis, redis_keys, letter, request_)

    assert dead_letters(ledger) != []
    with ledger.read() as connection:
        assert connection.execute(select(tables.usage_event)).all() == []


async def test_prices_that_nobody_has_are_named(
    redis: Redis, redis_keys: RedisKeys, ledger: Ledger
) -> None:
    body = encode(make_event(sell_version="ffffffffffff", admission_nano=0))
    letter = changed(_bury(ledger, body), reason="another")

    with pytest.raises(ReplayRefusedError, match="ffffffffffff"):
        await replay(ledger, redis, redis_keys, letter, FINANCE)
