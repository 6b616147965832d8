"""Numbers, days and tables as providers write them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.settlement.exports.rows import (
    USAGE,
    Export,
    ExportError,
    UsageRow,
    count,
    day_of,
    days_between,
    nano,
    read_json,
    read_table,
)


@given(st.integers(-(10**24), 10**24))
def test_nano_dollars_survive(amount: int) -> None:
    """An amount that has no more than nine digits behind the point is exactly that."""
    assert nano(Decimal(amount).scaleb(-9)) == amount
    assert nano(str(Decimal(amount).scaleb(-7)), per_usd=100) == amount


@pytest.mark.parametrize("value", [None, True, "", "1e99", "NaN", 0.5, []])
def test_what_is_no_amount_is_a_fault(value: object) -> None:
    """A float is none either: it has lost digits already."""
    with pytest.raises(ExportError):
        nano(value)


@pytest.mark.parametrize(
    ("value", "day"),
    [
        (1793491200, "2026-11-01"),
        ("1793491200", "2026-11-01"),
        ("1793491200.0", "2026-11-01"),
        ("2026-11-01", "2026-11-01"),
        ("2026-11-01T00:00:00Z", "2026-11-01"),
        ("2026-11-01T01:00:00+02:00", "2026-10-31"),
    ],
)
def test_a_day_is_utc(value: object, day: str) -> None:
    """However it is written."""
    assert day_of(value) == day


def test_counts_may_be_written_with_points_and_commas() -> None:
    """But a half is none."""
    assert [count({"n": each}, "n") for each in (None, "", 3, "4.0", "1,234")] == [0, 0, 3, 4, 1234]
    with pytest.raises(ExportError):
        count({"n": "0.5"}, "n")


def test_tables_may_be_cut_by_tabs() -> None:
    """And begin with a byte order mark; a row with more cells than the head is a fault."""
    assert read_table("\ufeffa\tb\n1\t2\n") == [{"a": "1", "b": "2"}]
    with pytest.raises(ExportError):
        read_table("a,b\n1,2,3\n")


@pytest.mark.parametrize("data", [b"<html>", b"[]", b"\xff"])
def test_what_is_no_page_is_a_fault(data: bytes) -> None:
    """An error page in HTML, a list, bytes."""
    with pytest.raises(ExportError):
        read_json(data)


def test_an_export_comes_back_as_it_was_kept() -> None:
    """Rows and days."""
    export = Export(USAGE, "2026-11-01", "2026-11-03", (UsageRow("2026-11-01", "m", "u", 1),))

    assert Export.decode(export.encode()) == export
    assert days_between(export.since, export.until) == ["2026-11-01", "2026-11-02"]
