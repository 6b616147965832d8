"""Dead letters: entries that could not be booked, kept as they came until somebody mends them.

Rules: a dead letter is never changed and never deleted; what became of it is a row of its own in
`dead_letter_resolution`, append-only, with who and when. Only what fails because of its data is
condemned: what the database could not do for anybody is thrown on, and waits.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, select
from sqlalchemy.exc import DataError, DBAPIError

from metering.settlement.batches import Batch, BatchReport
from metering.settlement.entries import Malformed
from metering.settlement.ledger.outbox import put_alerts
from metering.settlement.ledger.store import Ledger, insert_rows, keep_rows
from metering.settlement.ledger.tables import dead_letter, dead_letter_resolution, usage_event

REPORTED_IDS_MAX = 20

CLOSED = "closed"
"""How the outcome of a letter begins that nobody will book; the reason follows."""

_DATA_CODES_SQLITE = frozenset(
    {
        sqlite3.SQLITE_CONSTRAINT_CHECK,
        sqlite3.SQLITE_CONSTRAINT_NOTNULL,
        sqlite3.SQLITE_CONSTRAINT_TRIGGER,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_TOOBIG,
    }
)
_DATA_STATES_POSTGRESQL = ("22", "23502", "23514", "P0001")
"""SQLSTATEs, or their class: data exception, NOT NULL, CHECK, and what a trigger raises."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An entry that could not be booked; `resolved_*` and `outcome` are None while it waits."""

    id: int
    shard: int
    stream_id: str
    reason: str
    deliveries: int
    received_at: int
    raw: bytes
    resolved_at: int | None = None
    resolved_by: str | None = None
    outcome: str | None = None
    event_id: str | None = None


def is_data_failure(error: BaseException) -> bool:
    """Whether the database refused a value as such, and would refuse it tomorrow.

    A broken uniqueness or foreign key is none: events are made unique before they are written, so
    that one says something about the books, and condemning events for it could empty the streams.
    """
    if isinstance(error, OverflowError | UnicodeError | DataError):
        return True
    if not isinstance(error, DBAPIError):
        return False
    if isinstance(error.orig, sqlite3.Error):
        return getattr(error.orig, "sqlite_errorcode", None) in _DATA_CODES_SQLITE
    state = getattr(error.orig, "sqlstate", None) or ""
    return state.startswith(_DATA_STATES_POSTGRESQL)


def keep_dead_letters(connection: Connection, dead: Sequence[Malformed], now_ns: int) -> None:
    """Keep what cannot be booked, and say so: once, however often it comes."""
    rows = [
        {
            "shard": malformed.entry.shard,
            "stream_id": malformed.entry.stream_id,
            "raw_hash": hashlib.sha256(malformed.entry.body or b"").hexdigest(),
            "raw": malformed.entry.body or b"",
            "reason": malformed.reason,
            "received_at": now_ns,
            "deliveries": malformed.deliveries,
        }
        for malformed in dead
    ]
    keep_rows(connection, dead_letter, rows)
    put_alerts(
        connection,
        (
            (
                f"dead_letter:{one.entry.shard}:{one.entry.stream_id}",
                {"reason": one.reason, "shard": one.entry.shard, "stream_id": one.entry.stream_id},
            )
            for one in dead
            if one.entry.body is not None
        ),
        now_ns,
    )
    _report_gaps(connection, [one for one in dead if one.entry.body is None], now_ns)


def _report_gaps(connection: Connection, gone: Sequence[Malformed], now_ns: int) -> None:
    """Somebody else took entries out of a stream: which ones, by shard, in one alert each."""
    by_shard: dict[int, list[str]] = {}
    for one in gone:
        by_shard.setdefault(one.entry.shard, []).append(one.entry.stream_id)
    put_alerts(
        connection,
        (
            (
                f"stream_gap:{shard}:{ids[0]}",
                {"shard": shard, "entries": len(ids), "stream_ids": ids[:REPORTED_IDS_MAX]},
            )
            for shard, ids in sorted(by_shard.items())
        ),
        now_ns,
    )


def booked_stream_ids(ledger: Ledger, places: Iterable[tuple[int, str]]) -> set[tuple[int, str]]:
    """Of these (shard, stream id), the ones whose event is in the ledger."""
    event, wanted = usage_event.c, list(places)
    query = select(event.shard, event.stream_id).where(
        event.shard.in_({shard for shard, _ in wanted}),
        event.stream_ms.in_({int(stream_id.partition("-")[0]) for _, stream_id in wanted}),
        event.stream_id.in_({stream_id for _, stream_id in wanted}),
    )
    with ledger.read() as connection:
        return {(row.shard, row.stream_id) for row in connection.execute(query)}


def dead_letters(
    ledger: Ledger, *, reason: str | None = None, with_resolved: bool = False
) -> list[DeadLetter]:
    """Dead letters, oldest first: those that wait, or all; `reason` is a part of the reason."""
    query = _letters()
    if reason is not None:
        query = query.where(dead_letter.c.reason.contains(reason, autoescape=True))
    if not with_resolved:
        query = query.where(dead_letter_resolution.c.dead_letter_id.is_(None))
    with ledger.read() as connection:
        return [_letter(row) for row in connection.execute(query)]


def find_dead_letter(ledger: Ledger, number: int) -> DeadLetter | None:
    """The dead letter of that number."""
    with ledger.read() as connection:
        row = connection.execute(_letters().where(dead_letter.c.id == number)).first()
    return None if row is None else _letter(row)


def resolve(
    ledger: Ledger, letter: DeadLetter, report: BatchReport, batch: Batch, *, by: str, now_ns: int
) -> str:
    """Note what a replay came to, once; the outcome: booked, known or conflict."""
    outcome = "booked" if report.settled else "known" if report.repeats else "conflict"
    booking = batch.bookings[0]
    row = {
        "dead_letter_id": letter.id,
        "resolved_at": now_ns,
        "resolved_by": by,
        "outcome": outcome,
        "event_id": booking.event_id,
        "payload_hash": booking.payload_hash,
    }
    with ledger.write() as connection:
        keep_rows(connection, dead_letter_resolution, [row])
    return outcome


def close(ledger: Ledger, letter: DeadLetter, *, because: str, by: str, now_ns: int) -> bool:
    """Note that nothing will be booked for it, and why; False when it was resolved before."""
    row = {
        "dead_letter_id": letter.id,
        "resolved_at": now_ns,
        "resolved_by": by,
        "outcome": f"{CLOSED}: {because}",
        "event_id": "",
        "payload_hash": hashlib.sha256(letter.raw).hexdigest(),
    }
    with ledger.write() as connection:
        known = select(dead_letter_resolution).where(
            dead_letter_resolution.c.dead_letter_id == letter.id
        )
        if connection.execute(known).first() is not None:
            return False
        insert_rows(connection, dead_letter_resolution, [row])
    return True


def _letters() -> Select[Any]:
    resolution = dead_letter_resolution.c
    return (
        select(
            dead_letter,
            resolution.resolved_at,
            resolution.resolved_by,
            resolution.outcome,
            resolution.event_id,
        )
        .outerjoin(dead_letter_resolution, resolution.dead_letter_id == dead_letter.c.id)
        .order_by(dead_letter.c.id)
    )


def _letter(row: Any) -> DeadLetter:
    return DeadLetter(
        id=row.id,
        shard=row.shard,
        stream_id=row.stream_id,
        reason=row.reason,
        deliveries=row.deliveries,
        received_at=row.received_at,
        raw=bytes(row.raw),
        resolved_at=row.resolved_at,
        resolved_by=row.resolved_by,
        outcome=row.outcome,
        event_id=row.event_id or None,
    )
