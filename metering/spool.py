"""The spool: commits that wait on disk while Redis is away, or until the ledger has them.

`<data_dir>/spool/<proxy_id>/`, whose files are `metering.spool_folder`'s.

Rules:
- `append` returns after fdatasync; appends that come while one runs share the next.
- Records are replayed in order through `Caps.commit`, which is idempotent; a segment is put away
  only when each of its records was taken, and stays as `.sent` until `discard` or `forget`: what
  Redis has taken it may lose again. What stands before a torn tail is never lost.
- Sequence numbers never come again, whatever the run.
- A failed write fails its appends, and `is_writable` says so until the disk takes something.
- A record of this run that Redis is known to have is not replayed, until `distrust` says that Redis
  may have lost it; one that the ledger is known to have never is.
- One that Redis will never take stops no other: its segment is put aside as `.damaged`, and those
  that were taken are kept in one of their own.
- One that Redis does not take now stops no other either: it is tried again after RETRY_S.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from metering.background import spawn
from metering.caps import Caps, Hold, HoldEndedError, Vector
from metering.clock import monotonic_s, now_ns
from metering.ids import is_id
from metering.seq_ranges import SeqRanges
from metering.spool_codec import SpoolRecord, encode_record
from metering.spool_folder import SpoolFolder

_T = TypeVar("_T")

SEGMENT_BYTES = 8 * 1024 * 1024
"""Replay reads a whole segment; this is how much of it is in memory at once."""
WAITING_MAX = 10_000
"""Appends waiting for the disk; one that is this far behind fails the request, not the process."""
IN_FLIGHT = 64
"""Records that are committed at once. They leave in one write and are answered in one turn: more
gain nothing, and requests wait for so many scripts at most."""
RETRY_S = 30.0
"""Pause before what Redis refused by itself, such as one tenant's broken key, is tried again."""
FORGET_SENT_S = 60.0
"""With `metering.spool: outage`: what a Redis that is still the same has had for so long is on its
disk, whose sync it does every second and puts off by seconds at most, and on its replicas."""
KEEP_SENT_S = 7 * 86_400
"""A segment that was taken and is not in the ledger after so long should be looked at."""


class SpoolError(Exception):
    """The disk did not take a record; nothing of it is kept."""


@dataclass(frozen=True, slots=True)
class SpoolDepth:
    """What waits on disk for Redis: commits (an estimate where earlier runs left very many), their
    bytes, and how long the oldest of them has waited."""

    records: int = 0
    bytes: int = 0
    oldest_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What a replay did: records taken, segments put away, bytes that were no whole record.

    `refused` says of each record that Redis will never take what is wrong with it; `put_off` the
    same of those that wait for another try, once for each.
    """

    records: int = 0
    segments: int = 0
    damaged_bytes: int = 0
    refused: tuple[str, ...] = ()
    put_off: tuple[str, ...] = ()


IsItsOwn = Callable[[BaseException], Awaitable[bool]]
"""Whether a failed commit says something of its record, and not of Redis altogether."""


@dataclass(slots=True)
class _Taking:
    """What came of the records of one segment."""

    taken: int = 0
    refused: dict[int, str] = field(default_factory=dict)
    put_off: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Append:
    seq: int
    exchange_id: str
    data: bytes
    written: asyncio.Future[None]


class Spool:
    """One proxy's spool. One process writes it; `open` first, `close` last."""

    def __init__(
        self,
        data_dir: Path,
        proxy_id: str,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        on_kept: Callable[[str], None] | None = None,
    ) -> None:
        """`on_kept` hears the exchange of each record that is on disk to stay."""
        if not is_id(proxy_id):
            raise ValueError(f"{proxy_id!r} cannot name a folder of the spool")
        self.proxy_id = proxy_id
        self._folder = SpoolFolder(
            data_dir / "spool" / proxy_id,
            segment_bytes=segment_bytes,
            next_seq=lambda: self._next_seq,
        )
        self._on_kept = on_kept
        self._next_seq = 1
        self._waiting: list[_Append] = []
        self._writer: asyncio.Task[None] | None = None
        self._disk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spool")
        self._is_closed = False
        self._first_seq = 1
        self._unsettled: dict[int, tuple[float, int]] = {}
        """The records of this run that Redis may not have: since when (monotonic s), bytes."""
        self._unsettled_bytes = 0
        self._confirmed = SeqRanges()
        self._owed: dict[int, str] = {}
        """The exchanges of the unsettled records."""
        self._put_off: dict[int, str] = {}
        """Records that Redis refused by themselves, and their exchanges; their segments are tried
        again at `_due_s`."""
        self._due_s: dict[Path, float] = {}
        self.is_writable = True
        """Whether the disk took what it was given last."""

    @property
    def depth(self) -> SpoolDepth:
        """What waits for Redis now."""
        earlier = list(self._folder.waiting.values())
        ages_s = [now_ns() / 1e9 - segment.written_s for segment in earlier]
        ages_s += [monotonic_s() - since_s for since_s, _ in self._oldest()]
        return SpoolDepth(
            len(self._unsettled) + sum(segment.records for segment in earlier),
            self._unsettled_bytes + sum(segment.bytes for segment in earlier),
            max(0.0, *ages_s) if ages_s else 0.0,
        )

    @property
    def exchanges(self) -> set[str]:
        """Those of this run that have a record here which Redis may not have."""
        return {*self._owed.values(), *self._put_off.values()}

    async def open(self) -> None:
        """Make the folder, find where the sequence goes on, start a segment."""
        self._next_seq = self._first_seq = await self._on_disk(self._folder.open)
        await self._on_disk(self._folder.begin)

    async def close(self) -> None:
        """Wait for the appends under way, put away what Redis has, close the segment.

        What is left is what the next run has to replay.
        """
        self._is_closed = True
        if self._writer is not None:
            await asyncio.wait([self._writer])
        try:
            await self._on_disk(self._close)
        finally:
            self._disk.shutdown()

    def committed(self, seq: int) -> None:
        """Redis has taken this record: neither this run nor the next one replays it."""
        self._put_off.pop(seq, None)
        self._owed.pop(seq, None)
        _, size = self._unsettled.pop(seq, (0.0, 0))
        self._unsettled_bytes -= size

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
        self._waiting.append(_Append(number, hold.exchange_id, data, written))
        self._unsettled[number] = (monotonic_s(), len(data))
        self._unsettled_bytes += len(data)
        self._owed[number] = hold.exchange_id
        if self._writer is None:
            self._writer = spawn(self._write_waiting(), name="spool-writer")
        await written
        return number

    async def replay(
        self, caps: Caps, *, waited_s: float = 0.0, is_its_own: IsItsOwn | None = None
    ) -> ReplayReport:
        """Commit every record that waits, oldest first.

        Stops with the error of the first commit that fails, unless that is the record's own; what
        was done is done, and the next replay goes on there. The segment that is written to is left
        alone unless one of its records has waited for `waited_s`.
        """
        folder = self._folder
        if any(since_s <= monotonic_s() - waited_s for since_s, _ in self._oldest()):
            await self._on_disk(folder.rotate)
        report = ReplayReport()
        for path in await self._on_disk(lambda: folder.segments("ready")):
            if self._due_s.get(path, 0.0) > monotonic_s():
                continue
            records, damage = await self._on_disk(partial(folder.read, path))
            lacking = list(filter(self._may_lack, records))
            found = await self._commit(caps, lacking, is_its_own)
            news = [why for seq, why in found.put_off.items() if seq not in self._put_off]
            refused = [*(each.cause for each in damage if each.cause), *found.refused.values()]
            rest = [record for record in lacking if record.seq in found.put_off]
            await self._end(path, rest, found, is_damaged=bool(damage or refused))
            for record in records:
                self.committed(record.seq)
            self._put_off.update((record.seq, record.hold.exchange_id) for record in rest)
            report = ReplayReport(
                report.records + found.taken,
                report.segments + (path not in self._due_s),
                report.damaged_bytes + sum(each.length for each in damage),
                (*report.refused, *refused),
                (*report.put_off, *news),
            )
        return report

    async def _end(
        self, path: Path, rest: Sequence[SpoolRecord], found: _Taking, *, is_damaged: bool
    ) -> None:
        """Put a segment away of which only `rest` is still lacking; that waits for its next try."""
        folder, due_s = self._folder, monotonic_s() + RETRY_S
        was_due = self._due_s.pop(path, None) is not None
        damaged_but = {*found.refused, *found.put_off} if is_damaged else None
        if not rest:
            was_sent = found.taken > 0
            await self._on_disk(lambda: folder.put_away(path, damaged_but, was_sent=was_sent))
        elif was_due and not found.taken and not is_damaged:  # it holds nothing else
            self._due_s[path] = due_s
        else:
            set_apart = partial(folder.set_apart, path, rest, damaged_but)
            self._due_s[await self._on_disk(set_apart)] = due_s

    async def discard(self, confirmed: SeqRanges) -> int:
        """Delete kept segments whose every record the ledger has; returns how many.

        What was confirmed once stays confirmed, although a Redis that was emptied forgot it.
        """
        confirmed = self._confirmed = (self._confirmed | confirmed).newest()
        if confirmed.ranges:  # a number that the disk had no room for was used all the same
            self._next_seq = max(self._next_seq, confirmed.ranges[-1][1] + 1)
        return await self._on_disk(partial(self._folder.discard, confirmed))

    async def forget(self) -> int:
        """Delete what this Redis, which must be the one that took it, has had for FORGET_SENT_S;
        how many segments. Where nobody confirms them they would pile up."""
        return await self._on_disk(partial(self._folder.forget, FORGET_SENT_S))

    async def distrust(self, *, within_s: float | None = None) -> int:
        """Redis may have lost what it took: the next replay commits again what it was given, but
        for what the ledger is known to have. `within_s` leaves older segments alone.

        Returns how many kept segments that concerns.
        """
        since_s = 0.0 if within_s is None else now_ns() / 1e9 - within_s
        queued = {
            each.seq for each in self._waiting
        }  # they reach the disk behind what is done here
        written = [seq for seq in self._unsettled if seq not in queued]
        lacking = await self._on_disk(
            partial(self._folder.unsend, self._confirmed, since_s=since_s)
        )
        self._first_seq = self._next_seq
        self._put_off.clear()
        self._due_s.clear()
        for seq in written:  # they are among what waits in segments now
            self.committed(seq)
        return lacking

    async def check(self) -> None:
        """Find out whether the disk takes anything; `is_writable` says it afterwards."""
        try:
            await self._on_disk(self._folder.probe)
        except OSError:
            self.is_writable = False
        else:
            self.is_writable = True

    async def overdue(self) -> int:
        """How many segments the ledger should have had for KEEP_SENT_S; they stay."""
        return await self._on_disk(partial(self._folder.overdue, KEEP_SENT_S))

    async def _commit(
        self, caps: Caps, records: Sequence[SpoolRecord], is_its_own: IsItsOwn | None
    ) -> _Taking:
        """Commit these, as far as Redis takes any."""
        found = _Taking()
        for start in range(0, len(records), IN_FLIGHT):
            batch = records[start : start + IN_FLIGHT]
            answers = await asyncio.gather(
                *(caps.commit(record.hold, record.actual, record.events) for record in batch),
                return_exceptions=True,
            )
            failure: BaseException | None = None
            for record, answer in zip(batch, answers, strict=True):
                why = f"record {record.seq}: {answer!r}"
                if not isinstance(answer, BaseException):
                    self.committed(record.seq)
                    found.taken += 1
                elif isinstance(answer, ValueError | HoldEndedError):
                    found.refused[record.seq] = why
                elif is_its_own is not None and await is_its_own(answer):
                    found.put_off[record.seq] = why
                else:
                    failure = failure or answer
            if failure is not None:
                raise failure
        return found

    def _oldest(self) -> Sequence[tuple[float, int]]:
        """The record that has waited longest; nothing when none does."""
        return [next(iter(self._unsettled.values()))] if self._unsettled else []

    def _may_lack(self, record: SpoolRecord) -> bool:
        """Whether Redis may not have it; of earlier runs that is not known."""
        seq = record.seq
        if seq in self._confirmed:
            return False
        return seq < self._first_seq or seq in self._unsettled or seq in self._put_off

    async def _write_waiting(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                failure: SpoolError | None = SpoolError("the writer was stopped")
                try:
                    data = b"".join(each.data for each in batch)
                    await self._on_disk(partial(self._folder.write, data))
                    failure = None
                except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
                    reason = getattr(error, "strerror", None) or str(error) or repr(error)
                    failure = SpoolError(f"cannot write {self._folder.current}: {reason}")
                    failure.__cause__ = error
                finally:
                    self.is_writable = failure is None
                    self._tell(batch, failure)
        finally:
            self._writer = None

    def _tell(self, batch: Sequence[_Append], failure: SpoolError | None) -> None:
        for each in batch:
            if failure is not None:
                self.committed(each.seq)  # nothing of it is kept, so nothing is owed
            elif self._on_kept is not None:
                self._on_kept(each.exchange_id)
            if each.written.done():
                continue  # its caller was cancelled; the record stands, and replays once
            if failure is None:
                each.written.set_result(None)
            else:
                each.written.set_exception(failure)

    def _close(self) -> None:
        """Leave for the next run only what Redis may lack. Runs in the thread of the disk."""
        folder = self._folder
        folder.end()
        with contextlib.suppress(OSError):  # as after a crash, then: all of it is replayed
            for path in [*folder.segments("ready"), *folder.segments("open")]:
                records, damage = folder.read(path)
                rest = [record for record in records if self._may_lack(record)]
                if not damage and len(rest) < len(records):
                    folder.rewrite(path, rest)
        folder.end()

    async def _on_disk(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, work)
