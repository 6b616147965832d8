"""A batch: what is taken from the streams at once, sorted into what each entry means.

Pure. The first body of an id stands. The same id with the same body is a repeat and is absorbed;
with another body it is a conflict, which is kept beside and reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field

from metering.settlement.entries import Arrival, Malformed
from metering.settlement.rating import RatedEvent

REPORTED_MAX = 20
"""How many event ids one alert names; the rest is in the ledger."""


@dataclass(slots=True)
class Booking:
    """An arrival with its rating, ready to be booked if it is new. Never changed, see `Entry`."""

    arrival: Arrival
    rated: RatedEvent

    @property
    def event_id(self) -> str:
        """The event's id."""
        return self.rated.event.event_id

    @property
    def payload_hash(self) -> str:
        """The hash of the body it came with."""
        return self.arrival.entry.digest


@dataclass(frozen=True, slots=True)
class Sorted:
    """The bookings of a batch: new ones, repeats of what stands, and conflicts with it."""

    fresh: tuple[Booking, ...]
    repeats: tuple[Booking, ...]
    conflicts: tuple[tuple[Booking, str], ...]
    """A conflict comes with the hash of the body that stands."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How far a tenant's ratings are from what the proxies wrote, in one batch (ours - theirs)."""

    tenant: str
    events: int
    sell_nano: int
    cost_nano: int
    event_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What became of a batch; the caller makes metrics and log lines of it."""

    settled: int = 0
    repeats: int = 0
    conflicts: int = 0
    malformed: int = 0
    unpriced: int = 0
    sell_nano: int = 0
    cost_nano: int = 0
    differences: tuple[Difference, ...] = ()
    confirmed: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Proxy id -> the spool sequences of this batch, which the ledger now has."""
    ranges_forgotten: int = 0
    """Ranges of confirmed sequences that were too many to be remembered."""
    superseded: int = 0
    """Recovered events that were taken back here, because the true ones of their exchange came."""


def sort_bookings(bookings: Iterable[Booking], known: Mapping[str, str]) -> Sorted:
    """Sort a batch; `known` maps event ids already in the ledger to the hashes of their bodies."""
    standing = dict(known)
    fresh: list[Booking] = []
    repeats: list[Booking] = []
    conflicts: list[tuple[Booking, str]] = []
    for booking in bookings:
        kept = standing.get(booking.event_id)
        if kept is None:
            standing[booking.event_id] = booking.payload_hash
            fresh.append(booking)
        elif kept == booking.payload_hash:
            repeats.append(booking)
        else:
            conflicts.append((booking, kept))
    return Sorted(tuple(fresh), tuple(repeats), tuple(conflicts))


def differences(fresh: Iterable[Booking]) -> tuple[Difference, ...]:
    """Per tenant, what the new events come to beside what they say they come to."""
    by_tenant: dict[str, list[RatedEvent]] = {}
    for booking in fresh:
        if booking.rated.differs:
            by_tenant.setdefault(booking.rated.event.tenant, []).append(booking.rated)
    return tuple(
        Difference(
            tenant=tenant,
            events=len(rated),
            sell_nano=sum(one.sell_difference_nano for one in rated),
            cost_nano=sum(one.cost_difference_nano for one in rated),
            event_ids=tuple(one.event.event_id for one in rated[:REPORTED_MAX]),
        )
        for tenant, rated in sorted(by_tenant.items())
    )


def confirmed_sequences(
    arrivals: Iterable[Arrival], *, incomplete: Set[str] = frozenset()
) -> dict[str, list[int]]:
    """Proxy id -> the spool sequences of these events, of whatever shard.

    A record of the spool holds all events of an exchange; those of `incomplete` exchanges wait.
    """
    found: dict[str, list[int]] = {}
    for arrival in arrivals:
        event = arrival.event
        if event.spool_seq is None or not event.proxy_id or event.exchange_id in incomplete:
            continue
        found.setdefault(event.proxy_id, []).append(event.spool_seq)
    return found


@dataclass(frozen=True, slots=True)
class Batch:
    """What is to be settled in one transaction: well-formed, rated; and malformed."""

    bookings: Sequence[Booking]
    malformed: Sequence[Malformed]
