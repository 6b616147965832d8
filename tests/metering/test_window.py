"""The sliding window as specification."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.caps import ROLLING_DAY, Vector, Window
from metering.window import SlidingWindow, minus, plus, rolling

WINDOW = Window(label="w", bucket_ms=10, buckets=3)


def nano(amount: int) -> Vector:
    return Vector(amount, 0, 0)


def test_the_oldest_bucket_counts_whole() -> None:
    """Three full buckets and the current one: spend leaves 30 to 40 ms after it came."""
    window = SlidingWindow(WINDOW)

    window.add(9, nano(5))
    window.advance(39)
    before = window.spent.nano
    window.advance(40)

    assert (before, window.spent.nano) == (5, 0)


@given(st.lists(st.tuples(st.integers(0, 25), st.integers(0, 100)), max_size=40))
def test_any_true_window_is_within_what_is_reported(spends: list[tuple[int, int]]) -> None:
    """What was spent in the last 30 ms is never more than what the window says."""
    window, now, past = SlidingWindow(WINDOW), 0, []

    for passed, amount in spends:
        now += passed
        window.add(now, nano(amount))
        past.append((now, amount))

        true = sum(amount for at, amount in past if at > now - 30)
        loose = sum(amount for at, amount in past if at > now - 40)
        assert true <= window.spent.nano <= loose


@given(
    st.lists(st.tuples(st.integers(0, 25), st.integers(0, 9)), min_size=1, max_size=20),
    st.integers(1, 100),
)
def test_it_fits_when_it_said_it_would(spends: list[tuple[int, int]], need: int) -> None:
    """At the promised time at least `need` has left, one millisecond before it had not."""
    window, now = SlidingWindow(WINDOW), 0
    for passed, amount in spends:
        now += passed
        window.add(now, nano(amount))
    if need > window.spent.nano:
        return

    spent, at = window.spent.nano, window.frees_at_ms("nano", need)
    window.advance(at - 1)
    early = spent - window.spent.nano
    window.advance(at)

    assert early < need <= spent - window.spent.nano


def test_a_clock_that_steps_back_loses_nothing() -> None:
    """The amount joins the newest bucket and leaves with it."""
    window = SlidingWindow(WINDOW)

    window.add(100, nano(1))
    window.add(50, nano(2))
    window.advance(139)

    assert window.buckets == {10: nano(3)}


def test_nothing_spent_leaves_no_trace() -> None:
    """A zero amount makes no bucket, so `reset_ms` is about spend."""
    window = SlidingWindow(ROLLING_DAY)

    window.add(1_000, Vector())

    assert (window.buckets, window.reset_ms()) == ({}, None)


def test_vectors_add_and_subtract_by_dimension() -> None:
    """Each dimension by itself."""
    assert plus(Vector(1, 2, 3), Vector(10, 20, 30)) == Vector(11, 22, 33)
    assert minus(Vector(11, 22, 33), Vector(1, 2, 3)) == Vector(10, 20, 30)


@pytest.mark.parametrize(
    ("seconds", "label", "bucket_ms", "buckets"),
    [
        (60, "1m", 1_000, 60),
        (90, "90s", 1_000, 90),
        (3_600, "1h", 15_000, 240),
        (3_607, "3607s", 15_000, 241),
        (7 * 86_400, "7d", 3_600_000, 168),
        (30 * 86_400, "30d", 10_800_000, 240),
    ],
)
def test_a_rolling_window_is_never_shorter_than_asked(
    seconds: int, label: str, bucket_ms: int, buckets: int
) -> None:
    """It has at most 300 buckets, and its label says what was asked."""
    window = rolling(seconds)

    assert window == Window(label, bucket_ms, buckets)
    assert seconds * 1_000 <= window.bucket_ms * window.buckets < seconds * 1_000 + bucket_ms


def test_the_rolling_day_is_the_one_there_always_was() -> None:
    assert rolling(86_400) == ROLLING_DAY


@pytest.mark.parametrize("seconds", [0, 59, 30 * 86_400 + 1])
def test_a_window_has_its_bounds(seconds: int) -> None:
    with pytest.raises(ValueError, match="1 minute to 30 days"):
        rolling(seconds)
