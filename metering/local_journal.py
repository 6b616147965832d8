"""Exchanges that were admitted without Redis, on disk: what a kill would leave nobody to know of.

`<data_dir>/local/<proxy_id>/<exchange_id>`: one file per open exchange whose hold Redis does not
have, saying what its record there would say. Rules:

- `add` returns once the file is there to stay; nothing is sent for an exchange before that.
- A file is replaced whole, and goes when its exchange has ended or is held in Redis.
- What an earlier run has left is committed once, after that run's spool was replayed: the true
  commit comes first, and this one is then a repeat.
- Its events have ids of their own: should the worker have recovered the exchange as well, from a
  hold whose answer never came, that is taken back and this stands.
- What cannot be read is put aside as `.damaged` and told; it is in nobody's way. Nor is what Redis
  does not take for its own sake: it is tried again after RETRY_S, as in the spool.

Disk work is done batch by batch, off the loop: what is asked for while one is under way is the next
one. Of each exchange only the newest is written, and all share one sync of the folder.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Container, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from metering.background import spawn
from metering.caps import Caps, CapsUnavailableError, CommitResult, HoldEndedError
from metering.caps_model import require_amounts
from metering.clock import monotonic_s
from metering.events import decode, encode
from metering.ids import derived_id, is_id
from metering.local_codec import LocalRecord, decode_local, encode_local
from metering.recovery import Recovery, recovery
from metering.spool import RETRY_S, IsItsOwn

_T = TypeVar("_T")

WAITING_MAX = 1_000
"""Exchanges that wait for the disk; one that comes after so many is not admitted."""

HANDS = 8
"""Files of one batch that are synced at once: they share what the file system writes for it."""

_PURPOSE = "local"


class JournalError(CapsUnavailableError):
    """The disk did not take it; an exchange that was to be added is not."""


@dataclass(frozen=True, slots=True)
class Leftover:
    """An exchange of an earlier run: `cause` says why it cannot be recovered, '' when it was.

    `owner` is the process that died, `made` what was committed. One that `is_put_off` is tried
    again.
    """

    exchange_id: str
    tenant: str = ""
    owner: str = ""
    made: Recovery | None = None
    cause: str = ""
    is_put_off: bool = False


@dataclass(frozen=True, slots=True)
class _Write:
    """A file's new content; None when it is to go, which nobody waits for."""

    exchange_id: str
    data: bytes | None
    done: asyncio.Future[None] | None = None


class LocalJournal:
    """One proxy's files. One process writes them; `open` first, `close` last."""

    def __init__(self, data_dir: Path, proxy_id: str) -> None:
        if not is_id(proxy_id):
            raise ValueError(f"{proxy_id!r} cannot name a folder of the journal")
        self._path = data_dir / "local" / proxy_id
        self._held: dict[str, LocalRecord] = {}
        self._left: dict[str, float] = {}
        """What earlier runs have left, and when it is tried again (monotonic s; 0 is now)."""
        self._waiting: list[_Write] = []
        self._writer: asyncio.Task[None] | None = None
        self._disk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="local-journal")
        self._hands = ThreadPoolExecutor(max_workers=HANDS, thread_name_prefix="local-file")

    async def open(self) -> None:
        """Make the folder and find what earlier runs have left."""
        self._left = dict.fromkeys(await self._on_disk(self._find), 0.0)

    async def close(self) -> None:
        """Wait for what is under way."""
        if self._writer is not None:
            await asyncio.wait([self._writer])
        self._disk.shutdown()
        self._hands.shutdown()

    async def add(self, record: LocalRecord) -> None:
        """Write this exchange down; JournalError when the disk does not take it."""
        if len(self._waiting) >= WAITING_MAX:
            raise JournalError(f"{WAITING_MAX} exchanges wait for the disk already")
        exchange_id = record.lost.hold.exchange_id
        self._held[exchange_id] = record
        try:
            await self._write(record)
        except JournalError:
            self.remove(exchange_id)  # what is on disk of it all the same
            raise

    async def note(
        self,
        exchange_id: str,
        *,
        upstream: str = "",
        facts: bytes = b"",
        checkpoint: bytes | None = None,
    ) -> None:
        """What is new about an exchange that is here, and has not ended meanwhile."""
        record = self._held.get(exchange_id)
        if record is None:
            return
        lost = record.lost
        noted = lost.checkpoint if checkpoint is None else checkpoint
        lost = replace(lost, upstream=upstream or lost.upstream, checkpoint=noted)
        lost = replace(lost, facts=facts or lost.facts)
        self._held[exchange_id] = record = replace(record, lost=lost)
        await self._write(record)

    def remove(self, exchange_id: str) -> None:
        """It has ended, or Redis knows of it; one that is not here is passed over."""
        if self._held.pop(exchange_id, None) is not None:
            self._hand_over(_Write(exchange_id, None))

    async def recover(
        self,
        caps: Caps,
        tell: Callable[[Leftover], None],
        *,
        waiting: Container[str] = (),
        is_its_own: IsItsOwn | None = None,
    ) -> None:
        """Commit what earlier runs have left, and tell of each that was not recorded before.

        The exchanges in `waiting` have a true commit on its way, which must come first. Stops with
        the CapsUnavailableError of a commit, unless that is the exchange's own; the next call goes
        on there.
        """
        for exchange_id, due_s in [*self._left.items()]:
            if exchange_id in waiting or due_s > monotonic_s():
                continue
            tenant = ""
            try:
                record = await self._on_disk(partial(self._read, exchange_id))
                hold, made = record.lost.hold, _made(record)
                tenant = hold.tenant
                done = await caps.commit(hold, made.actual, made.events)
            except (ValueError, HoldEndedError) as error:
                aside = f"{exchange_id}.damaged"
                await self._on_disk(partial(self._put_aside, exchange_id, aside))
                tell(Leftover(exchange_id, cause=f"{error}; see {self._path / aside}"))
            except CapsUnavailableError as error:
                if is_its_own is None or not await is_its_own(error):
                    raise
                self._left[exchange_id] = monotonic_s() + RETRY_S
                if not due_s:
                    tell(Leftover(exchange_id, tenant, cause=str(error), is_put_off=True))
                continue
            else:
                await self._on_disk((self._path / exchange_id).unlink)
                if done.result is not CommitResult.REPEAT:
                    tell(Leftover(exchange_id, tenant, record.lost.owner, made))
            del self._left[exchange_id]

    # -- the disk -----------------------------------------------------------------------------

    async def _write(self, record: LocalRecord) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._hand_over(_Write(record.lost.hold.exchange_id, encode_local(record), done))
        await done

    def _hand_over(self, write: _Write) -> None:
        self._waiting.append(write)
        if self._writer is None:
            self._writer = spawn(self._write_waiting(), name="journal-writer")

    async def _write_waiting(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                causes = ["the writer was stopped"] * len(batch)
                try:
                    causes = await self._on_disk(partial(self._carry_out, batch))
                except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
                    causes = [repr(error)] * len(batch)
                finally:
                    for write, cause in zip(batch, causes, strict=True):
                        _answer(write, cause)
        finally:
            self._writer = None

    def _carry_out(self, batch: Sequence[_Write]) -> list[str]:
        """Per write, why it failed, or ''. Runs in the thread of the disk."""
        newest = {write.exchange_id: write for write in batch}
        found = dict(zip(newest, self._hands.map(self._try, newest.values()), strict=True))
        causes = [found[write.exchange_id] for write in batch]
        try:
            _sync_folder(self._path)
        except OSError as error:
            return [cause or f"cannot sync {self._path}: {error.strerror}" for cause in causes]
        return causes

    def _try(self, write: _Write) -> str:
        try:
            self._put(write)
        except OSError as error:
            return f"cannot write {self._path / write.exchange_id}: {error.strerror}"
        return ""

    def _put(self, write: _Write) -> None:
        path = self._path / write.exchange_id
        if write.data is None:
            path.unlink(missing_ok=True)
            return
        unfinished = path.with_suffix(".tmp")
        handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            view = memoryview(write.data)
            while view:
                view = view[os.write(handle, view) :]
            os.fdatasync(handle)
        except OSError:
            unfinished.unlink()
            raise
        finally:
            os.close(handle)
        unfinished.rename(path)

    def _read(self, exchange_id: str) -> LocalRecord:
        try:
            data = (self._path / exchange_id).read_bytes()
        except OSError as error:
            raise ValueError(f"it cannot be read: {error.strerror}") from error
        return decode_local(data)

    def _find(self) -> list[str]:
        self._path.mkdir(parents=True, exist_ok=True)
        for folder in (self._path.parent, self._path.parent.parent):
            _sync_folder(folder)
        for unfinished in self._path.glob("*.tmp"):
            unfinished.unlink()
        return [path.name for path in self._path.iterdir() if path.suffix != ".damaged"]

    def _put_aside(self, exchange_id: str, aside: str) -> None:
        (self._path / exchange_id).rename(self._path / aside)
        _sync_folder(self._path)

    async def _on_disk(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, work)


def _made(record: LocalRecord) -> Recovery:
    """What to commit; the same file gives the same bytes."""
    made = recovery(record.lost)
    require_amounts(made.actual)
    events = []
    for body in made.events:
        event = decode(body)
        event.event_id = derived_id(event.event_id, _PURPOSE)
        event.admitted_by = record.admitted_by
        events.append(encode(event))
    return replace(made, events=tuple(events))


def _answer(write: _Write, cause: str) -> None:
    if write.done is None or write.done.done():
        return  # nobody waits, or whoever did was cancelled: what ends the exchange removes it
    if cause:
        write.done.set_exception(JournalError(cause))
    else:
        write.done.set_result(None)


def _sync_folder(folder: Path) -> None:
    """A rename or a new file survives a power cut only once its folder was synced."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
