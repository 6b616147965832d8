"""One number of a usage, and the report of two sides."""

from __future__ import annotations

import pytest

from metering.usage import ReportedUsage
from proxy.told_usage import count_of, reported


@pytest.mark.parametrize(
    ("told", "tokens", "is_odd"),
    [(5, 5, False), (0, 0, False), (None, None, False), (-1, None, True), ("5", None, True)],
)
def test_a_number_of_tokens(told: object, tokens: int | None, is_odd: bool) -> None:
    """Zero is a number, what is not told is none, and what cannot be is said by its name."""
    suspect: list[str] = []

    assert count_of({"made": told}, "made", suspect) == tokens
    assert suspect == (["made is not a believable count"] if is_odd else [])


@pytest.mark.parametrize(
    ("usage", "doubt"),
    [
        ({"total": 7}, None),
        ({}, None),
        ({"total": 8}, "total is not the sum of its parts"),
        ({"total": 7.0}, "total is not the sum of its parts"),
    ],
)
def test_a_total_is_the_sum_of_both_sides(usage: dict[str, object], doubt: str | None) -> None:
    """Where it is told and both sides are; another number is billed all the same, and said."""
    found = reported({"a": 5}, {"b": 2}, usage, "total", suspect=[], doubt=[])

    assert found == ReportedUsage({"a": 5}, {"b": 2}, None, doubt)
    assert reported(None, {"b": 2}, usage, "total", suspect=["x", "y"], doubt=[]).suspect == "x; y"
