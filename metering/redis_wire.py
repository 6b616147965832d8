"""One connection to one server: bytes out in batches, replies in order, one timer for all calls.

Rules:
- Commands written in one turn of the loop leave in one write.
- Nothing is sent twice. A call that gets no reply in time takes the connection with it, since what
  comes later would come out of step.
- A server that says it is no master, or not ready, is given up: whoever keeps the connection asks
  anew who the master is.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import hiredis

from metering.caps import CapsUnavailableError

Arg = str | bytes | int

PENDING_MAX = 10_000
"""Calls waiting for a reply; a server that is this far behind would answer none of them in time."""
GRACE_S = 0.001
"""A call that is due gets one more turn of the loop: after a stall of our own its reply may already
lie in the socket, and uvloop runs timers before it reads."""
NOT_THE_MASTER = frozenset({"READONLY", "LOADING", "MASTERDOWN"})
"""Replies of a replica, and of a server that still reads its data."""
REFUSES_ALL = NOT_THE_MASTER | frozenset(
    {"BUSY", "OOM", "MISCONF", "NOREPLICAS", "NOAUTH", "NOPERM", "CLUSTERDOWN"}
)
"""Refusals that say how the server is, whatever it was asked for."""
_IN_SCRIPT = re.compile(r"^ERR Error running script.*: -([A-Z]+) ")
"""Until 6.2 a command that fails in a script is told as ERR, its own code inside the text."""


class RedisReplyError(CapsUnavailableError):
    """Redis refused a command. `code` is the first word: NOSCRIPT, OOM, READONLY, BUSY, ERR...

    `due_s` is when the call's limit ends, by the loop's clock, for whoever sends it again.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.due_s = 0.0
        inner = _IN_SCRIPT.search(message)
        self.code = inner[1] if inner else message.partition(" ")[0]

    @property
    def is_its_own(self) -> bool:
        """As `CapsUnavailableError`: a key of another type, say, whose neighbours are whole."""
        return self.code not in REFUSES_ALL


class RedisWire(asyncio.Protocol):
    """One connection: bytes out in batches, replies in order, one timer for all its calls."""

    def __init__(
        self, timeout_s: float, pending_max: int, *, on_lost: Callable[[RedisWire], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout_s = timeout_s
        self._pending_max = pending_max
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader(replyError=RedisReplyError)
        self._out: list[bytes] = []
        self._pending: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._in_grace = False
        self.failure: str | None = None
        self.lost: asyncio.Future[None] = self._loop.create_future()

    def send(self, args: tuple[Arg, ...]) -> asyncio.Future[Any]:
        """Queue a command for this turn's write; the future takes its reply."""
        if self.failure is not None:
            raise CapsUnavailableError(self.failure)
        if len(self._pending) >= self._pending_max:
            raise CapsUnavailableError(f"{self._pending_max} calls to Redis are pending already")
        packed: bytes = hiredis.pack_command(args)  # type: ignore[arg-type] # its stub says a 1-tuple
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(packed)
        reply: asyncio.Future[Any] = self._loop.create_future()
        # Same patience for every call, so the first in line is always the first that is due.
        due = self._loop.time() + self._timeout_s
        self._pending.append((reply, due))
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._check_due)
        return reply

    def fail(self, why: str) -> None:
        """Give the connection up: every pending call fails, and nothing is sent any more."""
        if self.failure is not None:
            return
        self.failure = why
        self._on_lost(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()
        self._out.clear()
        for reply, _ in self._pending:
            if not reply.done():
                reply.set_exception(CapsUnavailableError(why))
        self._pending.clear()
        if not self.lost.done():
            self.lost.set_result(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        # uvloop's transports do not inherit asyncio's, so this cannot be an isinstance.
        self._transport = cast("asyncio.Transport", transport)
        if self.failure is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        self.fail(f"Redis closed the connection{f': {exc}' if exc else ''}")

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        reader, pending = self._reader, self._pending
        reader.feed(data)
        try:
            while (reply := reader.gets()) is not False:
                if not pending:
                    self.fail("Redis sent a reply that nobody asked for")
                    return
                waiting, due = pending.popleft()
                if waiting.done():  # its caller was cancelled; the reply keeps its place in line
                    continue
                if isinstance(reply, RedisReplyError):
                    reply.due_s = due
                    waiting.set_exception(reply)
                    if reply.code in NOT_THE_MASTER:
                        self.fail(str(reply))
                        return
                else:
                    waiting.set_result(reply)
        except hiredis.ProtocolError as error:
            self.fail(f"Redis sent nonsense: {error}")

    def _flush(self) -> None:
        if self._transport is not None and self._out:
            self._transport.write(b"".join(self._out))
        self._out.clear()

    def _check_due(self) -> None:
        self._timer = None
        if not self._pending:
            self._in_grace = False
            return
        due = self._pending[0][1]
        if due > self._loop.time():
            self._in_grace = False
            self._timer = self._loop.call_at(due, self._check_due)
        elif not self._in_grace:
            self._in_grace = True
            self._timer = self._loop.call_later(GRACE_S, self._check_due)
        else:
            self.fail(f"Redis did not answer within {self._timeout_s * 1000:.0f} ms")
