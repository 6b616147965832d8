"""Days, weeks and months of a time zone, numbered: the buckets of a calendar window.

Rules:
- A period begins with the first instant whose local time is its first midnight or later: where a
  clock jumps over midnight that is the jump, where midnight comes twice it is the first one.
- Periods follow one another without a gap, so a day has 23, 24, 25 or 24.5 hours. A day that a zone
  has skipped altogether is empty.
- Numbers count up from 1970: days, weeks (which begin on Monday), months.

Pure: the time is an argument, Unix milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from metering.caps import CalendarUnit, CalendarWindow

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_MONDAY = 3
"""Days from the Monday of the first week to the epoch, a Thursday."""


@dataclass(frozen=True, slots=True)
class Period:
    """One period, [start_ms, end_ms), and when the one after it ends."""

    number: int
    start_ms: int
    end_ms: int
    next_end_ms: int


def period_at(window: CalendarWindow, now_ms: int) -> Period:
    """The period that this moment is in."""
    local = (_EPOCH + timedelta(milliseconds=now_ms)).astimezone(_zone(window.zone)).date()
    number = _number(window.unit, local)
    while start_ms(window.unit, window.zone, number) > now_ms:  # a clock went back over midnight
        number -= 1
    while start_ms(window.unit, window.zone, number + 1) <= now_ms:
        number += 1
    return Period(
        number, *(start_ms(window.unit, window.zone, number + ahead) for ahead in range(3))
    )


@lru_cache(maxsize=4096)
def start_ms(unit: CalendarUnit, zone: str, number: int) -> int:
    """When the period with this number begins."""
    tz = _zone(zone)
    midnight = datetime.combine(_first_day(unit, number), datetime.min.time(), tz)
    found = midnight.astimezone(UTC)
    if found.astimezone(tz).replace(tzinfo=None) != midnight.replace(tzinfo=None):
        found = _after_gap(midnight, found, tz)
    return (found - _EPOCH) // timedelta(milliseconds=1)


def _after_gap(midnight: datetime, near: datetime, tz: ZoneInfo) -> datetime:
    """The first second after a jump over this midnight; the jump is within a day of `near`."""
    wanted = midnight.replace(tzinfo=None)
    before, after = -90_000, 90_000  # seconds: a zone may skip a whole day, and an hour with it
    while after - before > 1:
        middle = (before + after) // 2
        local = (near + timedelta(seconds=middle)).astimezone(tz).replace(tzinfo=None)
        before, after = (before, middle) if local >= wanted else (middle, after)
    return near + timedelta(seconds=after)


def _number(unit: CalendarUnit, day: date) -> int:
    days = day.toordinal() - _EPOCH_DAY
    if unit is CalendarUnit.DAY:
        return days
    if unit is CalendarUnit.WEEK:
        return (days + _MONDAY) // 7
    return (day.year - 1970) * 12 + day.month - 1


def _first_day(unit: CalendarUnit, number: int) -> date:
    if unit is CalendarUnit.DAY:
        return date.fromordinal(_EPOCH_DAY + number)
    if unit is CalendarUnit.WEEK:
        return date.fromordinal(_EPOCH_DAY + number * 7 - _MONDAY)
    return date(1970 + number // 12, number % 12 + 1, 1)


@lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)
