"""How full Redis is."""

from __future__ import annotations

import pytest

from metering.fullness import Memory, count_unread


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


def test_memory_is_a_share_of_its_limit_and_nothing_without_one() -> None:
    assert Memory(9, 10).used_ppm == 900_000
    assert Memory(9, 0).used_ppm == 0
