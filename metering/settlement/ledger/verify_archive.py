"""Whether what was moved out of the ledger, or erased from it, is just that. Part of `verify`.

Without the folder only the ledger's side is looked at: the places, the chain's hashes around each
file, and what was left behind.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Connection, select

from metering.events import decode
from metering.settlement.ledger import tables
from metering.settlement.ledger.archive import KEPT, kept_of, segments_of
from metering.settlement.ledger.archive_files import (
    ArchiveError,
    Line,
    check_lines,
    read_file,
    read_segment,
)
from metering.settlement.ledger.archive_tables import archive_rewrite, erasure, event_erasure
from metering.settlement.ledger.rows import COPIED

_EVENT = tables.usage_event.c


class Moved:
    """Which events of each shard were moved."""

    def __init__(self, segments: Mapping[int, Sequence[Any]]) -> None:
        self.segments = segments
        self._first = {
            shard: [each["first_seq"] for each in held] for shard, held in segments.items()
        }

    @classmethod
    def of(cls, connection: Connection) -> Moved:
        """As the ledger says."""
        return cls(segments_of(connection))

    def holds(self, shard: int, seq: int) -> bool:
        """Whether the event at this place is in a file."""
        place = bisect_right(self._first.get(shard, []), seq) - 1
        return place >= 0 and seq <= self.segments[shard][place]["last_seq"]


def is_rest(payload: Any) -> bool:
    """Whether this is what stays behind of a payload that was moved."""
    try:
        said = orjson.loads(payload)
    except (orjson.JSONDecodeError, TypeError):
        return False
    return isinstance(said, dict) and said.keys() <= set(KEPT)


def verify_archive(connection: Connection, moved: Moved, folder: Path | None) -> Iterator[str]:
    """What does not hold, in words."""
    for shard, held in moved.segments.items():
        end = 0
        for segment in held:
            if segment["first_seq"] != end + 1:
                yield f"shard {shard}: the archives do not follow each other after event {end}"
            end = segment["last_seq"]
            yield from _verify_ends(connection, segment)
            if folder is not None:
                yield from _verify_file(connection, segment, folder)
    yield from _verify_erasures(connection)


def _verify_ends(connection: Connection, segment: Any) -> Iterator[str]:
    query = select(_EVENT.seq, _EVENT.prev_hash, _EVENT.hash).where(
        _EVENT.shard == segment["shard"],
        _EVENT.seq.in_([segment["first_seq"], segment["last_seq"]]),
    )
    rows = {row.seq: row for row in connection.execute(query)}
    first, last = rows.get(segment["first_seq"]), rows.get(segment["last_seq"])
    is_right = first is not None and last is not None
    if not is_right or (first.prev_hash, last.hash) != (  # type: ignore[union-attr]
        segment["prev_hash"],
        segment["last_hash"],
    ):
        yield f"archive {segment['file']} does not stand where the chain says"


def _verify_file(connection: Connection, segment: Any, folder: Path) -> Iterator[str]:
    name = segment["file"]
    try:
        data = read_file(folder, name)
        if hashlib.sha256(data).hexdigest() != segment["sha256"]:
            yield f"archive {name} is not the file that was written"
        said, lines = read_segment(data, name)
        check_lines(said, lines)
    except ArchiveError as error:
        yield f"archive: {error}"
        return
    query = (
        select(tables.usage_event, event_erasure.c.kept_hash)
        .outerjoin(event_erasure, event_erasure.c.event_id == _EVENT.event_id)
        .where(_EVENT.shard == segment["shard"])
        .where(_EVENT.seq >= segment["first_seq"], _EVENT.seq <= segment["last_seq"])
    )
    rows = {row.seq: row for row in connection.execute(query)}
    if rows.keys() != {line.seq for line in lines}:
        yield f"archive {name} does not hold the events of its place"
    for line in lines:
        if (row := rows.get(line.seq)) is not None:
            yield from _verify_line(name, line, row)


def _verify_line(name: str, line: Line, row: Any) -> Iterator[str]:
    where = f"archive {name}: event {line.seq} ({row.event_id})"
    same = (line.event_id, line.payload_hash, line.kept_hash)
    if same != (row.event_id, row.payload_hash, row.kept_hash):
        yield f"{where} is not the ledger's"
        return
    try:
        event = decode(line.payload)
    except (ValueError, TypeError) as error:
        yield f"{where} cannot be read: {error}"
        return
    for field in COPIED:
        if getattr(row, field) != getattr(event, field):
            yield f"{where}: column {field} is not what the payload says"
    if row.usage_source != "recovered" and bytes(row.payload) != kept_of(line.payload):
        yield f"{where}: what stayed in the ledger is not of this payload"


def _verify_erasures(connection: Connection) -> Iterator[str]:
    known = select(erasure.c.id)
    for table in (event_erasure, archive_rewrite):
        query = select(table.c.erasure_id).where(table.c.erasure_id.not_in(known)).distinct()
        for erasure_id in connection.execute(query).scalars():
            yield f"{table.name} names erasure {erasure_id}, which there is not"
