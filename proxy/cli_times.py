"""Times as people type and read them on the command line. Pure: the current time is an argument."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

_DURATION = re.compile(r"([0-9]{1,6})([smhdw])")
_UNIT_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_NS_PER_S = 1_000_000_000
_FIRST_MONTH, _LAST_MONTH = "1970-01", "2261-12"
"""What UTC nanoseconds in 64 bits can count, which is how the ledger keeps times."""
_LAST_NS = 2**63 - 1


def parse_since_ns(text: str, now_ns: int) -> int:
    """Unix nanoseconds of `24h`, `7d` (back from now) or of an RFC 3339 time."""
    duration = _DURATION.fullmatch(text)
    if duration:
        back_ns = int(duration[1]) * _UNIT_S[duration[2]] * _NS_PER_S
        return max(0, now_ns - back_ns)  # before 1970 there was nothing, and no room for more
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither RFC 3339 nor a duration like 24h or 7d") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    since_ns = (moment - epoch) // timedelta(microseconds=1) * 1_000
    return min(max(0, since_ns), _LAST_NS)


def rfc3339(unix_ns: int) -> str:
    """A time as people and programs read it, UTC, to the second."""
    moment = datetime.fromtimestamp(unix_ns // _NS_PER_S, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_month(text: str | None, now_ns: int) -> str:
    """The month asked for, or the current one (UTC); ValueError when it is none."""
    if text is None:
        return datetime.fromtimestamp(now_ns // _NS_PER_S, UTC).strftime("%Y-%m")
    is_month = re.fullmatch(r"[0-9]{4}-(0[1-9]|1[0-2])", text)
    if not is_month or not _FIRST_MONTH <= text <= _LAST_MONTH:
        raise ValueError(
            f"{text!r} is not a month between {_FIRST_MONTH} and {_LAST_MONTH}: write YYYY-MM"
        )
    return text


def parse_days(
    since: str | None, until: str | None, now_ns: int, *, usual_days: int
) -> tuple[str, str]:
    """The first day and the one after the last, UTC, of the days as typed; ValueError for none.

    Without them, as many whole days as are usual, up to yesterday.
    """
    today = datetime.fromtimestamp(now_ns // _NS_PER_S, UTC).date()
    end = today if until is None else _day(until) + timedelta(days=1)
    first = end - timedelta(days=usual_days) if since is None else _day(since)
    if not first < end:
        raise ValueError(f"{first} comes after {end - timedelta(days=1)}")
    if end > today + timedelta(days=1):
        raise ValueError(f"{end - timedelta(days=1)} has not begun (UTC)")
    return first.isoformat(), end.isoformat()


def _day(text: str) -> date:
    if not re.fullmatch(r"(19[7-9]|2[01])[0-9]{1,2}-[0-9]{2}-[0-9]{2}", text) or len(text) != 10:
        raise ValueError(f"{text!r} is not a day: write YYYY-MM-DD")
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a day: write YYYY-MM-DD") from None
