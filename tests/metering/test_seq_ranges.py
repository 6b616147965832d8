"""Ranges of sequence numbers say exactly what was put into them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.seq_ranges import SeqRanges

numbers = st.sets(st.integers(0, 60))


def test_neighbours_merge_and_a_hole_stays() -> None:
    ranges = SeqRanges.of([1, 2, 3, 5]) | SeqRanges.of([6, 9])

    assert str(ranges) == "1-3,5-6,9-9"
    assert (4 in ranges, 5 in ranges, 7 in ranges) == (False, True, False)


@given(numbers, numbers)
def test_they_are_sets(some: set[int], others: set[int]) -> None:
    """Union, membership, covering and the text agree with Python's sets."""
    ours, theirs = SeqRanges.of(some), SeqRanges.of(others)

    assert {number for number in range(62) if number in ours | theirs} == some | others
    assert ours.covers(theirs) == (some >= others)
    assert SeqRanges.parse(str(ours)) == ours


def test_the_oldest_are_forgotten_first() -> None:
    """What is forgotten counts as missing, never the other way round."""
    ranges = SeqRanges.of(range(1, 20, 2))

    assert str(ranges.newest(2)) == "17-17,19-19"
    assert ranges.newest(10) is ranges


@pytest.mark.parametrize("text", ["x", "1-y", "5-2"])
def test_nonsense_is_no_range(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        SeqRanges.parse(text)
