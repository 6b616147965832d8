"""A user's id out of everything that the ledger keeps, archives included; the chain stays provable.

What came is hashed, and the chain is made of hashes: so the payload is written again without the
id, the old hash stays in the chain, and a row of `event_erasure` says what is left and by which
hash. What the provider called the request goes too: it is random, and without it nobody can find
the id by trying ids until one gives the old hash. Rows of sums and amounts hold no user ids.

An archived file is written again before the ledger's rows are: a crash between the two is repaired
by asking once more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, or_, select, update

from metering.settlement.counting import scope_of
from metering.settlement.ledger import tables
from metering.settlement.ledger.archive import lock_shard, segments_of
from metering.settlement.ledger.archive_files import (
    ArchiveError,
    Line,
    check_lines,
    encode_segment,
    read_file,
    read_segment,
    write_file,
)
from metering.settlement.ledger.archive_tables import archive_rewrite, erasure, event_erasure
from metering.settlement.ledger.store import Ledger, insert_into, keep_rows

ERASED = ("user", "upstream_request_id")
"""What of a payload goes."""

_AT_ONCE = 1_000
_FETCH = 1_000
_EVENT = tables.usage_event.c


@dataclass(slots=True)
class Erased:
    """What was done."""

    events: int = 0
    files: int = 0
    conflicts: int = 0
    dead_letters: int = 0
    unreadable: list[int] = field(default_factory=list)
    """Dead letters that hold the id, and are no JSON: a person has to look at them."""


@dataclass(frozen=True, slots=True)
class _Ask:
    ledger: Ledger
    tenant: str
    user: str
    erasure_id: int
    folder: Path | None


def without_user(payload: bytes) -> bytes:
    """The payload without what is erased."""
    said = orjson.loads(payload)
    return orjson.dumps({name: value for name, value in said.items() if name not in ERASED})


def erase_user(
    ledger: Ledger,
    tenant: str,
    user: str,
    *,
    folder: Path | None,
    by: str,
    reason: str,
    now_ns: int,
) -> Erased:
    """Erase a tenant's user. A repeat finds nothing more, or what a crash left.

    ArchiveError when a file with the user's events is not to be had: the others are done then.
    """
    with ledger.write() as connection:
        row = {"tenant": tenant, "erased_by": by, "reason": reason, "erased_at": now_ns}
        made = insert_into(connection, erasure).returning(erasure.c.id)
        erasure_id = int(connection.execute(made, [row]).scalar_one())
    ask, done = _Ask(ledger, tenant, user, erasure_id, folder), Erased()
    with ledger.read() as connection:
        segments = segments_of(connection)
        found = list(_events_of(connection, ask))
    _erase_letters(ask, done)
    inside: dict[tuple[int, int], list[Any]] = {}
    kept: list[Any] = []
    for row in found:
        held = _segment_of(segments, row)
        if held is None:
            kept.append(row)
        else:
            inside.setdefault((held["shard"], held["first_seq"]), []).append(row)
    for shard in sorted({row.shard for row in kept}):
        _erase_rows(ask, shard, [row for row in kept if row.shard == shard], done)
    for place, rows in inside.items():
        [held] = [each for each in segments[place[0]] if each["first_seq"] == place[1]]
        _erase_archived(ask, held, rows, done)
    return done


def _events_of(connection: Connection, ask: _Ask) -> Iterable[Any]:
    """The user's events; those from before there was a column are read."""
    scope = scope_of(ask.user)
    query = (
        select(_EVENT.event_id, _EVENT.shard, _EVENT.seq, _EVENT.user_scope, _EVENT.payload)
        .where(_EVENT.tenant == ask.tenant)
        .where(or_(_EVENT.user_scope == scope, _EVENT.user_scope.is_(None)))
        .order_by(_EVENT.shard, _EVENT.seq)
        .execution_options(yield_per=_FETCH)
    )
    for row in connection.execute(query):
        if row.user_scope == scope or _says(row.payload, ask):
            yield row


def _says(payload: bytes, ask: _Ask) -> bool:
    """Whether these bytes are an event of this user; quick for the many that are not."""
    if b'"user"' not in payload:
        return False
    try:
        said = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return False
    is_theirs = isinstance(said, dict) and said.get("tenant") == ask.tenant
    return is_theirs and said.get("user") == ask.user


def _segment_of(segments: dict[int, list[Any]], row: Any) -> Any:
    held = [
        each
        for each in segments.get(row.shard, ())
        if each["first_seq"] <= row.seq <= each["last_seq"]
    ]
    return held[0] if held else None


def _erase_rows(ask: _Ask, shard: int, rows: Sequence[Any], done: Erased) -> None:
    """What stands in the ledger itself. What was archived meanwhile is left to the next call."""
    for start in range(0, len(rows), _AT_ONCE):
        part = rows[start : start + _AT_ONCE]
        with ask.ledger.write() as connection:
            lock_shard(connection, shard)
            held = segments_of(connection)
            if any(_segment_of(held, row) is not None for row in part):
                raise ArchiveError("events were archived meanwhile: ask again")
            left = {row.event_id: without_user(bytes(row.payload)) for row in part}
            _note(connection, ask, left)
            _replace(connection, left)
        done.events += len(part)


def _erase_archived(ask: _Ask, held: Any, rows: Sequence[Any], done: Erased) -> None:
    """What stands in a file: written again, then noted."""
    if ask.folder is None:
        raise ArchiveError(f"{held['file']} holds events of this user, and no folder is configured")
    theirs = {row.event_id for row in rows}
    with ask.ledger.write() as connection:
        lock_shard(connection, held["shard"])  # nobody else writes this file meanwhile
        segment, lines = read_segment(read_file(ask.folder, held["file"]), held["file"])
        check_lines(segment, lines)
        fresh = [_left(line) if line.event_id in theirs else line for line in lines]
        data = encode_segment(segment, fresh)
        sha256 = write_file(ask.folder, held["file"], data)
        left = {line.event_id: line.payload for line in fresh if line.event_id in theirs}
        _note(connection, ask, left)
        gone = update(tables.usage_event).where(_EVENT.event_id == bindparam("of"))
        connection.execute(gone.values(user_scope=None), [{"of": each} for each in theirs])
        whole = [row for row in rows if _says(row.payload, ask)]  # recovered ones stay whole here
        _replace(connection, {row.event_id: without_user(bytes(row.payload)) for row in whole})
        row = {
            "shard": segment.shard,
            "first_seq": segment.first_seq,
            "erasure_id": ask.erasure_id,
            "sha256": sha256,
            "bytes": len(data),
        }
        connection.execute(archive_rewrite.insert(), [row])
    done.events += len(theirs)
    done.files += 1


def _left(line: Line) -> Line:
    payload = without_user(line.payload)
    return replace(line, payload=payload, kept_hash=hashlib.sha256(payload).hexdigest())


def _note(connection: Connection, ask: _Ask, left: dict[str, bytes]) -> None:
    keep_rows(
        connection,
        event_erasure,
        [
            {
                "event_id": event_id,
                "erasure_id": ask.erasure_id,
                "kept_hash": hashlib.sha256(payload).hexdigest(),
            }
            for event_id, payload in left.items()
        ],
    )


def _replace(connection: Connection, left: dict[str, bytes]) -> None:
    changed = update(tables.usage_event).where(_EVENT.event_id == bindparam("of"))
    changed = changed.values(payload=bindparam("rest"), user_scope=None)
    if left:
        rows = [{"of": event_id, "rest": payload} for event_id, payload in left.items()]
        connection.execute(changed, rows)


def _erase_letters(ask: _Ask, done: Erased) -> None:
    """Second bodies, and what could not be booked: they are in no chain."""
    conflict, letter = tables.event_conflict, tables.dead_letter
    needle = orjson.dumps(ask.user)
    with ask.ledger.write() as connection:
        for row in connection.execute(select(conflict)).all():
            if _says(bytes(row.payload), ask):
                here = (
                    conflict.c.event_id == row.event_id,
                    conflict.c.payload_hash == row.payload_hash,
                )
                rest = without_user(bytes(row.payload))
                connection.execute(update(conflict).where(*here).values(payload=rest))
                done.conflicts += 1
        for row in connection.execute(select(letter)).all():
            raw = bytes(row.raw)
            if _says(raw, ask):
                this = update(letter).where(letter.c.id == row.id)
                connection.execute(this.values(raw=without_user(raw)))
                done.dead_letters += 1
            elif needle in raw and not _is_json(raw):
                done.unreadable.append(int(row.id))


def _is_json(raw: bytes) -> bool:
    try:
        orjson.loads(raw)
    except orjson.JSONDecodeError:
        return False
    return True
