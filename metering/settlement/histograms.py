"""Histograms of milliseconds that can be added to one another, and what is read from them. Pure.

Rules: one scheme of buckets for everything, so that counts add up bucket by bucket. A bucket is
named by the largest value in it and is at most a tenth wider than its smallest: its middle is never
more than 5 % from any value in it. Below 10 ms each value has its own. Integers only.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

ERROR_PPM_MAX = 50_000
"""How far a percentile may be from the value that it stands for: 5 %."""

MS_MAX = 2**22
"""The last bucket, from about an hour on, holds whatever took longer."""


def _bounds() -> tuple[int, ...]:
    found, first = [], 0
    while first < MS_MAX:
        last = min(first + first // 10, MS_MAX)
        found.append(last)
        first = last + 1
    return tuple(found)


BOUNDS = _bounds()
"""The largest value of every bucket."""

_MIDDLE = {
    last: (before + 1 + last) // 2 for before, last in zip((-1, *BOUNDS), BOUNDS, strict=False)
}


def bucket_of(time_ms: int) -> int:
    """The bucket of a time: the largest value in it."""
    return BOUNDS[bisect_left(BOUNDS, min(max(time_ms, 0), BOUNDS[-1]))]


def percentile_ms(counts: Mapping[int, int], per_mille: int) -> int | None:
    """The value that so many in a thousand do not exceed, by nearest rank, as the middle of its
    bucket; None of nothing. A bucket that more was taken out of than is in it counts as empty."""
    total = sum(count for count in counts.values() if count > 0)
    if not total:
        return None
    rank, seen = -(-total * per_mille // 1000), 0
    for last in sorted(counts):
        seen += max(counts[last], 0)
        if seen >= rank:
            return _MIDDLE[last]
    raise AssertionError("a rank is never above the number of values")


def percentiles(counts: Mapping[int, int]) -> dict[str, int | None]:
    """What is shown of a histogram."""
    return {f"p{each // 10}": percentile_ms(counts, each) for each in (500, 950, 990)}
