"""Times as people type them."""

from __future__ import annotations

import pytest

from proxy.cli_times import parse_month, parse_since_ns

NOW_NS = 1_790_000_000_123_456_789  # 2026-09-21
HOUR_NS = 3_600_000_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("24h", NOW_NS - 24 * HOUR_NS),
        ("7d", NOW_NS - 7 * 24 * HOUR_NS),
        ("90m", NOW_NS - HOUR_NS * 3 // 2),
        ("1970-01-01T00:00:01Z", 1_000_000_000),
        ("1970-01-01T01:00:01.000001+01:00", 1_000_001_000),
        ("1970-01-02", 24 * HOUR_NS),
        ("999999w", 0),
        ("0001-01-01", 0),
        ("0001-01-01T00:00:00+14:00", 0),
        ("9999-12-31T23:59:59-14:00", 2**63 - 1),
    ],
)
def test_since(text: str, expected: int) -> None:
    """A duration goes back from now, a time is itself, in exact nanoseconds."""
    assert parse_since_ns(text, NOW_NS) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "24", "h", "-1h", "2026-13-01", "99999999d"])
def test_no_since(text: str) -> None:
    """Anything else is refused, with both forms named."""
    with pytest.raises(ValueError, match="24h or 7d"):
        parse_since_ns(text, NOW_NS)


def test_months() -> None:
    """Without a month it is the current one in UTC."""
    assert (parse_month(None, NOW_NS), parse_month("2025-12", NOW_NS)) == ("2026-09", "2025-12")


@pytest.mark.parametrize(
    "text", ["9999-12", "1969-12", "2262-01", "2026-13", "2026-1", "26-01", "0000-01", "2026-01-01"]
)
def test_no_months(text: str) -> None:
    """A month is YYYY-MM."""
    with pytest.raises(ValueError, match="YYYY-MM"):
        parse_month(text, NOW_NS)
