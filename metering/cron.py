"""When something is due: five cron fields in a time zone. Pure; times are UTC nanoseconds.

Daylight saving as in Debian's cron. A time that names its minute and hour and is skipped in spring
is due when the gap is over, one that comes twice in autumn is due the first time. What begins with
a star in either field follows the clock on the wall: it leaves out what is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

_SECOND_NS = 1_000_000_000
_FOLD = timedelta(hours=2)
"""The library may begin in the wrong one of two equal hours: it begins earlier, and what is too
early is left out."""


@dataclass(frozen=True, slots=True)
class Cron:
    """A schedule that was found to be one."""

    fields: str
    timezone: str = "UTC"

    def next(self, after_ns: int) -> int:
        """The first time after this one."""
        begin = self._local(after_ns) - _FOLD
        return next(each for each in _times(self.fields, begin) if each > after_ns)

    def between(self, after_ns: int, until_ns: int, limit: int) -> list[int]:
        """The times after the first and up to the second, the newest `limit` of them, in order."""
        begin = self._local(until_ns) + _FOLD
        back = _times(self.fields, begin, reverse=True)
        found = takewhile(lambda each: each > after_ns, (each for each in back if each <= until_ns))
        return list(islice(found, limit))[::-1]

    def _local(self, time_ns: int) -> datetime:
        return datetime.fromtimestamp(time_ns // _SECOND_NS, ZoneInfo(self.timezone))


def read_cron(fields: str, timezone: str = "UTC") -> Cron:
    """The schedule; ValueError says what is wrong with it, KeyError that there is no such zone."""
    if len(fields.split()) != 5:
        raise ValueError("is not a schedule of five cron fields")
    try:
        CronSim(fields, datetime(2026, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise ValueError(f"is no cron schedule: {str(error).lower()}") from None
    try:
        zone = ZoneInfo(timezone)
    except (KeyError, ValueError, OSError):
        raise KeyError(timezone) from None
    found = Cron(fields, timezone)
    try:
        found.next(int(datetime(2026, 1, 1, tzinfo=zone).timestamp()) * _SECOND_NS)
    except StopIteration:
        raise ValueError("never comes") from None
    return found


def _times(fields: str, begin: datetime, *, reverse: bool = False) -> Iterator[int]:
    for each in CronSim(fields, begin, reverse=reverse):
        yield int(each.timestamp()) * _SECOND_NS
