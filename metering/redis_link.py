"""`RedisLink`: the connection that reserve and commit travel on. One server, one connection.

Rules:
- Commands written in one turn of the loop leave in one write; replies are matched in order.
- No command is ever retried: a call that failed may have been applied, and only the idempotent
  scripts above know what that means.
- A call takes at most `timeout_ms`. One that takes longer takes the connection with it, since its
  reply would come out of step; every pending call fails with CapsUnavailableError.
- The link reconnects by itself, with jittered backoff, for as long as it is open, whatever the
  other side does; what it did not expect is told to `on_error`.
"""

from __future__ import annotations

import asyncio
import random
import re
import ssl
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, cast

import hiredis

from metering.background import spawn
from metering.caps import CapsUnavailableError
from metering.redis_url import RedisTarget
from metering.scripts import Script

Arg = str | bytes | int

TIMEOUT_MS = 250
PENDING_MAX = 10_000
"""Calls waiting for a reply; a server that is this far behind would answer none of them in time."""
BACKOFF_S = (0.02, 1.0)
"""First and longest pause between two tries to connect; each is drawn from half to the whole."""
PROBE_S = 5.0
"""An idle connection is asked PING this often, so that a dead one is not found by a request."""
GRACE_S = 0.001
"""A call that is due gets one more turn of the loop: after a stall of our own its reply may already
lie in the socket, and uvloop runs timers before it reads."""
UNKNOWN_VERSION = (0, 0)
_IN_SCRIPT = re.compile(r"^ERR Error running script.*: -([A-Z]+) ")
"""Until 6.2 a command that fails in a script is told as ERR, its own code inside the text."""
_RUN_ID = re.compile(rb"^run_id:(\w+)", re.MULTILINE)
_FORBIDDEN = ("NOPERM", "ERR unknown command", "ERR unknown subcommand")


class RedisReplyError(CapsUnavailableError):
    """Redis refused a command. `code` is the first word: NOSCRIPT, OOM, READONLY, BUSY, ERR..."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        inner = _IN_SCRIPT.search(message)
        self.code = inner[1] if inner else message.partition(" ")[0]


class RedisLink:
    """A `ScriptRunner` over one server. `async with`, or `open` and `close`."""

    def __init__(
        self,
        target: RedisTarget,
        *,
        timeout_ms: int = TIMEOUT_MS,
        pending_max: int = PENDING_MAX,
        name: str = "weir",
        tls: ssl.SSLContext | None = None,
        jitter: Callable[[], float] = random.random,
        on_error: Callable[[Exception], None] | None = None,
    ) -> None:
        self._target = target
        self._timeout_s = timeout_ms / 1000
        self._pending_max = pending_max
        self._name = name
        self._tls = tls
        self._jitter = jitter
        self._on_error = on_error
        self._wire: _Wire | None = None
        self._up = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._eval_only = False
        self._last_failure = "not connected yet"
        self._run_id = ""
        self.version = UNKNOWN_VERSION
        self.generation = 0

    @property
    def is_up(self) -> bool:
        """Whether a call made now would be sent."""
        return self._wire is not None

    async def open(self) -> None:
        """Start connecting; returns at once. `wait_up` waits for the first success."""
        if self._keeper is None:
            self._keeper = spawn(self._keep_connected(), name=f"redis-link {self._target}")

    async def wait_up(self, timeout_s: float) -> None:
        """Return once connected; CapsUnavailableError with the last failure after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._up.wait()
        except TimeoutError:
            raise CapsUnavailableError(f"Redis at {self._target}: {self._last_failure}") from None

    async def close(self) -> None:
        """Stop connecting; pending calls fail."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
            self._keeper = None
        if self._wire is not None:
            self._wire.fail("the link was closed")

    async def __aenter__(self) -> RedisLink:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def call(self, *args: Arg) -> Any:
        """Run one command: bytes, int, None or a list of these. Errors as in the module's rules."""
        return await self._send(args)

    async def eval(self, script: Script, keys: Sequence[str], args: Sequence[Arg]) -> Any:
        """Run a script by its SHA, loading it where it is missing.

        A script that was not found was not run, so asking once more is safe. A server that forbids
        EVALSHA or SCRIPT is sent the whole text from then on.
        """
        body = script.body(self.version)
        if self._eval_only:
            return await self._send(("EVAL", body.text, len(keys), *keys, *args))
        command = ("EVALSHA", body.sha, len(keys), *keys, *args)
        due_s = asyncio.get_running_loop().time() + self._timeout_s
        try:
            return await self._send(command)
        except RedisReplyError as error:
            if error.code == "NOSCRIPT":
                return await self._load_and_run(body.text, command, due_s)
            if not _is_forbidden(error):
                raise
        self._eval_only = True
        return await self._send(("EVAL", body.text, len(keys), *keys, *args))

    async def _load_and_run(self, text: str, command: tuple[Arg, ...], due_s: float) -> Any:
        """Both within the time that the one call has, whose caller knows of no other."""
        try:
            async with asyncio.timeout_at(due_s):
                try:
                    await self._send(("SCRIPT", "LOAD", text))
                except RedisReplyError as error:
                    if not _is_forbidden(error):
                        raise
                    self._eval_only = True
                    return await self._send(("EVAL", text, *command[2:]))
                return await self._send(command)
        except TimeoutError:
            message = f"Redis did not answer within {self._timeout_s * 1000:.0f} ms"
            raise CapsUnavailableError(message) from None

    def _send(self, args: tuple[Arg, ...]) -> asyncio.Future[Any]:
        wire = self._wire
        if wire is None:
            raise CapsUnavailableError(f"Redis at {self._target}: {self._last_failure}")
        return wire.send(args)

    async def _keep_connected(self) -> None:
        pause_s = BACKOFF_S[0]
        while True:
            try:
                wire = await self._connect()
                pause_s = BACKOFF_S[0]
                await self._use(wire)
                continue
            except (OSError, CapsUnavailableError) as error:
                self._last_failure = str(error) or type(error).__name__
            except Exception as error:  # noqa: BLE001 - the top of a task, which must reconnect
                self._last_failure = repr(error)
                if self._on_error is not None:
                    self._on_error(error)
            await asyncio.sleep(pause_s * (1 + self._jitter()) / 2)
            pause_s = min(pause_s * 2, BACKOFF_S[1])

    async def _use(self, wire: _Wire) -> None:
        """Give calls to this connection until it is lost."""
        self._wire = wire
        self._up.set()
        try:
            await _probe_until_lost(wire)
        finally:
            self._wire = None
            self._up.clear()
            self._last_failure = wire.failure or "closed"
            wire.fail("the connection was given up")

    async def _connect(self) -> _Wire:
        """A connection that has answered; whatever fails, the half-open one is closed."""
        wire = _Wire(self._timeout_s, self._pending_max, on_lost=self._forget)
        # The handshake also waits behind a stopped server's backlog, hence one bound over it all.
        try:
            async with asyncio.timeout(max(self._timeout_s, 1.0)):
                await self._dial(wire)
                await self._greet(wire)
        except BaseException as error:
            wire.fail(f"cannot connect: {error or type(error).__name__}")
            raise
        return wire

    def _dial(self, wire: _Wire) -> Coroutine[Any, Any, Any]:
        loop, target = asyncio.get_running_loop(), self._target
        if target.path is not None:
            return loop.create_unix_connection(lambda: wire, target.path)
        tls = self._tls
        if tls is None and target.tls:
            tls = ssl.create_default_context(cafile=target.ca_file)
        return loop.create_connection(lambda: wire, target.host, target.port, ssl=tls)

    async def _greet(self, wire: _Wire) -> None:
        target = self._target
        if target.password is not None:
            user = () if target.username is None else (target.username,)
            await wire.send(("AUTH", *user, target.password))
        if target.db:
            await wire.send(("SELECT", target.db))
        await wire.send(("PING",))
        await _tolerate(wire.send(("CLIENT", "SETNAME", self._name)))
        info = await _tolerate(wire.send(("INFO", "server")))
        self.version = _version(info)
        self._note_run(info)

    def _note_run(self, info: bytes | None) -> None:
        found = _RUN_ID.search(info or b"")
        run_id = found[1].decode() if found else ""
        if self._run_id and run_id != self._run_id:
            self.generation += 1
        self._run_id = run_id

    def _forget(self, wire: _Wire) -> None:
        """From the moment a connection is lost no call is given to it."""
        if self._wire is wire:
            self._wire = None
            self._up.clear()
            self._last_failure = wire.failure or "closed"


class _Wire(asyncio.Protocol):
    """One connection: bytes out in batches, replies in order, one timer for all its calls."""

    def __init__(
        self, timeout_s: float, pending_max: int, *, on_lost: Callable[[_Wire], None]
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
                waiting, _ = pending.popleft()
                if waiting.done():  # its caller was cancelled; the reply keeps its place in line
                    continue
                if isinstance(reply, RedisReplyError):
                    waiting.set_exception(reply)
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


async def _probe_until_lost(wire: _Wire) -> None:
    while wire.failure is None:
        await asyncio.wait([wire.lost], timeout=PROBE_S)
        if wire.failure is None:
            await _tolerate_loss(wire)


async def _tolerate_loss(wire: _Wire) -> None:
    try:
        await wire.send(("PING",))
    except CapsUnavailableError:
        return  # the wire has failed by now, or is busy: either way its calls are the probe


async def _tolerate(reply: asyncio.Future[Any]) -> Any:
    """The reply, or None when Redis refuses the command to us."""
    try:
        return await reply
    except RedisReplyError:
        return None


def _version(info: bytes | None) -> tuple[int, int]:
    found = re.search(rb"^redis_version:(\d+)\.(\d+)", info or b"", re.MULTILINE)
    return (int(found[1]), int(found[2])) if found else UNKNOWN_VERSION


def _is_forbidden(error: RedisReplyError) -> bool:
    return str(error).startswith(_FORBIDDEN)
