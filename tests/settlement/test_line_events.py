"""Parts of a line: whatever the weights, they sum to the line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.settlement.line_events import shares

_AMOUNTS = st.integers(-(10**15), 10**15)


@given(total=_AMOUNTS, weights=st.lists(_AMOUNTS, min_size=1, max_size=30))
def test_shares_sum_to_the_total(total: int, weights: list[int]) -> None:
    """Corrections are negative, and may cancel the rest out."""
    assert sum(shares(total, weights)) == total


@given(total=st.integers(0, 10**12), weights=st.lists(st.integers(0, 10**9), min_size=1))
def test_no_share_is_off_by_one(total: int, weights: list[int]) -> None:
    """Each is the exact part, rounded up or down."""
    whole = sum(weights)
    if whole:
        for part, weight in zip(shares(total, weights), weights, strict=True):
            assert abs(part * whole - total * weight) < whole


@pytest.mark.parametrize(
    ("total", "weights", "expected"),
    [
        (10, [1, 1, 1], [4, 3, 3]),
        (-10, [1, 1, 1], [-3, -3, -4]),
        (7, [5, -5], [4, 3]),
        (3, [0, 0], [2, 1]),
        (6, [-1, -2], [2, 4]),
        (5, [], []),
    ],
)
def test_ties_go_to_the_first(total: int, weights: list[int], expected: list[int]) -> None:
    assert shares(total, weights) == expected
