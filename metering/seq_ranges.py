"""Sets of sequence numbers as merged ranges: `1-500,502-900`. Pure.

The worker notes with them which records of a proxy's spool the ledger has; the proxy reads them and
deletes what is covered. A hole stays a hole, however far the numbers behind it have come: a highest
number would say of what is missing that it is there.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field

RANGES_MAX = 10_000
"""Ranges that are remembered per proxy: 120 KB of text at worst, and one range when all is well."""


@dataclass(frozen=True, slots=True)
class SeqRanges:
    """Ascending, disjoint ranges with a gap between any two; both ends belong to a range."""

    ranges: tuple[tuple[int, int], ...] = ()
    _starts: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_starts", tuple(first for first, _ in self.ranges))

    @classmethod
    def parse(cls, text: str) -> SeqRanges:
        """The ranges of a text; ValueError when it is none."""
        pairs = []
        for part in filter(None, text.split(",")):
            first, _, last = part.partition("-")
            pairs.append((int(first), int(last or first)))
        if any(last < first for first, last in pairs):
            raise ValueError(f"{text[:80]!r} has a range that ends before it begins")
        return cls(_merged(pairs))

    @classmethod
    def of(cls, numbers: Iterable[int]) -> SeqRanges:
        """The ranges of these numbers."""
        return cls(_merged([(number, number) for number in numbers]))

    def __str__(self) -> str:
        return ",".join(f"{first}-{last}" for first, last in self.ranges)

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._starts, number) - 1
        return at >= 0 and number <= self.ranges[at][1]

    def __or__(self, other: SeqRanges) -> SeqRanges:
        return SeqRanges(_merged([*self.ranges, *other.ranges]))

    def covers(self, other: SeqRanges) -> bool:
        """Whether every number of `other` is here."""
        for first, last in other.ranges:
            at = bisect_right(self._starts, first) - 1
            if at < 0 or last > self.ranges[at][1]:
                return False
        return True

    def newest(self, count: int = RANGES_MAX) -> SeqRanges:
        """At most `count` ranges; the oldest are forgotten, which says less and nothing wrong."""
        return self if len(self.ranges) <= count else SeqRanges(self.ranges[-count:])


def _merged(pairs: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    merged: list[tuple[int, int]] = []
    for first, last in sorted(pairs):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return tuple(merged)
