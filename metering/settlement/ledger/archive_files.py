"""A segment of a shard's events as a file: one JSON object a line, compressed.

The first line says which segment it is. The others hold an event each: its place, its id, the hash
of what came, and what came (`payload`). Where something was erased, `kept_hash` is the hash of what
is left. The same events are the same bytes. A file is there whole or not at all.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

FORMAT = "tokenweir-archive"
SUFFIX = ".jsonl.gz"
_LEVEL = 6


class ArchiveError(Exception):
    """A file is not there, or is not what it should be; the message names it."""


@dataclass(frozen=True, slots=True)
class Line:
    """One archived event."""

    seq: int
    event_id: str
    payload_hash: str
    payload: bytes
    kept_hash: str | None = None

    @property
    def is_sound(self) -> bool:
        """Whether the payload is the one of its hash."""
        found = hashlib.sha256(self.payload).hexdigest()
        return found == (self.kept_hash or self.payload_hash)


@dataclass(frozen=True, slots=True)
class Segment:
    """Which events of a shard's chain a file holds, and the chain's hashes around them."""

    shard: int
    first_seq: int
    last_seq: int
    prev_hash: str
    last_hash: str

    @property
    def file(self) -> str:
        """The name of the file; in the order of the chain when sorted."""
        return f"shard-{self.shard:02d}-{self.first_seq:012d}-{self.last_seq:012d}{SUFFIX}"


def encode_segment(segment: Segment, lines: Iterable[Line]) -> bytes:
    """The file's bytes."""
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=_LEVEL, mtime=0) as packed:
        head = {"format": FORMAT, "v": 1, **{name: getattr(segment, name) for name in _HEAD}}
        packed.write(orjson.dumps(head) + b"\n")
        for line in lines:
            body: dict[str, Any] = {
                "seq": line.seq,
                "event_id": line.event_id,
                "payload_hash": line.payload_hash,
                "payload": line.payload.decode(),
            }
            if line.kept_hash is not None:
                body["kept_hash"] = line.kept_hash
            packed.write(orjson.dumps(body) + b"\n")
    return out.getvalue()


_HEAD = ("shard", "first_seq", "last_seq", "prev_hash", "last_hash")


def read_segment(data: bytes, name: str) -> tuple[Segment, list[Line]]:
    """What `encode_segment` wrote; ArchiveError when something else did."""
    try:
        head, *rows = gzip.decompress(data).splitlines()
        said = orjson.loads(head)
        if said["format"] != FORMAT or said["v"] != 1:
            raise ValueError("another format")
        segment = Segment(*(said[each] for each in _HEAD))
        return segment, [_line(orjson.loads(row)) for row in rows]
    except (ValueError, KeyError, TypeError, EOFError, OSError, zlib.error) as error:
        raise ArchiveError(f"{name} is no archive of a ledger: {type(error).__name__}") from None


def _line(body: dict[str, Any]) -> Line:
    return Line(
        body["seq"],
        body["event_id"],
        body["payload_hash"],
        body["payload"].encode(),
        body.get("kept_hash"),
    )


def check_lines(segment: Segment, lines: Sequence[Line]) -> None:
    """ArchiveError unless these are all the segment's events, each with what came."""
    places = list(range(segment.first_seq, segment.last_seq + 1))
    if [line.seq for line in lines] != places:
        raise ArchiveError(f"{segment.file} does not hold the events it names")
    for line in lines:
        if not line.is_sound:
            raise ArchiveError(f"{segment.file}: event {line.seq} has another payload than came")


def read_file(folder: Path, name: str) -> bytes:
    """The bytes of a file; ArchiveError when there is none."""
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        cause = error.strerror or type(error).__name__
        raise ArchiveError(f"{folder / name} cannot be read: {cause}") from None


def write_file(folder: Path, name: str, data: bytes) -> str:
    """Put the file there for good, in the place of an older one; its hash, of what can be read."""
    draft = folder / f".{name}.{os.getpid()}.part"
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(folder / name)
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        draft.unlink(missing_ok=True)
        cause = error.strerror or type(error).__name__
        raise ArchiveError(f"{folder / name} cannot be written: {cause}") from None
    if read_file(folder, name) != data:
        raise ArchiveError(f"{folder / name} does not read as it was written")
    return hashlib.sha256(data).hexdigest()
