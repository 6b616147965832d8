"""What events came as, moved from the ledger into files when it is old.

Rules: rows stay, and with them invoices, reports, sums and the chain: only `payload` goes, and of
it stays what comparisons with providers read. A shard's events go in the order of its chain,
without a gap. A file is on disk and was read again before the ledger lets go of anything; a crash
between the two leaves a file that the next run writes again. What somebody may still have to turn
round (recovered usage) keeps its payload.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, func, select, update
from sqlalchemy.exc import IntegrityError

from metering.progress import Tell, quiet
from metering.settlement.counting import scope_of
from metering.settlement.ledger import tables
from metering.settlement.ledger.archive_files import (
    Line,
    Segment,
    check_lines,
    encode_segment,
    read_file,
    read_segment,
    write_file,
)
from metering.settlement.ledger.archive_tables import (
    archive_rewrite,
    archive_segment,
    event_erasure,
)
from metering.settlement.ledger.store import Ledger, insert_rows

SEGMENT_EVENTS = 2_000
"""Events of a file: so many rows are written at once, while others wait for the lock."""

KEPT = ("model_answered", "price_tier", "service_tier")
"""Of a payload that was moved, what stays: `provider_usage` reads it."""

DAY_NS = 86_400 * 10**9

_EVENT, _SEGMENT = tables.usage_event.c, archive_segment.c


@dataclass(slots=True)
class Archived:
    """What was moved."""

    events: int = 0
    files: int = 0
    bytes: int = 0


def knows_archive(ledger: Ledger) -> bool:
    """Whether the ledger has the tables of this module."""
    return (ledger.revision() or "") >= "0016"


def kept_of(payload: bytes) -> bytes:
    """What stays in the ledger of a payload that was moved."""
    said = orjson.loads(payload)
    return orjson.dumps({name: said[name] for name in KEPT if said.get(name) is not None})


def archive(
    ledger: Ledger,
    folder: Path,
    *,
    before_ns: int,
    now_ns: int,
    is_over: Callable[[], bool] = lambda: False,
    tell: Tell = quiet,
) -> Archived:
    """Move what came to the ledger before this time; ArchiveError for a folder that takes nothing.

    `is_over` is asked between two files, and the events so far are told. Another that archives at
    the same time does no harm.
    """
    done = Archived()
    with ledger.read() as connection:
        shards = list(connection.execute(select(tables.watermark.c.shard)).scalars())
    for shard in sorted(shards):
        while not is_over():
            with ledger.read() as connection:
                found = _next(connection, shard, before_ns)
            if found is None:
                break
            segment, rows, erased = found
            data = _store(folder, segment, rows)
            if _let_go(ledger, segment, rows, data, erased=erased, now_ns=now_ns):
                done.events += len(rows)
                done.files += 1
                done.bytes += len(data[1])
                tell(done.events, None)
    return done


def _next(
    connection: Connection, shard: int, before_ns: int
) -> tuple[Segment, list[Any], int] | None:
    """The oldest events of a shard that are to be moved, and how many of them were erased from."""
    query = select(func.max(_SEGMENT.last_seq)).where(_SEGMENT.shard == shard)
    after = connection.execute(query).scalar() or 0
    events = (
        select(tables.usage_event, event_erasure.c.kept_hash)
        .outerjoin(event_erasure, event_erasure.c.event_id == _EVENT.event_id)
        .where(_EVENT.shard == shard, _EVENT.seq > after)
        .order_by(_EVENT.seq)
        .limit(SEGMENT_EVENTS)
    )
    rows: list[Any] = []
    for row in connection.execute(events):
        if row.received_at >= before_ns:
            break
        rows.append(row)
    if not rows:
        return None
    first, last = rows[0], rows[-1]
    segment = Segment(shard, first.seq, last.seq, first.prev_hash, last.hash)
    return segment, rows, sum(1 for row in rows if row.kept_hash is not None)


def _store(folder: Path, segment: Segment, rows: list[Any]) -> tuple[str, bytes]:
    lines = [
        Line(row.seq, row.event_id, row.payload_hash, bytes(row.payload), row.kept_hash)
        for row in rows
    ]
    check_lines(segment, lines)
    data = encode_segment(segment, lines)
    sha256 = write_file(folder, segment.file, data)
    read, again = read_segment(read_file(folder, segment.file), segment.file)
    check_lines(read, again)
    return sha256, data


def _let_go(
    ledger: Ledger,
    segment: Segment,
    rows: list[Any],
    file: tuple[str, bytes],
    *,
    erased: int,
    now_ns: int,
) -> bool:
    """Whether this moved it: not when another did, or erased from it, since it was read."""
    sha256, data = file
    row = {
        "shard": segment.shard,
        "first_seq": segment.first_seq,
        "last_seq": segment.last_seq,
        "prev_hash": segment.prev_hash,
        "last_hash": segment.last_hash,
        "file": segment.file,
        "sha256": sha256,
        "bytes": len(data),
        "archived_at": now_ns,
    }
    kept = [
        {
            "of": each.event_id,
            "rest": kept_of(bytes(each.payload)),
            "scope": each.user_scope or scope_of(_user(each.payload)),
        }
        for each in rows
        if each.usage_source != "recovered"
    ]
    moved = update(tables.usage_event).where(_EVENT.event_id == bindparam("of"))
    moved = moved.values(payload=bindparam("rest"), user_scope=bindparam("scope"))
    try:
        with ledger.write() as connection:
            lock_shard(connection, segment.shard)
            if _erased(connection, segment) != erased:
                return False
            insert_rows(connection, archive_segment, [row])
            if kept:
                connection.execute(moved, kept)
    except IntegrityError:  # another archived it
        return False
    return True


def lock_shard(connection: Connection, shard: int) -> None:
    """Keep archive and erasure apart, as the writer keeps batches."""
    mark = tables.watermark
    connection.execute(select(mark.c.shard).where(mark.c.shard == shard).with_for_update()).all()


def _erased(connection: Connection, segment: Segment) -> int:
    query = (
        select(func.count())
        .select_from(tables.usage_event)
        .join(event_erasure, event_erasure.c.event_id == _EVENT.event_id)
        .where(_EVENT.shard == segment.shard)
        .where(_EVENT.seq >= segment.first_seq, _EVENT.seq <= segment.last_seq)
    )
    return int(connection.execute(query).scalar_one())


def _user(payload: bytes) -> Any:
    return orjson.loads(payload).get("user")


def segments_of(connection: Connection) -> dict[int, list[Any]]:
    """By shard, the rows of what was moved, in the order of the chain; `sha256` as it is now."""
    rewritten = {
        (row.shard, row.first_seq): row.sha256
        for row in connection.execute(select(archive_rewrite).order_by(archive_rewrite.c.id))
    }
    found: dict[int, list[Any]] = {}
    query = select(archive_segment).order_by(_SEGMENT.shard, _SEGMENT.first_seq)
    for row in connection.execute(query).mappings():
        now = {**row, "sha256": rewritten.get((row["shard"], row["first_seq"]), row["sha256"])}
        found.setdefault(row["shard"], []).append(now)
    return found
