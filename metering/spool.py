"""The spool: commits that wait on disk while Redis is away, or until the ledger has them.

`<data_dir>/spool/<proxy_id>/<number>-<next seq>.open | .ready | .sent | .damaged`: append-only
segments, numbered in the order they were begun.

Rules:
- `append` returns after fdatasync; appends that come while one runs share the next.
- A segment of an earlier run is never written to, so a torn tail is always at the end of a file.
- Records are replayed in order through `Caps.commit`, which is idempotent; a segment is put away
  only when each of its records was taken. What stands before a torn tail is never lost.
- Sequence numbers never come again: the newest segment stays, and its name is where to go on.
- A failed write is cut off again and fails its appends; the records before it stand.
- A record of this run that Redis is known to have is not replayed; one that Redis will never take
  stops no other, and its segment is put aside as `.damaged`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

from metering.background import spawn
from metering.caps import Caps, Hold, HoldEndedError, Vector
from metering.clock import monotonic_s, now_ns
from metering.ids import is_id
from metering.spool_codec import Damage, SpoolRecord, decode_records, encode_record

_T = TypeVar("_T")

SEGMENT_BYTES = 8 * 1024 * 1024
"""Replay reads a whole segment; this is how much of it is in memory at once."""
WAITING_MAX = 10_000
"""Appends waiting for the disk; one that is this far behind fails the request, not the process."""


KEEP_SENT_S = 7 * 86_400
"""How long a segment stays that was taken, where such are kept."""
_FORGET_EVERY_S = 3_600.0


class SpoolError(Exception):
    """The disk did not take a record; nothing of it is kept."""


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What a replay did: records taken, segments put away, bytes that were no whole record.

    `refused` says of each record that Redis will never take what is wrong with it.
    """

    records: int = 0
    segments: int = 0
    damaged_bytes: int = 0
    refused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Append:
    seq: int
    data: bytes
    written: asyncio.Future[None]


class Spool:
    """One proxy's spool. One process writes it; `open` first, `close` last."""

    def __init__(
        self, data_dir: Path, proxy_id: str, *, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        if not is_id(proxy_id):
            raise ValueError(f"{proxy_id!r} cannot name a folder of the spool")
        self._folder = data_dir / "spool" / proxy_id
        self._segment_bytes = segment_bytes
        self._next_seq = 1
        self._next_segment = 1
        self._waiting: list[_Append] = []
        self._writer: asyncio.Task[None] | None = None
        self._disk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spool")
        self._file: int | None = None
        self._path = self._folder
        self._size = 0
        self._is_closed = False
        self._first_seq = 1
        self._unsettled: dict[int, float] = {}
        """The records of this run that Redis may not have, and since when (monotonic s)."""
        self._forget_at_s = 0.0

    async def open(self) -> None:
        """Make the folder, find where the sequence goes on, start a segment."""
        await self._on_disk(self._open)

    async def close(self, *, keep: bool = False) -> None:
        """Wait for the appends under way, put away what Redis has, close the segment.

        What is left is what the next run has to replay. `keep` as in `replay`.
        """
        self._is_closed = True
        if self._writer is not None:
            await asyncio.wait([self._writer])
        try:
            await self._on_disk(partial(self._close, keep=keep))
        finally:
            self._disk.shutdown()

    def committed(self, seq: int) -> None:
        """Redis has taken this record: neither this run nor the next one replays it."""
        self._unsettled.pop(seq, None)

    def take_seq(self) -> int:
        """The next sequence number, for events that must carry it before they are encoded."""
        seq, self._next_seq = self._next_seq, self._next_seq + 1
        return seq

    async def append(
        self, hold: Hold, actual: Vector, events: Sequence[bytes], *, seq: int | None = None
    ) -> int:
        """Put a commit on disk and return its sequence number once it is there to stay.

        SpoolError when the disk is full or failing: then the record is not kept.
        """
        if self._is_closed:
            raise SpoolError("the spool is closed")
        if len(self._waiting) >= WAITING_MAX:
            raise SpoolError(f"{WAITING_MAX} records wait for the disk already")
        number = self.take_seq() if seq is None else seq
        data = encode_record(SpoolRecord(number, hold, actual, tuple(events)))
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Append(number, data, written))
        self._unsettled[number] = monotonic_s()
        if self._writer is None:
            self._writer = spawn(self._write_waiting(), name="spool-writer")
        await written
        return number

    async def replay(
        self, caps: Caps, *, keep: bool = False, waited_s: float = 0.0
    ) -> ReplayReport:
        """Commit every record that waits, oldest first.

        Stops with the error of the first commit that fails; what was done is done, and the next
        replay goes on there. `keep` leaves what was taken on disk until `discard` says that the
        ledger has it (`metering.spool: always`), or for KEEP_SENT_S. The segment that is written
        to is left alone unless one of its records has waited for `waited_s`.
        """
        if any(since_s <= monotonic_s() - waited_s for since_s in self._oldest()):
            await self._on_disk(self._rotate)
        report = ReplayReport()
        for path in await self._on_disk(lambda: self._segments("ready")):
            records, damage = await self._on_disk(partial(_read, path))
            taken, refused = 0, [each.cause for each in damage if each.cause]
            for record in filter(self._may_lack, records):
                try:
                    await caps.commit(record.hold, record.actual, record.events)
                except (ValueError, HoldEndedError) as error:
                    refused.append(f"record {record.seq}: {error!r}")
                    continue
                self.committed(record.seq)
                taken += 1
            is_kept, is_damaged = keep and bool(records), bool(damage or refused)
            await self._on_disk(partial(_put_away, path, keep=is_kept, is_damaged=is_damaged))
            for record in records:
                self.committed(record.seq)
            report = ReplayReport(
                report.records + taken,
                report.segments + 1,
                report.damaged_bytes + sum(each.length for each in damage),
                (*report.refused, *refused),
            )
        if monotonic_s() >= self._forget_at_s:
            self._forget_at_s = monotonic_s() + _FORGET_EVERY_S
            await self._on_disk(self._forget_sent)
        return report

    async def discard(self, confirmed_seq: int) -> int:
        """Delete kept segments whose every record the ledger has; returns how many."""
        return await self._on_disk(lambda: self._discard(confirmed_seq))

    def _oldest(self) -> Iterable[float]:
        """Since when the record has waited that has waited longest; nothing when none does."""
        return islice(self._unsettled.values(), 1)

    def _may_lack(self, record: SpoolRecord) -> bool:
        """Whether Redis may not have it; of earlier runs that is not known."""
        return record.seq < self._first_seq or record.seq in self._unsettled

    async def _write_waiting(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                failure: SpoolError | None = SpoolError("the writer was stopped")
                try:
                    data = b"".join(each.data for each in batch)
                    await self._on_disk(partial(self._write, data))
                    failure = None
                except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
                    reason = getattr(error, "strerror", None) or str(error) or repr(error)
                    failure = SpoolError(f"cannot write {self._path}: {reason}")
                    failure.__cause__ = error
                finally:
                    self._tell(batch, failure)
        finally:
            self._writer = None

    def _tell(self, batch: Sequence[_Append], failure: SpoolError | None) -> None:
        for each in batch:
            if failure is not None:
                self.committed(each.seq)  # nothing of it is kept, so nothing is owed
            if each.written.done():
                continue  # its caller was cancelled; the record stands, and replays once
            if failure is None:
                each.written.set_result(None)
            else:
                each.written.set_exception(failure)

    # What follows runs in the one thread of the disk, so it needs no lock.

    def _open(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in self._segments("open"):  # of a run that ended without closing
            path.rename(path.with_suffix(".ready"))
        for path in sorted(self._folder.iterdir())[-1:]:  # the newest is named after the others
            self._next_seq = _last_seq(path) + 1
            self._next_segment = int(path.stem.partition("-")[0]) + 1
        self._first_seq = self._next_seq
        self._start_segment()

    def _start_segment(self) -> None:
        name = f"{self._next_segment:012d}-{self._next_seq:020d}.open"
        self._path = self._folder / name
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._next_segment += 1
        _sync_folder(self._folder)

    def _close_segment(self) -> None:
        if self._file is not None:
            os.close(self._file)
        self._file, self._size = None, 0

    def _close(self, *, keep: bool) -> None:
        """Leave for the next run only what Redis may lack.

        A segment that it has in part is written anew without that part; a crash in between leaves
        both, which repeats what is harmless to repeat for a while.
        """
        self._close_segment()
        with contextlib.suppress(OSError):  # as after a crash, then: all of it is replayed
            for path in [*self._segments("ready"), *self._segments("open")]:
                self._leave_rest(path, keep=keep)
        self._close_segment()

    def _leave_rest(self, path: Path, *, keep: bool) -> None:
        records, damage = _read(path)
        rest = [record for record in records if self._may_lack(record)]
        if damage or len(rest) == len(records):
            return
        if self._file is None:
            self._start_segment()  # the newest stays, for the sake of the numbers
        if rest:
            self._write(b"".join(encode_record(record) for record in rest))
        _put_away(path, keep=keep, is_damaged=False)

    def _forget_sent(self) -> None:
        oldest_s = now_ns() / 1e9 - KEEP_SENT_S
        for path in self._segments("sent"):
            if path.stat().st_mtime < oldest_s:
                path.unlink()

    def _rotate(self) -> None:
        """Make what was appended so far replayable; an empty segment is nothing to replay."""
        if self._size == 0:
            return
        ended = self._path
        self._close_segment()
        ended.rename(ended.with_suffix(".ready"))
        self._start_segment()

    def _write(self, data: bytes) -> None:
        if self._size and self._size + len(data) > self._segment_bytes:
            self._rotate()
        if self._file is None:  # the disk had no room for a new segment; it may have now
            self._start_segment()
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

    def _segments(self, state: str) -> list[Path]:
        return sorted(self._folder.glob(f"*.{state}"))

    def _discard(self, confirmed_seq: int) -> int:
        done = [path for path in self._segments("sent") if _last_seq(path) <= confirmed_seq]
        for path in done:
            path.unlink()
        return len(done)

    async def _on_disk(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, work)


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


def _put_away(path: Path, *, keep: bool, is_damaged: bool) -> None:
    """Damage is kept for a person to look at: what was torn was never promised, but who knows."""
    if is_damaged:
        path.rename(path.with_suffix(".damaged"))
    elif keep:
        path.rename(path.with_suffix(".sent"))
    else:
        path.unlink()
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """A rename or a new file survives a power cut only once its folder was synced."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
