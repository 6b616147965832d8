"""As much of Redis as settling needs, in memory: streams with one group, hashes, strings.

tests/test_simulation_redis.py runs the same calls on this and on a real server. A worker talks to
it through a `Client` of its own, which dies with it: before and after each command is a point where
that may happen. Streams behave as in Redis 7: ids only grow even where the clock goes back, what a
consumer was given stays pending until it is acknowledged, and may be claimed by another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import ResponseError

Id = tuple[int, int]


@dataclass
class Given:
    """An entry that was given to a consumer and is not acknowledged."""

    consumer: str
    at_ms: int
    times: int = 1


@dataclass
class Group:
    """A consumer group: how far it was read, and what is pending, by id."""

    last: Id = (0, 0)
    pending: dict[Id, Given] = field(default_factory=dict)


@dataclass
class Stream:
    """Entries by id, in order; ids never go back."""

    entries: dict[Id, dict[bytes, bytes]] = field(default_factory=dict)
    last: Id = (0, 0)
    groups: dict[str, Group] = field(default_factory=dict)


class MemoryRedis:
    """The server. `now_ms` is its clock, moved by whoever drives it."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self.streams: dict[str, Stream] = {}
        self.hashes: dict[str, dict[str, bytes]] = {}
        self.strings: dict[str, bytes] = {}

    def xadd(self, name: Any, fields: Mapping[Any, Any]) -> bytes:
        stream = self.streams.setdefault(_text(name), Stream())
        at = max((self.now_ms, 0), (stream.last[0], stream.last[1] + 1))
        stream.entries[at] = {_bytes(key): _bytes(value) for key, value in fields.items()}
        stream.last = at
        return _id(at)

    def xgroup_create(self, name: Any, group: str, id: str, mkstream: bool) -> bool:  # noqa: A002
        assert mkstream
        assert id == "0"
        groups = self.streams.setdefault(_text(name), Stream()).groups
        if group in groups:
            raise ResponseError("BUSYGROUP Consumer Group name already exists")
        groups[group] = Group()
        return True

    def xreadgroup(
        self, group: str, consumer: str, streams: Mapping[Any, Any], count: int, block: int | None
    ) -> list[Any]:
        del block  # nobody comes while it waits
        answer = []
        for name, after in streams.items():
            stream = self.streams[_text(name)]
            if _text(after) == ">":
                found = self._give_new(stream, stream.groups[group], consumer, count)
            else:
                pending = stream.groups[group].pending
                ids = sorted(
                    at
                    for at, given in pending.items()
                    if given.consumer == consumer and at > _place(after)
                )[:count]
                found = [[_id(at), stream.entries.get(at, {})] for at in ids]
                for at in ids:  # counts as a delivery, also to whom it was given before
                    pending[at] = Given(consumer, self.now_ms, pending[at].times + 1)
                if not found:  # Redis names the stream all the same
                    answer.append([_bytes(name), []])
                    continue
            if found:
                answer.append([_bytes(name), found])
        return answer

    def _give_new(self, stream: Stream, group: Group, consumer: str, count: int) -> list[Any]:
        fresh = [at for at in stream.entries if at > group.last][:count]
        for at in fresh:
            group.pending[at] = Given(consumer, self.now_ms)
            group.last = at
        return [[_id(at), stream.entries[at]] for at in fresh]

    def xautoclaim(
        self, name: Any, group: str, consumer: str, idle_ms: int, start: Any, count: int
    ) -> list[Any]:
        stream = self.streams[_text(name)]
        pending = stream.groups[group].pending
        claimed, deleted = [], []
        ids = sorted(at for at in pending if at >= _place(start))
        for at in ids[:count]:
            given = pending[at]
            if self.now_ms - given.at_ms < idle_ms:
                continue
            if at not in stream.entries:
                deleted.append(_id(at))
                del pending[at]
                continue
            pending[at] = Given(consumer, self.now_ms, given.times + 1)
            claimed.append([_id(at), stream.entries[at]])
        following = _id(ids[count]) if len(ids) > count else b"0-0"
        return [following, claimed, deleted]

    def xpending_range(self, name: Any, group: str, min: Any, max: Any, count: int) -> list[Any]:  # noqa: A002
        pending = self.streams[_text(name)].groups[group].pending
        found = sorted(at for at in pending if _place(min) <= at <= _place(max))[:count]
        return [{"message_id": _id(at), "times_delivered": pending[at].times} for at in found]

    def xpending(self, name: Any, group: str) -> dict[str, Any]:
        pending = self.streams[_text(name)].groups[group].pending
        oldest = _id(min(pending)) if pending else None
        return {"pending": len(pending), "min": oldest}

    def xack(self, name: Any, group: str, *ids: Any) -> int:
        pending = self.streams[_text(name)].groups[group].pending
        return sum(pending.pop(_place(each), None) is not None for each in ids)

    def xlen(self, name: Any) -> int:
        stream = self.streams.get(_text(name))
        return 0 if stream is None else len(stream.entries)

    def xrange(self, name: Any, min: Any = "-", count: int | None = None) -> list[Any]:  # noqa: A002
        stream = self.streams.get(_text(name), Stream())
        low = _text(min)
        is_after, low = low.startswith("("), low.removeprefix("(")
        bound = (0, 0) if low == "-" else _place(low)
        found = [at for at in stream.entries if at > bound or (at == bound and not is_after)]
        return [(_id(at), stream.entries[at]) for at in found[:count]]

    def xtrim(self, name: Any, minid: str, approximate: bool) -> int:
        assert not approximate
        entries = self.streams[_text(name)].entries
        gone = [at for at in entries if at < _place(minid)]
        for at in gone:
            del entries[at]
        return len(gone)

    def xinfo_stream(self, name: Any) -> dict[str, Any]:
        return {"last-generated-id": _id(self.streams[_text(name)].last)}

    def xinfo_groups(self, name: Any) -> list[dict[str, Any]]:
        stream = self.streams[_text(name)]
        return [
            {
                "name": each.encode(),
                "pending": len(group.pending),
                "last-delivered-id": _id(group.last),
                "lag": sum(at > group.last for at in stream.entries),
            }
            for each, group in stream.groups.items()
        ]

    def hset(self, name: Any, mapping: Mapping[Any, Any]) -> int:
        fields = self.hashes.setdefault(_text(name), {})
        fresh = sum(_text(key) not in fields for key in mapping)
        fields.update({_text(key): _bytes(value) for key, value in mapping.items()})
        return fresh

    def hget(self, name: Any, key: Any) -> bytes | None:
        return self.hashes.get(_text(name), {}).get(_text(key))

    def hmget(self, name: Any, keys: Sequence[Any]) -> list[bytes | None]:
        return [self.hget(name, key) for key in keys]

    def hincrby(self, name: Any, key: Any, amount: int) -> int:
        fields = self.hashes.setdefault(_text(name), {})
        fields[_text(key)] = str(int(fields.get(_text(key), b"0")) + amount).encode()
        return int(fields[_text(key)])

    def hdel(self, name: Any, *keys: Any) -> int:
        fields = self.hashes.get(_text(name), {})
        return sum(fields.pop(_text(key), None) is not None for key in keys)

    def get(self, name: Any) -> bytes | None:
        return self.strings.get(_text(name))

    def set(self, name: Any, value: Any) -> bool:
        self.strings[_text(name)] = _bytes(value)
        return True

    def exists(self, *names: Any) -> int:
        keys = self.streams.keys() | self.hashes.keys() | self.strings.keys()
        return sum(_text(name) in keys for name in names)

    def time(self) -> tuple[int, int]:
        return self.now_ms // 1_000, self.now_ms % 1_000 * 1_000

    def eval(self, script: str, count: int, *rest: Any) -> Any:
        """The two scripts of settling, told apart by what they call."""
        keys, args = [_text(each) for each in rest[:count]], list(rest[count:])
        if "XACK" in script and "XADD" in script:
            return self._bury(keys, args)
        assert "PERSIST" in script, "a script that the simulation does not know"
        return self._went_back(keys, [int(each) for each in args])

    def _bury(self, keys: Sequence[str], args: Sequence[Any]) -> int:
        group, at, _kept, *fields = args
        acknowledged = self.xack(keys[0], _text(group), at)
        if acknowledged and fields:
            self.xadd(keys[1], dict(zip(fields[::2], fields[1::2], strict=True)))
        return acknowledged

    def _went_back(self, keys: Sequence[str], args: Sequence[int]) -> bytes | None:
        note = self.strings.get(keys[1], b"0-0")
        noted, settled, settling = _place(note), (args[0], args[1]), (args[2], args[3])
        newest = max(noted, settled, settling)
        if noted < newest:
            self.strings[keys[1]] = _id(newest)
        if noted < settled and self.strings.pop(keys[0], None) is not None:
            return note
        return None


class Client:
    """A worker's connection: awaitable commands, and pipelines of them.

    `reach` is told before and after each; it may kill the worker. Others run at some of them.
    """

    def __init__(
        self, server: MemoryRedis, reach: Callable[[str], None], turns: Callable[[], bool]
    ) -> None:
        self._server, self._reach, self._turns = server, reach, turns

    def __getattr__(self, command: str) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            if self._turns():
                await asyncio.sleep(0)
            self._reach(f"before {command}")
            answer = getattr(self._server, command)(*args, **kwargs)
            self._reach(f"after {command}")
            return answer

        return call

    def pipeline(self, *, transaction: bool) -> Pipeline:
        assert not transaction
        return Pipeline(self)


class Pipeline:
    """Commands that are sent together, not atomic: a death may fall between two of them."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._queued: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    async def __aenter__(self) -> Pipeline:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._queued.clear()

    def __getattr__(self, command: str) -> Callable[..., None]:
        def queue(*args: Any, **kwargs: Any) -> None:
            self._queued.append((command, args, kwargs))

        return queue

    async def execute(self) -> list[Any]:
        queued, self._queued = self._queued, []
        return [await getattr(self._client, name)(*args, **kw) for name, args, kw in queued]


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _id(at: Id) -> bytes:
    return b"%d-%d" % at


def _place(at: Any) -> Id:
    ms, _, n = _text(at).partition("-")
    return int(ms), int(n or 0)


def waiting(server: MemoryRedis, names: Iterable[str], group: str) -> int:
    """What is unread or unacknowledged in these streams."""
    found = 0
    for name in names:
        stream = server.streams.get(name)
        if stream is not None:
            held = stream.groups.get(group, Group())
            found += len(held.pending) + sum(at > held.last for at in stream.entries)
    return found
