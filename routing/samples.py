"""What was seen of an upstream, as sums that add up: over time, and over processes.

Pure, integers throughout. Values are counted in buckets, eight to each doubling, so that a
percentile can be taken of the sums of several processes; of each bucket the largest value is kept,
and that is what a percentile tells: never less than the true one, and by less than an eighth more.
A slot is five minutes of attempts; an hour of them is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any

SLOT_S = 300
SLOTS = 12
ENOUGH = 256
"""Percentiles are of the newest slots that have so many values between them, or of all."""
VALUE_MAX = 2**40 - 1
"""Larger values count as this one: no bucket lies beyond it."""
OUTCOMES_MAX = 64
_SUM_MAX = 2**62
_BUCKETS = 305


def bucket_of(value: int) -> int:
    """The bucket of a value: exact up to 15, then eight to each doubling."""
    shift = value.bit_length() - 4
    return value if shift <= 0 else (shift << 3) + (value >> shift)


def bucket_bounds(bucket: int) -> tuple[int, int]:
    """The smallest and the largest value of a bucket."""
    if bucket < 16:
        return bucket, bucket
    shift = (bucket >> 3) - 1
    low = (bucket - (shift << 3)) << shift
    return low, low + (1 << shift) - 1


@dataclass(slots=True)
class Values:
    """Counts of values by their bucket. `total` is their sum; `cold` and `cold_total` are the
    number and the sum of those after a pause, which are in no bucket."""

    buckets: dict[int, list[int]] = field(default_factory=dict)
    """Bucket -> how many, and the largest of them."""
    count: int = 0
    total: int = 0
    cold: int = 0
    cold_total: int = 0

    def add(self, value: int) -> None:
        """One more value."""
        value = min(value, VALUE_MAX)
        shift = value.bit_length() - 4
        bucket = value if shift <= 0 else (shift << 3) + (value >> shift)
        found = self.buckets.get(bucket)
        if found is None:
            self.buckets[bucket] = [1, value]
        else:
            found[0] += 1
            if value > found[1]:  # noqa: PLR1730 - max() takes three times as long
                found[1] = value
        self.count += 1
        self.total += value

    def add_cold(self, value: int) -> None:
        """One that came after a pause."""
        self.cold += 1
        self.cold_total += min(value, VALUE_MAX)

    def merge(self, other: Values) -> None:
        """Those of another, too."""
        for bucket, (count, largest) in other.buckets.items():
            found = self.buckets.get(bucket)
            if found is None:
                self.buckets[bucket] = [count, largest]
            else:
                found[0] += count
                found[1] = max(found[1], largest)
        self.count += other.count
        self.total += other.total
        self.cold += other.cold
        self.cold_total += other.cold_total

    def percentile(self, percent: int) -> int | None:
        """The value that so many percent do not pass; None of nothing."""
        left = (self.count * percent - 1) // 100
        for bucket in sorted(self.buckets):
            count, largest = self.buckets[bucket]
            left -= count
            if left < 0:
                return largest
        return None

    def pack(self) -> list[int]:
        """As numbers."""
        flat = [self.total, self.cold, self.cold_total]
        for bucket, (count, largest) in self.buckets.items():
            flat += bucket, count, largest
        return flat


@dataclass(slots=True)
class Tally:
    """Attempts at one upstream in one slot of time."""

    outcomes: dict[str, int] = field(default_factory=dict)
    """How attempts ended: the word of the outcome -> how many."""
    whole: Values = field(default_factory=Values)
    """Milliseconds to the end of answers in one piece."""
    first: Values = field(default_factory=Values)
    """Milliseconds to the first event of streams."""
    speed: Values = field(default_factory=Values)
    """Tokens of output per second of streams, from their first event to their end."""
    compared: int = 0
    """Exchanges of which both our count and the provider's are known."""
    reported_nano: int = 0
    """What these cost by the provider's count."""
    unexplained_nano: int = 0
    """By how much that is more than by our count (negative: less), at the same prices."""
    billed: int = 0
    held_nano: int = 0
    """What exchanges that were billed had held when they were sent."""
    sold_nano: int = 0
    """What they came to."""
    cost_nano: int = 0
    """And what they cost."""

    def merge(self, other: Tally) -> None:
        """Another one's, too."""
        self.merge_sums(other)
        self.whole.merge(other.whole)
        self.first.merge(other.first)
        self.speed.merge(other.speed)

    def merge_sums(self, other: Tally) -> None:
        """What of another one is no values."""
        for outcome, count in other.outcomes.items():
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) + count
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def pack(self) -> list[Any]:
        """As JSON can carry it."""
        parts = (self.whole.pack(), self.first.pack(), self.speed.pack())
        return [self.outcomes, *parts, [getattr(self, name) for name in _SUMS]]


_SUMS = (
    "compared",
    "reported_nano",
    "unexplained_nano",
    "billed",
    "held_nano",
    "sold_nano",
    "cost_nano",
)
_SIGNED = _SUMS.index("unexplained_nano")


def unpack(packed: Any) -> Tally:
    """What `Tally.pack` gave; ValueError for what it cannot have been."""
    if not isinstance(packed, list) or len(packed) < 5 or not isinstance(packed[0], dict):
        raise ValueError("not a tally")
    outcomes = packed[0]
    if len(outcomes) > OUTCOMES_MAX:
        raise ValueError("more outcomes than there are")
    sums = packed[4]
    if not isinstance(sums, list) or len(sums) < len(_SUMS):
        raise ValueError("not the sums of a tally")
    for count in outcomes.values():
        _checked(count)
    whole, first, speed = (_values(each) for each in packed[1:4])
    found = Tally({str(each): count for each, count in outcomes.items()}, whole, first, speed)
    for place, name in enumerate(_SUMS):
        setattr(found, name, _checked(sums[place], is_signed=place == _SIGNED))
    return found


def _values(packed: Any) -> Values:
    if not isinstance(packed, list) or len(packed) < 3 or len(packed) % 3:
        raise ValueError("not values")
    total, cold, cold_total, *flat = [_checked(each) for each in packed]
    found = Values(total=total, cold=cold, cold_total=cold_total)
    for bucket, count, largest in zip(flat[::3], flat[1::3], flat[2::3], strict=True):
        if bucket >= _BUCKETS or bucket in found.buckets or bucket_of(largest) != bucket:
            raise ValueError("no such bucket")
        found.buckets[bucket] = [count, largest]
        found.count += count
    return found


def _checked(value: Any, *, is_signed: bool = False) -> int:
    if type(value) is not int or not (-_SUM_MAX if is_signed else 0) <= value <= _SUM_MAX:
        raise ValueError("not a sum")
    return value


Slots = Mapping[int, Tally]
"""Number of the slot -> what it saw."""


def newest(slots: Sequence[Slots], name: str, enough: int = ENOUGH) -> Values:
    """The values of that name of the newest slots which have enough of them between them."""
    found = Values()
    for number in sorted({each for some in slots for each in some}, reverse=True):
        for some in slots:
            tally = some.get(number)
            if tally is not None:
                found.merge(getattr(tally, name))
        if found.count >= enough:
            break
    return found


def merged(tallies: Iterable[Tally]) -> Tally:
    """All of them in one."""
    found = Tally()
    for each in tallies:
        found.merge(each)
    return found


def trimmed(slots: Mapping[int, Tally]) -> dict[int, Tally]:
    """The same, without the values behind those that a percentile is taken of, whatever others
    add."""
    found: dict[int, Tally] = {}
    counts = dict.fromkeys(("whole", "first", "speed"), 0)
    for number in sorted(slots, reverse=True):
        tally = slots[number]
        spare = {name: Values() for name, count in counts.items() if count >= ENOUGH}
        for name in counts:
            counts[name] += getattr(tally, name).count
        found[number] = copy(tally) if spare else tally
        for name, nothing in spare.items():
            setattr(found[number], name, nothing)
    return found


def moved(slots: Mapping[int, Tally], shift_s: float) -> dict[int, Tally]:
    """Slots of another clock: each becomes the one that has its middle."""
    return {
        int((number * SLOT_S + SLOT_S / 2 + shift_s) // SLOT_S): tally
        for number, tally in slots.items()
    }


def gathered(sources: Sequence[Mapping[int, Tally]], now: int) -> dict[int, list[Tally]]:
    """By slot, without what is too old now, or lies ahead."""
    found: dict[int, list[Tally]] = {}
    for source in sources:
        for number, tally in source.items():
            if now - SLOTS < number <= now + 1:
                found.setdefault(number, []).append(tally)
    return found


@dataclass(slots=True)
class Seen:
    """One upstream as one process saw it. Slots and times are of a clock that its readers share,
    in seconds; `failure` is the word of the last outcome that was one, and when that was."""

    slots: dict[int, Tally] = field(default_factory=dict)
    in_flight: int = 0
    last_s: float | None = None
    failure: tuple[str, float] | None = None
    packed: dict[str, Any] = field(default_factory=dict, compare=False)
    """What the slots were unpacked from."""

    def pack(self) -> list[Any]:
        """As JSON can carry it; times in milliseconds."""
        last_ms = None if self.last_s is None else int(self.last_s * 1000)
        failure = self.failure and [self.failure[0], int(self.failure[1] * 1000)]
        slots = {str(number): tally.pack() for number, tally in self.slots.items()}
        return [slots, self.in_flight, last_ms, failure]


def unpack_seen(packed: Any, before: Seen | None = None) -> Seen:
    """What `Seen.pack` gave; ValueError for what it cannot have been. Slots that are as they were
    `before` are the same objects: most of them are over and change no more."""
    if not isinstance(packed, list) or len(packed) < 4 or not isinstance(packed[0], dict):
        raise ValueError("not an upstream")
    slots, in_flight, last_ms, told = packed[:4]
    if len(slots) > SLOTS + 2:  # clocks of different phases may cut an hour into one more
        raise ValueError("more slots than are kept")
    failure = None
    if told is not None:
        if not (isinstance(told, list) and len(told) == 2 and isinstance(told[0], str)):
            raise ValueError("not a failure")
        failure = (told[0], _checked(told[1]) / 1000)
    known = {} if before is None else before.packed
    return Seen(
        {
            int(number): before.slots[int(number)]
            if before is not None and known.get(number) == tally
            else unpack(tally)
            for number, tally in slots.items()
        },
        _checked(in_flight),
        None if last_ms is None else _checked(last_ms) / 1000,
        failure,
        slots,
    )
