"""Price books, epochs and the backlog in Redis."""

from __future__ import annotations

import pytest

from metering.fullness import Memory
from metering.redis_events import (
    Backlog,
    PriceConflictError,
    backlog,
    data_id,
    is_rebuilt,
    mark_epoch,
    memory,
    oldest_unsettled_ms,
    publish_prices,
    read_confirmed,
    read_memory,
    read_prices,
)
from metering.redis_keys import GROUP, RedisKeys
from metering.redis_link import RedisLink


async def test_a_price_book_is_published_once(redis_link: RedisLink, redis_keys: RedisKeys) -> None:
    """Publishing again is nothing; another body under the same version is an error."""
    await publish_prices(redis_link, redis_keys, {"abc": b"body"})
    await publish_prices(redis_link, redis_keys, {"abc": b"body"})

    with pytest.raises(PriceConflictError, match="abc"):
        await publish_prices(redis_link, redis_keys, {"abc": b"other"})
    assert await read_prices(redis_link, redis_keys, "abc") == b"body"
    assert await read_prices(redis_link, redis_keys, "unknown") is None


async def test_an_epoch_is_marked_once(redis_link: RedisLink, redis_keys: RedisKeys) -> None:
    """Whoever comes second learns that it was done."""
    before = await is_rebuilt(redis_link, redis_keys, 3)

    marks = [await mark_epoch(redis_link, redis_keys, 3, now_ms=1) for _ in range(2)]

    assert (before, marks) == (False, [True, False])
    assert await is_rebuilt(redis_link, redis_keys, 3)


async def test_data_has_a_name_until_it_is_gone(
    redis_link: RedisLink, redis_keys: RedisKeys
) -> None:
    """The first name stays, whoever asks; after the data was lost there is another."""
    first = await data_id(redis_link, redis_keys, fresh="a")
    second = await data_id(redis_link, redis_keys, fresh="b")
    await redis_link.call("DEL", redis_keys.meta)
    third = await data_id(redis_link, redis_keys, fresh="c")

    assert (first, second, third) == ("a", "a", "c")


async def test_confirmed_sequences_are_read_as_ranges(
    redis_link: RedisLink, redis_keys: RedisKeys
) -> None:
    """Of the proxy that asks; nothing while nobody published any."""
    before = await read_confirmed(redis_link, redis_keys, "p1")
    await redis_link.call("HSET", redis_keys.confirmed, "p1", "1-4,6-6", "p2", "1-9")

    after = await read_confirmed(redis_link, redis_keys, "p1")

    assert (str(before), str(after)) == ("", "1-4,6-6")


async def test_the_backlog_counts_what_waits(redis_link: RedisLink, redis_keys: RedisKeys) -> None:
    """Entries kept, those that a worker took without finishing them, and those nobody took."""
    stream = redis_keys.stream(0)
    empty = await backlog(redis_link, redis_keys, 0)
    for _ in range(3):
        await redis_link.call("XADD", stream, "*", "e", "{}")
    without_group = await backlog(redis_link, redis_keys, 0)
    await redis_link.call("XGROUP", "CREATE", stream, GROUP, "0")
    await redis_link.call("XREADGROUP", "GROUP", GROUP, "w", "COUNT", 2, "STREAMS", stream, ">")

    assert (empty, without_group) == (Backlog(), Backlog(3, 0, 3))
    assert await backlog(redis_link, redis_keys, 0) == Backlog(3, 2, 1)
    assert Backlog(3, 2, 1).unsettled == 3


async def test_memory_is_what_redis_says(redis_link: RedisLink) -> None:
    found = await memory(redis_link)

    assert found.used > 100_000
    assert (found.limit, found.used_ppm) == (0, 0)
    assert read_memory(b"used_memory:9\r\nmaxmemory:10\r\n") == Memory(9, 10)


async def test_the_oldest_entry_that_is_not_settled(
    redis_link: RedisLink, redis_keys: RedisKeys
) -> None:
    """Unread before there is a worker, then what it took and left, then unread again, then none."""
    stream, seen = redis_keys.stream(0), []

    async def look() -> None:
        seen.append(await oldest_unsettled_ms(redis_link, redis_keys, 0))

    await look()
    for entry in ("1000-0", "2000-0", "3000-5"):
        await redis_link.call("XADD", stream, entry, "e", "{}")
    await look()
    await redis_link.call("XGROUP", "CREATE", stream, GROUP, "0")
    await look()
    await redis_link.call("XREADGROUP", "GROUP", GROUP, "w", "COUNT", 2, "STREAMS", stream, ">")
    await redis_link.call("XACK", stream, GROUP, "1000-0")
    await look()
    await redis_link.call("XACK", stream, GROUP, "2000-0")
    await look()
    await redis_link.call("XREADGROUP", "GROUP", GROUP, "w", "COUNT", 2, "STREAMS", stream, ">")
    await redis_link.call("XACK", stream, GROUP, "3000-5")
    await look()

    assert seen == [None, 1000, 1000, 2000, 3000, None]
