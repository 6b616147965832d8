"""The sliding window, as specification: what Lua must do, in forty lines of Python.

Rules: the window is `buckets` full buckets plus the current one, and the oldest counts whole, so
the true spend of any `bucket_ms * buckets` milliseconds never passes what the window reports. `lo`
is always a bucket that holds spend. A clock that steps back adds to the newest bucket there is.
Pure: the time is an argument, Unix milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from metering.caps import ROLLING_DAY, Vector, Window

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

    window: Window
    buckets: dict[int, Vector] = field(default_factory=dict)
    spent: Vector = NOTHING

    def advance(self, now_ms: int) -> None:
        """Drop what has left the window."""
        oldest = now_ms // self.window.bucket_ms - self.window.buckets
        for index in sorted(self.buckets):
            if index >= oldest:
                break
            self.spent = minus(self.spent, self.buckets.pop(index))

    def add(self, now_ms: int, amount: Vector) -> int | None:
        """Book an amount at this time; the bucket it went to. Nothing leaves no trace."""
        self.advance(now_ms)
        if amount == NOTHING:
            return None
        current = max(now_ms // self.window.bucket_ms, max(self.buckets, default=0))
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
        return self._leaves_ms(min(self.buckets)) if self.buckets else None

    def frees_at_ms(self, dimension: str, need: int) -> int:
        """When the oldest buckets that together hold `need` (1 .. spent) will all have left."""
        freed = 0
        for index in sorted(self.buckets):
            freed += getattr(self.buckets[index], dimension)
            if freed >= need:
                return self._leaves_ms(index)
        raise AssertionError(f"{need} {dimension} is more than the {freed} spent")

    def _leaves_ms(self, index: int) -> int:
        return (index + self.window.buckets + 1) * self.window.bucket_ms
