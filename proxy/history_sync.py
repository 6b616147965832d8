"""What proxies tell each other of how upstreams do. Never on the path.

`P:history` is a hash: process -> when it spoke last (Unix milliseconds of Redis' own clock), and
what it saw of each upstream in the last hour: counts that add up, no averages. Rules:
- One script every SYNC_EVERY_S tells ours and brings the others'. A note takes the place of the one
  before, so that a word which is lost or told twice changes nothing.
- A process speaks under a name of its own for as long as it runs: the one in its place after a
  restart learns what it had seen, instead of overwriting that with nothing.
- A note lives for an hour; its slots of five minutes leave the window one by one before.
- Times are told by Redis' clock: clocks that differ do no harm.
- Redis away: every process goes on with what it knows, and what it knows grows old.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import orjson

from metering.caps import CapsUnavailableError
from metering.clock import monotonic_s
from metering.redis_keys import RedisKeys
from metering.scripts import ScriptRunner, load_script
from proxy.sharing import repeat
from routing.history import History
from routing.samples import Seen, unpack_seen

SYNC_EVERY_S = 5.0
KEPT_MS = 3_600_000
PROCESSES_MAX = 128
"""Notes that are kept; the oldest go first. Restarts within an hour leave some."""
NOTE_BYTES_MAX = 64 * 1024
"""An hour of an upstream takes up to 5 kB: what does not fit goes.
The upstreams that were used last come first.
"""
LIVES_S = 3 * SYNC_EVERY_S
"""A process that has not spoken for so long has ended, and nothing is under way from it."""
_VERSION = 1
NOTHING: Mapping[str, Seen] = {}


class HistorySync:
    """Spreads a process' history. `labels` are the upstreams of the configuration."""

    def __init__(
        self,
        history: History,
        runner: ScriptRunner,
        keys: RedisKeys,
        *,
        proxy_id: str,
        labels: Collection[str],
        log: Any,
    ) -> None:
        self._history = history
        self._runner = runner
        self._key = keys.history
        self.name = f"{proxy_id}:{os.urandom(6).hex()}"
        self._labels = frozenset(labels)
        self._log = log
        self._shift_s: float | None = None
        self._read: dict[str, tuple[bytes, dict[str, Seen]]] = {}
        self._sources: list[dict[str, Seen]] = []
        self._bad: set[str] = set()

    def know(self, labels: Collection[str]) -> None:
        """The upstreams of another configuration, from now on."""
        self._labels = frozenset(labels)
        self._read = {}  # notes were read for the labels of before

    async def run(self) -> None:
        """Tell and listen, forever."""
        await repeat(self.turn, SYNC_EVERY_S, name="history_sync", log=self._log)

    async def turn(self) -> None:
        """Tell what was seen here, and learn what was seen elsewhere."""
        told = b"" if self._shift_s is None else await self._told(self._shift_s)
        try:
            now_ms, notes = await exchange(self._runner, self._key, self.name, told)
        except CapsUnavailableError:
            await self._learn()
            raise
        self._shift_s = now_ms / 1000 - monotonic_s()
        read: dict[str, tuple[bytes, dict[str, Seen]]] = {}
        self._sources = []
        for process, at_ms, body in notes:
            if process == self.name:
                continue
            before = self._read.get(process)
            if before is None or before[0] != body:
                before = (body, self._understood(process, body))
                await asyncio.sleep(0)  # requests go before
            read[process] = before
            is_alive = now_ms - at_ms <= LIVES_S * 1000
            self._sources.append(before[1] if is_alive else ended(before[1]))
        self._read = read
        self._bad &= read.keys()
        self._history.forget(self._labels)
        await self._learn()

    async def _told(self, shift_s: float) -> bytes:
        parts: list[bytes] = []
        for part in note_parts(self._history.told(shift_s)):
            parts.append(part)
            await asyncio.sleep(0)
        return note(parts)

    async def _learn(self) -> None:
        for label in self._labels:
            seen = [source[label] for source in self._sources if label in source]
            self._history.learn(label, seen, monotonic_s(), shift_s=self._shift_s or 0.0)
            await asyncio.sleep(0)

    def _understood(self, process: str, body: bytes) -> dict[str, Seen]:
        """A note; nothing of one that cannot be read, which is said once per process."""
        try:
            seen = read_note(body, self._read.get(process, (b"", {}))[1])
        except ValueError as error:
            if process not in self._bad:
                self._bad.add(process)
                self._log.warning("history_unreadable", process=process, cause=str(error))
            return {}
        return {label: each for label, each in seen.items() if label in self._labels}


async def exchange(
    runner: ScriptRunner, key: str, name: str, told: bytes
) -> tuple[int, list[tuple[str, int, bytes]]]:
    """Leave a note, unless it is empty, and take all: Redis' time, then process, time and note."""
    args = (name, told, KEPT_MS, PROCESSES_MAX)
    now, *flat = await runner.eval(load_script("tell_history"), [key], args)
    notes = zip(flat[::3], flat[1::3], flat[2::3], strict=True)
    return int(now), [(name.decode(errors="replace"), int(at), body) for name, at, body in notes]


def note_parts(told: Mapping[str, Seen]) -> Iterator[bytes]:
    """What is told of each upstream; those that were used last go first, while there is room."""
    room = NOTE_BYTES_MAX
    for label in sorted(told, key=lambda each: told[each].last_s or 0.0, reverse=True):
        part = orjson.dumps(label) + b":" + orjson.dumps(told[label].pack())
        if len(part) > room:
            return
        room -= len(part)
        yield part


def note(parts: Iterable[bytes]) -> bytes:
    """What a process saw, as others read it."""
    return b'{"v":%d,"upstreams":{%b}}' % (_VERSION, b",".join(parts))


def read_note(body: bytes, before: Mapping[str, Seen] = NOTHING) -> dict[str, Seen]:
    """What a process saw, `before` what it had said last; ValueError for what is no note of a
    version that we know."""
    found = orjson.loads(body)
    if not isinstance(found, dict) or found.get("v") != _VERSION:
        raise ValueError("a note of another version")
    upstreams = found.get("upstreams")
    if not isinstance(upstreams, dict):
        raise ValueError("a note without upstreams")
    return {label: unpack_seen(each, before.get(label)) for label, each in upstreams.items()}


def left_note(raw: bytes, now_ms: int) -> tuple[dict[str, Seen], bool]:
    """What lies in the hash of one process: what it saw, and whether it runs, by Redis' time.
    ValueError for what cannot be read."""
    at, _, body = raw.partition(b":")
    runs = now_ms - int(at) <= LIVES_S * 1000
    seen = read_note(body)
    return (seen if runs else ended(seen)), runs


def ended(source: Mapping[str, Seen]) -> dict[str, Seen]:
    """What a process saw that has ended: nothing is under way from it."""
    return {label: Seen(seen.slots, 0, seen.last_s, seen.failure) for label, seen in source.items()}
