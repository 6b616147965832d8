"""Price books, epochs and the backlog in Redis."""

from __future__ import annotations

import pytest

from metering.redis_events import (
    Backlog,
    PriceConflictError,
    backlog,
    is_rebuilt,
    mark_epoch,
    oldest_unsettled_ms,
    publish_prices,
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


async def test_the_backlog_counts_what_waits(redis_link: RedisLink, redis_keys: RedisKeys) -> None:
    """Entries kept, and those that a worker took without finishing them."""
    stream = redis_keys.stream(0)
    empty = await backlog(redis_link, redis_keys, 0)
    for _ in range(3):
        await redis_link.call("XADD", stream, "*", "e", "{}")
    without_group = await backlog(redis_link, redis_keys, 0)
    await redis_link.call("XGROUP", "CREATE", stream, GROUP, "0")
    await redis_link.call("XREADGROUP", "GROUP", GROUP, "w", "COUNT", 2, "STREAMS", stream, ">")

    assert (empty, without_group) == (Backlog(0, 0), Backlog(3, 0))
    assert await backlog(redis_link, redis_keys, 0) == Backlog(3, 2)


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
