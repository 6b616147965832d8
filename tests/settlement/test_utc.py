"""Moments as days and as text."""

from __future__ import annotations

from datetime import date

from metering.settlement.utc import day_of, start_of_day_ns, utc_text

LEAP_DAY = date(2028, 2, 29)
LEAP_NS = 1_835_395_200 * 10**9


def test_a_day_begins_at_its_first_nanosecond() -> None:
    """The nanosecond before it belongs to the day before."""
    assert start_of_day_ns(LEAP_DAY) == LEAP_NS
    assert day_of(LEAP_NS) == LEAP_DAY
    assert day_of(LEAP_NS - 1) == date(2028, 2, 28)


def test_text_is_cut_to_the_second() -> None:
    """RFC 3339, in UTC, and never rounded up."""
    assert utc_text(LEAP_NS - 1) == "2028-02-28T23:59:59Z"
