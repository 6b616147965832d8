"""One scope as it stands in Redis, read without touching it: for people, not for admission.

What `lua/scopes.lua` does to its keys before it answers is done here to what was read of them: what
has left a window, and holds whose time is over, count no more. Pure: the time is an argument.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from metering.caps import AnyWindow, Vector
from metering.window import NOTHING, SlidingWindow, minus, plus

_HOLD = b"h:"
_DIMENSIONS = {b"n": "nano", b"t": "tokens", b"r": "requests"}


@dataclass(frozen=True, slots=True)
class ScopeReading:
    """What a scope has spent in each of its windows, by label, and what is held in it."""

    windows: Mapping[str, SlidingWindow]
    held: Vector
    holds: int


def read_scope(
    windows: Iterable[AnyWindow],
    fields: Mapping[bytes, bytes],
    expiries_ms: Mapping[bytes, float],
    now_ms: int,
) -> ScopeReading:
    """The scope at this moment; `fields` and `expiries_ms` are all of its hash and sorted set."""
    amounts: dict[str, dict[int, dict[str, int]]] = {}
    held, holds = NOTHING, 0
    for name, value in fields.items():
        if name.startswith(_HOLD):
            if expiries_ms.get(name[len(_HOLD) :], 0) > now_ms:
                held, holds = plus(held, Vector(*map(int, value.split()))), holds + 1
            continue
        label, _, rest = name.partition(b":")
        bucket, _, dimension = rest.partition(b":")
        if bucket.isdigit() and dimension in _DIMENSIONS:
            there = amounts.setdefault(label.decode(), {}).setdefault(int(bucket), {})
            there[_DIMENSIONS[dimension]] = int(value)
    found = {}
    for window in windows:
        buckets = {
            bucket: Vector(**amount) for bucket, amount in amounts.get(window.label, {}).items()
        }
        sliding = SlidingWindow(window, buckets, _sum(buckets.values()))
        sliding.advance(now_ms)
        found[window.label] = sliding
    return ScopeReading(found, held, holds)


def read_totals(
    held: Sequence[bytes],
    count: int,
    lapsed: Sequence[bytes],
    windows: Iterable[tuple[AnyWindow, Sequence[bytes]]],
    now_ms: int,
) -> ScopeReading:
    """The same from what `lua/peek.lua` reads of a scope: the total of what is held and how many
    hold, those of them that have `lapsed`, and per window its buckets from the first one on."""
    gone = [Vector(*map(int, each.split())) for each in lapsed if each]
    found = {}
    for window, values in windows:
        buckets = {}
        for place in range(1, len(values), 3):
            if any(amounts := [int(value or 0) for value in values[place : place + 3]]):
                buckets[int(values[0]) + place // 3] = Vector(*amounts)
        sliding = SlidingWindow(window, buckets, _sum(buckets.values()))
        sliding.advance(now_ms)
        found[window.label] = sliding
    total = Vector(*(int(amount or 0) for amount in held))
    return ScopeReading(found, minus(total, _sum(gone)), count - len(lapsed))


def _sum(vectors: Iterable[Vector]) -> Vector:
    total = NOTHING
    for vector in vectors:
        total = plus(total, vector)
    return total
