"""Sliding and calendar windows, as specification: what Lua must do, in Python.

Rules: the window is `buckets` full buckets plus the current one, and the oldest counts whole, so
the true spend of any `bucket_ms * buckets` milliseconds never passes what the window reports. `lo`
is always a bucket that holds spend. A clock that steps back adds to the newest bucket there is.
A calendar window is its current period: one bucket of uneven length, and none before it.
Pure: the time is an argument, Unix milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from metering.calendar_periods import period_at, start_ms
from metering.caps import ROLLING_DAY, AnyWindow, CalendarWindow, Vector, Window

NOTHING = Vector()

_BUCKETS_MAX = 300
_BUCKET_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800)
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))

ROLLING_MIN_S = 60
ROLLING_MAX_S = 30 * 86_400


def rolling(seconds: int) -> Window:
    """The sliding window over the last so many seconds, 1 minute to 30 days.

    Never shorter than asked. Of at most 300 buckets, and longer by up to one of them where these
    make up the time: 1.7 % of a minute, 0.42 % of an hour, 0.35 % of 24 h, 0.6 % of 7 d, 0.42 % of
    30 d; by up to two otherwise.
    """
    if not ROLLING_MIN_S <= seconds <= ROLLING_MAX_S:
        raise ValueError(f"a rolling window of {seconds} s is not within 1 minute to 30 days")
    bucket_s = next(size for size in _BUCKET_S if -(-seconds // size) <= _BUCKETS_MAX)
    return Window(_label(seconds), bucket_s * 1_000, -(-seconds // bucket_s))


def _label(seconds: int) -> str:
    """In the largest unit that says it exactly, but one day is 24h, as it always was."""
    if seconds == 86_400:
        return ROLLING_DAY.label
    size, unit = next((size, unit) for size, unit in _UNITS if seconds % size == 0)
    return f"{seconds // size}{unit}"


RATE_MAX_MS = 3_600_000


def is_rate(window: AnyWindow) -> bool:
    """Whether requests count in it when they begin; see `Window`."""
    return isinstance(window, Window) and window.bucket_ms * window.buckets <= RATE_MAX_MS


def bucket_at(window: AnyWindow, now_ms: int) -> int:
    """The number of the bucket that a moment is in."""
    if isinstance(window, CalendarWindow):
        return period_at(window, now_ms).number
    return now_ms // window.bucket_ms


def leaves_ms(window: AnyWindow, bucket: int) -> int:
    """When what is in this bucket counts no more."""
    if isinstance(window, CalendarWindow):
        return start_ms(window.unit, window.zone, bucket + 1)
    return (bucket + window.buckets + 1) * window.bucket_ms


def plus(left: Vector, right: Vector) -> Vector:
    """The sum, dimension by dimension."""
    return Vector(
        left.nano + right.nano, left.tokens + right.tokens, left.requests + right.requests
    )


def minus(left: Vector, right: Vector) -> Vector:
    """The difference, dimension by dimension."""
    return Vector(
        left.nano - right.nano, left.tokens - right.tokens, left.requests - right.requests
    )


def least(left: Vector, right: Vector) -> Vector:
    """The smaller one, dimension by dimension."""
    return Vector(
        min(left.nano, right.nano),
        min(left.tokens, right.tokens),
        min(left.requests, right.requests),
    )


@dataclass(slots=True)
class SlidingWindow:
    """The spend of one scope in one window. Call `advance` before reading anything."""

    window: AnyWindow
    buckets: dict[int, Vector] = field(default_factory=dict)
    spent: Vector = NOTHING

    def advance(self, now_ms: int) -> None:
        """Drop what has left the window."""
        kept = 0 if isinstance(self.window, CalendarWindow) else self.window.buckets
        oldest = bucket_at(self.window, now_ms) - kept
        for index in sorted(self.buckets):
            if index >= oldest:
                break
            self.spent = minus(self.spent, self.buckets.pop(index))

    def add(self, now_ms: int, amount: Vector) -> int | None:
        """Book an amount at this time; the bucket it went to. Nothing leaves no trace."""
        self.advance(now_ms)
        if amount == NOTHING:
            return None
        current = max(bucket_at(self.window, now_ms), max(self.buckets, default=0))
        self.buckets[current] = plus(self.buckets.get(current, NOTHING), amount)
        self.spent = plus(self.spent, amount)
        return current

    def take_back(self, bucket: int, amount: Vector) -> None:
        """Undo an `add`, as far as it is still there: never below zero, nothing once it has left.

        A bucket that this empties stays until its time is over.
        """
        if (there := self.buckets.get(bucket)) is not None:
            taken = least(there, amount)
            self.buckets[bucket] = minus(there, taken)
            self.spent = minus(self.spent, taken)

    def reset_ms(self) -> int | None:
        """When room frees next; None when nothing is spent."""
        return leaves_ms(self.window, min(self.buckets)) if self.buckets else None

    def frees_at_ms(self, dimension: str, need: int) -> int:
        """When the oldest buckets that together hold `need` (1 .. spent) will all have left."""
        freed = 0
        for index in sorted(self.buckets):
            freed += getattr(self.buckets[index], dimension)
            if freed >= need:
                return leaves_ms(self.window, index)
        raise AssertionError(f"{need} {dimension} is more than the {freed} spent")
