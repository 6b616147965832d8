"""Where windows and ledger differ: the pure part."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from metering.settlement.drift import (
    NOTHING,
    OPEN_BUCKETS,
    SLICE,
    Drift,
    buckets_of_turn,
    compare,
)


def test_equal_amounts_are_no_drift_and_others_name_both() -> None:
    places = [("a", 1), ("a", 2), ("b", 1), ("c", 1)]
    in_redis = {("a", 1): (5, 1, 1), ("a", 2): (7, 1, 1)}
    in_ledger = {("a", 1): (5, 1, 1), ("b", 1): (3, 2, 1), ("c", 1): (-4, 0, 0)}

    assert compare(places, in_redis, in_ledger) == [
        Drift("a", 2, (7, 1, 1), NOTHING),
        Drift("b", 1, NOTHING, (3, 2, 1)),
    ]


def test_the_key_of_a_difference_is_its_numbers() -> None:
    drift = Drift("a", 2, (7, 1, 1), NOTHING)

    assert drift.key == "cap_drift:a:2:7:1:1:0:0:0"


@given(newest=st.integers(1_000, 10**9), buckets=st.integers(5, 400))
def test_every_closed_bucket_gets_its_turn_and_no_open_one(newest: int, buckets: int) -> None:
    seen: set[int] = set()
    for turn in range(buckets // SLICE + 2):
        chosen = buckets_of_turn(turn, newest=newest, buckets=buckets)
        assert len(chosen) == len(set(chosen)) <= 2 * SLICE
        seen |= set(chosen)

    oldest, last = newest - buckets + OPEN_BUCKETS, newest - OPEN_BUCKETS
    assert seen == set(range(oldest, last + 1))


@given(
    start=st.integers(1_000, 10**9),
    pauses=st.lists(st.integers(0, 8), min_size=60, max_size=60),
)
def test_no_bucket_falls_between_two_turns_however_long_they_take(
    start: int, pauses: list[int]
) -> None:
    """With many tenants a turn takes longer than a bucket: then the window moves on between."""
    newest, seen = start, set[int]()
    for turn, pause in enumerate(pauses):
        if newest - start > 240:
            break
        seen |= set(buckets_of_turn(turn, newest=newest, buckets=288))
        newest += pause
    if turn < 25:
        return  # too long for a full circle

    assert set(range(newest - 250, start - OPEN_BUCKETS + 1)) <= seen


def test_the_newest_closed_buckets_are_looked_at_each_time() -> None:
    for turn in range(30):
        assert 998 in buckets_of_turn(turn, newest=1_000, buckets=288)
