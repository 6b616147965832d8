"""What lies in a shard's stream, made into an event or into the reason why it is none.

Pure. Everything that could make a later step fail because of its *data* is refused here, so that
whatever fails after this is the machinery's fault and condemns nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from metering.events import Kind, UnknownSchemaError, UsageEvent, decode

INT64_MAX = 2**63 - 1
QUANTITY_MAX = 2**53 - 1
"""Largest quantity of a unit, and largest amount, in one event: more is nonsense, not usage."""

WRONG_HASH = "the body does not hash to the entry's h"
"""The reason for bytes that are not those the proxy wrote; a replay asks twice about them."""

NO_BODY = "the entry has no field `e`, or an empty one: no proxy wrote it"

_TEXTS = (
    "event_id",
    "exchange_id",
    "tenant",
    "project",
    "api_key_id",
    "request_id",
    "kind",
    "provider",
    "model_requested",
    "model_upstream",
    "usage_source",
    "status",
    "reason_code",
    "proxy_id",
)
_OPTIONAL_TEXTS = (
    "corrects",
    "session",
    "run",
    "feature",
    "model_version",
    "cost_version",
    "sell_version",
    "cache_status",
)
_TIMES = ("occurred_at", "completed_at", "emitted_at")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a stream as it was read; `body` is None when Redis no longer had it."""

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


@dataclass(frozen=True, slots=True)
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
    try:
        event = decode(entry.body)
        _check(event)
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


def _check(event: UsageEvent) -> None:
    """ValueError for what decodes but cannot be stored."""
    for name in _TEXTS:
        _check_text(name, getattr(event, name))
    for name in _OPTIONAL_TEXTS:
        if (value := getattr(event, name)) is not None:
            _check_text(name, value)
    for name in _TIMES:
        if not 0 < getattr(event, name) <= INT64_MAX:
            raise ValueError(f"{name} {getattr(event, name)} is no time in UTC nanoseconds")
    _check_int("attempt", event.attempt, 2**31 - 1)
    _check_int("latency_ms", event.latency_ms, QUANTITY_MAX)
    _check_int("cost_nano", event.cost_nano, QUANTITY_MAX)
    _check_int("admission_nano", event.admission_nano, QUANTITY_MAX)
    _check_int("sla_credit_nano", event.sla_credit_nano, QUANTITY_MAX)
    if event.spool_seq is not None:
        _check_int("spool_seq", event.spool_seq, QUANTITY_MAX)
    if event.spool_events is not None:
        _check_int("spool_events", event.spool_events, 2**31 - 1)
    for unit, quantity in event.units.items():
        _check_text("a unit", unit)
        _check_int(unit, quantity, QUANTITY_MAX)
    if type(event.billable) is not bool:
        raise ValueError(f"billable is {event.billable!r}, not a boolean")
    if (event.kind == Kind.CORRECTION) != (event.corrects is not None):
        raise ValueError("`corrects` belongs to events of kind correction, and to those only")


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise ValueError(f"{name} is {value!r}, not a string")
    if "\0" in value:  # PostgreSQL stores no NUL in text
        raise ValueError(f"{name} holds a NUL character")


def _check_int(name: str, value: object, limit: int) -> None:
    if type(value) is not int or abs(value) > limit:
        raise ValueError(f"{name} is {value!r}, not an integer of at most {limit}")
