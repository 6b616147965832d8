"""Each event counts once, wherever it is found and whenever it is settled or trimmed meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from fixtures_ledger import book, make_event
from fixtures_redis import RedisServer
from redis.asyncio import Redis

from metering.events import RECOVERED, UsageEvent, encode, payload_hash
from metering.recovery import reversal
from metering.redis_keys import RedisKeys
from metering.settlement.counting import DAILY, NO_RULES, TENANT
from metering.settlement.entries import Entry
from metering.settlement.ledger.store import Ledger
from metering.settlement.recount import Place, Recount
from metering.settlement.redis_client import connect

PLACE = Place("acme", TENANT, DAILY.window)


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    client = connect(f"unix://{redis_server.path}")
    yield client
    await client.aclose()


async def _commit(redis: Redis, keys: RedisKeys, event: UsageEvent) -> Entry:
    body = encode(event)
    shard = keys.shard("acme")
    at = await redis.xadd(keys.stream(shard), {"e": body, "h": payload_hash(body)})
    return Entry(shard, at.decode(), body, payload_hash(body))


async def _recount(
    redis: Redis, keys: RedisKeys, ledger: Ledger, made: type[Recount] = Recount
) -> Recount:
    now_ms = (await redis.time())[0] * 1_000
    shard = keys.shard("acme")
    return made(ledger, redis, keys, shard, NO_RULES, {DAILY: None}, now_ms)


def _requests(recount: Recount) -> int:
    return sum(sums[2] for sums in recount.spent.get(PLACE, {}).values())


@pytest.mark.parametrize("trimmed", [False, True])
async def test_what_is_settled_while_we_count_counts_once(
    redis: Redis, redis_keys: RedisKeys, ledger: Ledger, *, trimmed: bool
) -> None:
    """After the sums were made and before the stream is read, perhaps trimmed from it at once."""
    entries = [await _commit(redis, redis_keys, make_event()) for _ in range(3)]
    book(ledger, entries[:1])

    class Interrupted(Recount):
        async def catch_up(self) -> None:
            book(ledger, entries[1:2])
            if trimmed:
                await redis.xdel(redis_keys.stream(self.shard), entries[1].stream_id)
            await Recount.catch_up(self)

    recount = await _recount(redis, redis_keys, ledger, made=Interrupted)
    await recount.run()

    assert _requests(recount) == 3


async def test_what_comes_later_is_added_once(
    redis: Redis, redis_keys: RedisKeys, ledger: Ledger
) -> None:
    event = make_event()
    book(ledger, [await _commit(redis, redis_keys, event)])
    recount = await _recount(redis, redis_keys, ledger)
    await recount.run()
    await _commit(redis, redis_keys, event)  # a proxy sends it again
    book(ledger, [await _commit(redis, redis_keys, make_event())])

    await recount.catch_up()
    await recount.catch_up()

    assert _requests(recount) == 2


@pytest.mark.parametrize("booked", ["nothing", "event", "correction", "both"])
async def test_a_correction_meets_its_event_wherever_each_is(
    redis: Redis, redis_keys: RedisKeys, ledger: Ledger, booked: str
) -> None:
    wrong = make_event(usage_source=RECOVERED)
    first = await _commit(redis, redis_keys, wrong)
    second = await _commit(redis, redis_keys, reversal(wrong))
    parts = {"nothing": [], "event": [first], "correction": [second], "both": [first, second]}
    for entry in parts[booked]:
        book(ledger, [entry])
    recount = await _recount(redis, redis_keys, ledger)

    await recount.run()

    assert [sum(part) for part in zip(*recount.spent[PLACE].values(), strict=True)] == [0, 0, 0]


async def test_a_correction_of_the_books_alone_moves_no_window(
    redis: Redis, redis_keys: RedisKeys, ledger: Ledger
) -> None:
    right = make_event()
    await _commit(redis, redis_keys, right)
    await _commit(redis, redis_keys, reversal(right))
    recount = await _recount(redis, redis_keys, ledger)

    await recount.run()

    assert _requests(recount) == 1
