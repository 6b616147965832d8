"""Where the windows in Redis and the ledger differ. Pure.

Both count an event in the bucket of Redis' own time of its commit, so once a bucket is closed and
all of its events are settled, they are equal to the nano. A difference is believed only when it is
seen twice with the same numbers and everything that was in the stream at the first look has been
settled before the second: what is on its way is no difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

OPEN_BUCKETS = 2
"""The newest buckets are left alone: clocks and commits under way may still touch them."""

SLICE = 12
"""Buckets that one look compares, twice: the newest closed ones, and a slice of the older ones."""

Amounts = tuple[int, int, int]
"""Nano-USD, tokens, requests."""

NOTHING: Amounts = (0, 0, 0)

Place = tuple[str, int]
"""A tenant and a bucket."""


@dataclass(frozen=True, slots=True)
class Drift:
    """A closed bucket that Redis and the ledger remember differently."""

    tenant: str
    bucket: int
    in_redis: Amounts
    in_ledger: Amounts

    @property
    def place(self) -> Place:
        """The tenant and the bucket."""
        return self.tenant, self.bucket

    @property
    def key(self) -> str:
        """Names this difference: the same one is said once."""
        numbers = ":".join(map(str, (*self.in_redis, *self.in_ledger)))
        return f"cap_drift:{self.tenant}:{self.bucket}:{numbers}"


def compare(
    places: Iterable[Place],
    in_redis: Mapping[Place, Amounts],
    in_ledger: Mapping[Place, Amounts],
) -> list[Drift]:
    """The places that differ. Less than nothing (corrections) counts as nothing, as in Redis."""
    found = []
    for tenant, bucket in places:
        here = in_redis.get((tenant, bucket), NOTHING)
        nano, tokens, requests = in_ledger.get((tenant, bucket), NOTHING)
        there = (max(nano, 0), max(tokens, 0), max(requests, 0))
        if here != there:
            found.append(Drift(tenant, bucket, here, there))
    return found


def buckets_of_turn(turn: int, *, newest: int, buckets: int) -> list[int]:
    """Which closed buckets to look at: the newest ones each time, the others in turns.

    `newest` is the current bucket, `buckets` the length of the window. The oldest ones are left
    out: they may be dropped between two looks. A bucket is of the same slice however much later the
    next turn is, so that none falls between two turns.
    """
    last = newest - OPEN_BUCKETS
    oldest = newest - buckets + OPEN_BUCKETS
    recent = range(max(oldest, last - SLICE + 1), last + 1)
    older = range(oldest, last - SLICE + 1)
    slices = len(older) // SLICE + 2  # as many as they can touch, wherever they begin
    chosen = [bucket for bucket in older if (bucket // SLICE - turn) % slices == 0]
    return [*chosen, *recent]
