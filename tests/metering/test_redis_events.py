"""Price books, epochs and the backlog in Redis."""

from __future__ import annotations

import pytest

from metering.redis_events import (
    Backlog,
    Memory,
    PriceConflictError,
    backlog,
    count_unread,
    is_rebuilt,
    mark_epoch,
    memory,
    publish_prices,
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


@pytest.mark.parametrize(
    ("lag", "delivered", "newest", "unread"),
    [
        (7, "1-0", "2-0", 7),
        (7, "2-0", "2-0", 0),
        (None, "2-1", "2-1", 0),
        (None, "1000-0", "61000-0", 0),
        (None, "1000-0", "61001-0", 50),
    ],
    ids=["said", "all-read", "all-read-unsaid", "close-behind", "far-behind"],
)
def test_what_redis_does_not_count_is_bounded(
    lag: int | None, delivered: str, newest: str, unread: int
) -> None:
    """6.2 never says it, and a full stream of settled entries is no backlog."""
    assert count_unread(length=50, lag=lag, delivered=delivered, newest=newest) == unread


async def test_memory_is_what_redis_says(redis_link: RedisLink) -> None:
    found = await memory(redis_link)

    assert found.used > 100_000
    assert (found.limit, found.used_ppm) == (0, 0)
    assert read_memory(b"used_memory:9\r\nmaxmemory:10\r\n") == Memory(9, 10)
    assert Memory(9, 10).used_ppm == 900_000
