"""The line between the supervisor and one child: new settings down, answers and hints up.

Rules:
- Made before the fork, one pair of sockets for each life of a child: what an earlier one left
  unread never reaches the next.
- Nobody waits for the other: messages are short and whole, and settings travel as an open file of
  which only the descriptor is sent. A child that reads nothing fills its socket and is passed over.
- Both ends run the same program, and nobody else has them: only therefore are settings pickled.
  The file has no name, so that no secret reaches a disk that is read by others.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import orjson

from proxy.settings import Settings

MESSAGE_BYTES_MAX = 8_192
"""Well below what a socket takes at once."""

CAUSE_LENGTH_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Change:
    """New settings for a child. `renews_files`: files that they only name have other contents."""

    generation: int
    settings: Settings
    renews_files: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What a child made of a change; `cause` is None where it goes by it."""

    generation: int
    cause: str | None = None


@dataclass(frozen=True, slots=True)
class Hint:
    """Somebody has announced a configuration: time to read our own file again."""

    announced: str


@dataclass(frozen=True, slots=True)
class RegistryHint:
    """Another version of the registry lies beside the file: time to take it up."""

    version: str


Said = Answer | Hint | RegistryHint


class ChildLine:
    """A child's end; `receive` when it can be read."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def fileno(self) -> int:
        """For the event loop that waits on it."""
        return self._end.fileno()

    def receive(self) -> Change | None:
        """The newest change that has come; None when nothing has. Older ones are passed over."""
        change: Change | None = None
        while (found := self._receive_one()) is not None:
            change = found
        return change

    def _receive_one(self) -> Change | None:
        try:
            _, descriptors, _, _ = socket.recv_fds(self._end, MESSAGE_BYTES_MAX, 1)
        except (BlockingIOError, ConnectionError):
            return None
        if not descriptors:
            return None
        with os.fdopen(descriptors[0], "rb") as file:
            body = os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)
        found = pickle.loads(body)  # noqa: S301 - from our parent, over a socket nobody else has
        assert isinstance(found, Change)
        return found

    def say(self, said: Said) -> None:
        """Tell the supervisor; a supervisor that is gone or does not read is told nothing."""
        if isinstance(said, Answer):
            cause = None if said.cause is None else said.cause[:CAUSE_LENGTH_MAX]
            body: dict[str, Any] = {"generation": said.generation, "cause": cause}
        elif isinstance(said, RegistryHint):
            body = {"registry": said.version}
        else:
            body = {"announced": said.announced}
        with contextlib.suppress(BlockingIOError, ConnectionError):
            self._end.send(orjson.dumps(body))


@dataclass(slots=True)
class Line:
    """The supervisor's end, and the child's until it has taken it."""

    name: str
    _ends: tuple[socket.socket, socket.socket] | None = field(default=None)

    def renew(self) -> None:
        """A new pair, right before the child is forked."""
        self.close()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ours.setblocking(False)
        theirs.setblocking(False)
        self._ends = ours, theirs

    def take(self) -> ChildLine:
        """In the child: its end; the supervisor's is closed."""
        assert self._ends is not None, "renewed before the fork"
        ours, theirs = self._ends
        ours.close()
        return ChildLine(theirs)

    def send(self, change: Change) -> bool:
        """Whether the change is on its way."""
        if self._ends is None:
            return False
        try:
            with tempfile.TemporaryFile() if _memory is None else _memory() as file:
                file.write(pickled(change))
                file.flush()
                socket.send_fds(self._ends[0], [b"settings"], [file.fileno()])
        except OSError:  # its socket is full, or we have no descriptor to spare
            return False
        return True

    def heard(self) -> Iterator[Said]:
        """What the child has said since."""
        while self._ends is not None:
            try:
                said = orjson.loads(self._ends[0].recv(MESSAGE_BYTES_MAX))
            except (BlockingIOError, ConnectionError, orjson.JSONDecodeError):
                return
            if "announced" in said:
                yield Hint(str(said["announced"]))
            elif "registry" in said:
                yield RegistryHint(str(said["registry"]))
            else:
                yield Answer(int(said["generation"]), said["cause"])

    def close(self) -> None:
        """Both ends, as far as they are here."""
        if self._ends is not None:
            for end in self._ends:
                end.close()
            self._ends = None


def _in_memory() -> io.BufferedRandom:
    descriptor = os.memfd_create("weir-settings", os.MFD_CLOEXEC)
    return os.fdopen(descriptor, "w+b")


_memory: Callable[[], io.BufferedRandom] | None = (
    _in_memory if hasattr(os, "memfd_create") else None
)
"""Elsewhere than on Linux it is a file that is deleted as soon as it is open."""


class _Pickler(pickle.Pickler):
    """Read-only views of dicts are taken apart; Python does not do that by itself."""

    def reducer_override(self, found: object) -> Any:
        if isinstance(found, MappingProxyType):
            return _read_only, (dict(found),)
        return NotImplemented


def _read_only(items: dict[Any, Any]) -> MappingProxyType[Any, Any]:
    return MappingProxyType(items)


def pickled(found: object) -> bytes:
    """As it travels between a process and its own child."""
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=5).dump(found)
    return buffer.getvalue()
