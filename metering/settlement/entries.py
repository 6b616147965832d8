"""What lies in a shard's stream, made into an event or into the reason why it is none.

Pure. Everything that could make a later step fail because of its *data* is refused here, so that
whatever fails after this is the machinery's fault and condemns nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from metering.events import UnknownSchemaError, UsageEvent, decode
from metering.settlement.event_checks import check_event
from metering.settlement.usual_events import read_usual

WRONG_HASH = "the body does not hash to the entry's h"
"""The reason for bytes that are not those the proxy wrote; a replay asks twice about them."""

NO_BODY = "the entry has no field `e`, or an empty one: no proxy wrote it"


@dataclass(slots=True)
class Entry:
    """One entry of a stream as it was read; `body` is None when Redis no longer had it.

    Never changed, as little as an arrival or a booking; to be frozen is what each field of a frozen
    dataclass takes a microsecond for, and there are some 25 of them on an event's way.
    """

    shard: int
    stream_id: str
    body: bytes | None
    digest: str

    @property
    def place(self) -> tuple[int, str]:
        """What names the entry: its shard and stream id."""
        return self.shard, self.stream_id

    @property
    def position(self) -> tuple[int, int]:
        """The two halves of the stream id: Redis' milliseconds and the count within them."""
        ms, _, n = self.stream_id.partition("-")
        return int(ms), int(n)


@dataclass(slots=True)
class Arrival:
    """A well-formed event with the entry that carried it."""

    entry: Entry
    event: UsageEvent
    body: bytes


@dataclass(frozen=True, slots=True)
class Malformed:
    """An entry that can never be booked, and why."""

    entry: Entry
    reason: str
    deliveries: int = 1
    """How often it was given to a worker, as far as Redis counted."""
    is_newer: bool = False
    """It was written by a newer version: whoever is upgraded meanwhile can book it."""


def read_entry(entry: Entry) -> Arrival | Malformed:
    """The event of an entry, or why there is none."""
    if entry.body is None:
        return Malformed(entry, "the entry was gone from the stream before it was settled")
    if not entry.body:
        return Malformed(entry, NO_BODY)
    if hashlib.sha256(entry.body).hexdigest() != entry.digest:
        return Malformed(entry, WRONG_HASH)
    if (usual := read_usual(entry.body)) is not None:
        return Arrival(entry, usual, entry.body)
    try:
        event = decode(entry.body)
        check_event(event)
    except UnknownSchemaError as error:
        return Malformed(entry, str(error), is_newer=True)
    except ValueError as error:
        return Malformed(entry, str(error))
    return Arrival(entry, event, entry.body)


def sort_entries(entries: Sequence[Entry]) -> tuple[list[Arrival], list[Malformed]]:
    """Entries that are usage events, and those that are not."""
    arrivals: list[Arrival] = []
    malformed: list[Malformed] = []
    for entry in entries:
        match read_entry(entry):
            case Arrival() as arrival:
                arrivals.append(arrival)
            case Malformed() as dead:
                malformed.append(dead)
    return arrivals, malformed
