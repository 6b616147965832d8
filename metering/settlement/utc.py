"""Moments (UTC nanoseconds) as days, and as text for people and programs. Pure."""

from __future__ import annotations

from datetime import UTC, date, datetime

_NS_PER_S = 10**9
_EPOCH = date(1970, 1, 1)


def day_of(time_ns: int) -> date:
    """The UTC day of a moment."""
    return datetime.fromtimestamp(time_ns // _NS_PER_S, UTC).date()


def start_of_day_ns(day: date) -> int:
    """Its first nanosecond, in UTC."""
    return (day - _EPOCH).days * 86_400 * _NS_PER_S


def utc_text(time_ns: int) -> str:
    """RFC 3339, to the second."""
    return datetime.fromtimestamp(time_ns // _NS_PER_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
