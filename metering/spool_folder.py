"""The spool's folder: segments as files, what their names say, and when they may go. Shell.

`<number>-<next seq>.open | .ready | .sent | .damaged`: append-only segments, numbered in the order
they were begun. Everything here blocks and is called by the one thread that the spool has for its
disk, so nothing needs a lock.

Rules:
- A segment of an earlier run is never written to, so a torn tail is always at the end of a file.
- A failed write is cut off again; the records before it stand.
- The newest segment stays, whatever it holds: its name is where the sequence goes on.
- A rename, and a file that was made, is synced with its folder before anybody relies on it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from metering.clock import now_ns
from metering.seq_ranges import SeqRanges
from metering.spool_codec import MARK, Damage, SpoolRecord, decode_records, encode_record

PROBE_BYTES = 64 * 1024
"""What must fit on the disk for it to count as writable: a batch of appends."""
COUNTED_MAX = 8
"""Waiting segments whose records are counted; of more than that the number is an estimate."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A file whose records wait: how many (beyond COUNTED_MAX files, about how many), how large."""

    records: int
    bytes: int
    written_s: float
    """When it was written to last, seconds since the epoch."""


class SpoolFolder:
    """The segments of one spool. `next_seq` is asked when a segment is begun."""

    def __init__(self, path: Path, *, segment_bytes: int, next_seq: Callable[[], int]) -> None:
        self.path = path
        self.current = path
        """The segment that is written to."""
        self.waiting: dict[Path, Segment] = {}
        """Segments of which this run does not know what Redis has of them."""
        self._segment_bytes = segment_bytes
        self._next_seq = next_seq
        self._next_segment = 1
        self._file: int | None = None
        self._size = 0
        self._kept: dict[Path, SeqRanges] = {}

    def open(self) -> int:
        """Make the folder and say which number comes next; `begin` is the next call."""
        self.path.mkdir(parents=True, exist_ok=True)
        for path in self.segments("open"):  # of a run that ended without closing
            path.rename(path.with_suffix(".ready"))
        next_seq = 1
        for path in sorted(path for path in self.path.iterdir() if path.name[0].isdigit())[-1:]:
            next_seq = _last_seq(path) + 1
            self._next_segment = int(path.stem.partition("-")[0]) + 1
        self._wait(self.segments("ready"))
        return next_seq

    def begin(self) -> None:
        """Start a segment."""
        name = f"{self._next_segment:012d}-{self._next_seq():020d}.open"
        path = self.path / name
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self.current = path
        self._next_segment += 1
        _sync_folder(self.path)

    def end(self) -> None:
        """Let go of the segment that is written to; it stays `.open`."""
        if self._file is not None:
            os.close(self._file)
        self._file, self._size = None, 0

    def write(self, data: bytes) -> None:
        """Append, and return once it is there to stay."""
        if self._size and self._size + len(data) > self._segment_bytes:
            self.rotate()
        if self._file is None:  # the disk had no room for a new segment; it may have now
            self.begin()
        assert self._file is not None
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._file, view) :]
            os.fdatasync(self._file)
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        self._size += len(data)

    def probe(self) -> None:
        """OSError unless the disk takes what a batch of appends needs."""
        path = self.path / ".probe"
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            view = memoryview(bytes(PROBE_BYTES))
            while view:
                view = view[os.write(handle, view) :]
            os.fdatasync(handle)
        finally:
            os.close(handle)
            path.unlink()

    def rotate(self) -> None:
        """Make what was appended so far replayable; an empty segment is nothing to replay."""
        if self._size == 0:
            return
        ended = self.current
        self.end()
        ended.rename(ended.with_suffix(".ready"))
        self.begin()

    def segments(self, state: str) -> list[Path]:
        """The segments in that state, oldest first."""
        return sorted(self.path.glob(f"[0-9]*.{state}"))

    def read(self, path: Path) -> tuple[list[SpoolRecord], list[Damage]]:
        """Every whole record of a segment, and what lies between them."""
        return _read(path)

    def put_away(
        self, path: Path, damaged_but: Set[int] | None = None, *, was_sent: bool = False
    ) -> None:
        """Redis has all of it: it stays as `.sent` until that is sure to be on a disk.

        `was_sent` says that Redis has some of it only since now, which its age then counts from.
        Damage is kept for a person to look at: what was torn was never promised, but who knows. Its
        whole records, without the numbers in `damaged_but`, are kept as `.sent` beside it.
        """
        if was_sent:
            os.utime(path)
        if damaged_but is None:
            path.rename(path.with_suffix(".sent"))
        else:
            if taken := [each for each in self.read(path)[0] if each.seq not in damaged_but]:
                kept = self._write_apart(taken)
                kept.rename(kept.with_suffix(".sent"))
            path.rename(path.with_suffix(".damaged"))
        self.waiting.pop(path, None)
        _sync_folder(path.parent)

    def rewrite(self, path: Path, rest: Sequence[SpoolRecord]) -> None:
        """Put a segment away whose `rest` is all that Redis may lack, and write that anew.

        A crash in between leaves both, which repeats what is harmless to repeat for a while.
        """
        if self._file is None:
            self.begin()  # the newest stays, for the sake of the numbers
        if rest:
            self.write(b"".join(encode_record(record) for record in rest))
        self.put_away(path)

    def set_apart(
        self, path: Path, rest: Sequence[SpoolRecord], damaged_but: Set[int] | None
    ) -> Path:
        """Put a segment away that was taken but for `rest`, which becomes a segment of its own.

        A crash in between leaves both, which repeats what is harmless to repeat for a while.
        """
        written_ns = path.stat().st_mtime_ns
        apart = self._write_apart(rest)
        os.utime(apart, ns=(written_ns, written_ns))  # for whoever asks how long it has waited
        self._wait([apart])
        self.put_away(path, damaged_but, was_sent=True)
        return apart

    def forget(self, age_s: float) -> int:
        """Delete segments that Redis has had for longer than that; how many."""
        oldest_s = now_ns() / 1e9 - age_s
        done = [path for path in self.segments("sent") if path.stat().st_mtime < oldest_s]
        for path in done:
            self._kept.pop(path, None)
            path.unlink()
        return len(done)

    def unsend(self, confirmed: SeqRanges, *, since_s: float) -> int:
        """Make kept segments replayable that Redis got since then and are not all confirmed.

        How many there were.
        """
        lacking = [
            path
            for path in self.segments("sent")
            if path.stat().st_mtime >= since_s and not confirmed.covers(self._numbers(path))
        ]
        for path in lacking:
            self._kept.pop(path, None)
            path.rename(path.with_suffix(".ready"))
        _sync_folder(self.path)
        self.rotate()
        self._wait(self.segments("ready"))
        return len(lacking)

    def discard(self, confirmed: SeqRanges) -> int:
        """Delete kept segments whose every record is confirmed; how many."""
        done = [path for path in self.segments("sent") if confirmed.covers(self._numbers(path))]
        for path in done:
            self._kept.pop(path, None)
            path.unlink()
        return len(done)

    def overdue(self, age_s: float) -> int:
        """How many kept segments are older than that."""
        oldest_s = now_ns() / 1e9 - age_s
        return sum(path.stat().st_mtime < oldest_s for path in self.segments("sent"))

    def _write_apart(self, records: Sequence[SpoolRecord]) -> Path:
        """A `.ready` segment with these and nothing else."""
        self.rotate()
        self.write(b"".join(encode_record(record) for record in records))
        apart = self.current.with_suffix(".ready")
        self.rotate()
        return apart

    def _wait(self, paths: Sequence[Path]) -> None:
        """Note what waits; a start cannot read a gigabyte for the sake of a number."""
        sizes = {path: path.stat().st_size for path in paths}
        counts = {path: path.read_bytes().count(MARK) for path in paths[:COUNTED_MAX]}
        counted_bytes = max(1, sum(sizes[path] for path in counts))
        for path, size in sizes.items():
            records = counts.get(path, size * sum(counts.values()) // counted_bytes)
            self.waiting[path] = Segment(records, size, path.stat().st_mtime)

    def _numbers(self, path: Path) -> SeqRanges:
        numbers = self._kept.get(path)
        if numbers is None:
            numbers = SeqRanges.of(record.seq for record in _read(path)[0])
            self._kept[path] = numbers
        return numbers


def _read(path: Path) -> tuple[list[SpoolRecord], list[Damage]]:
    records: list[SpoolRecord] = []
    damage: list[Damage] = []
    for found in decode_records(path.read_bytes()):
        if isinstance(found, Damage):
            damage.append(found)
        else:
            records.append(found)
    return records, damage


def _last_seq(path: Path) -> int:
    """The highest number the segment can have used: its records, or the one before its name."""
    records, _ = _read(path)
    return max([int(path.stem.partition("-")[2]) - 1, *(record.seq for record in records)])


def _sync_folder(folder: Path) -> None:
    """A rename or a new file survives a power cut only once its folder was synced."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
