"""`RedisLink`: the way to one server that reserve and commit travel on. One connection at a time.

Rules:
- No command is ever retried: a call that failed may have been applied, and only the idempotent
  scripts above know what that means. A script that was not found was not run.
- A call takes at most `timeout_ms`, loading its script included; see `redis_wire`.
- The link reconnects by itself, with jittered backoff, for as long as it is open, whatever the
  other side does; what it did not expect is told to `on_error`.
- A replica is no server to us: the link is down until the address leads to a master.
"""

from __future__ import annotations

import asyncio
import random
import re
import ssl
from collections.abc import Callable, Coroutine, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from metering.background import spawn
from metering.caps import CapsUnavailableError
from metering.redis_url import RedisTarget
from metering.redis_wire import PENDING_MAX, Arg, RedisReplyError, RedisWire
from metering.scripts import Script

TIMEOUT_MS = 250
BACKOFF_S = (0.02, 1.0)
"""First and longest pause between two tries to connect; each is drawn from half to the whole."""
PROBE_S = 5.0
"""An idle connection is asked PING this often, so that a dead one is not found by a request."""
UNKNOWN_VERSION = (0, 0)
_RUN_ID = re.compile(rb"^run_id:(\w+)", re.MULTILINE)
_FORBIDDEN = ("NOPERM", "ERR unknown command", "ERR unknown subcommand")


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
        on_lost: Callable[[], None] | None = None,
        any_role: bool = False,
    ) -> None:
        """`on_lost` is called when a connection that was up is not any more; `any_role` takes a
        replica too, which can be asked about its cluster."""
        self._target = target
        self._timeout_s = timeout_ms / 1000
        self._pending_max = pending_max
        self._name = name
        self._tls = tls
        self._jitter = jitter
        self._on_error = on_error
        self._on_lost = on_lost
        self._any_role = any_role
        self._wire: RedisWire | None = None
        self._up = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._eval_only = False
        self._last_failure = "not connected yet"
        self._run_id: str | None = None
        self.version = UNKNOWN_VERSION
        self.generation = 0

    @property
    def target(self) -> RedisTarget:
        """Where it leads."""
        return self._target

    @property
    def is_up(self) -> bool:
        """Whether a call made now would be sent."""
        return self._wire is not None

    async def open(self) -> None:
        """Start connecting; returns at once. `wait_up` waits for the first success."""
        self.start()

    def start(self) -> None:
        """As `open`, for whoever cannot wait."""
        if self._keeper is None:
            self._keeper = spawn(self._keep_connected(), name=f"redis-link {self._target}")

    async def connect_once(self) -> None:
        """Instead of `open`: one try, and no other; OSError or CapsUnavailableError tells why."""
        self._wire = await self._connect()

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

    async def call_each(self, *args: Arg) -> list[Any]:
        """The same on every server, which is this one."""
        return [await self._send(args)]

    async def call_asking(self, *args: Arg) -> Any:
        """Run one command on a slot that is on its way here; nothing comes in between the two."""
        both = asyncio.gather(self._send(("ASKING",)), self._send(args), return_exceptions=True)
        for answer in (replies := await both):
            if isinstance(answer, BaseException):
                raise answer
        return replies[1]

    async def eval(self, script: Script, keys: Sequence[str], args: Sequence[Arg]) -> Any:
        """Run a script by its SHA, loading it where it is missing.

        A script that was not found was not run, so asking once more is safe. A server that forbids
        EVALSHA or SCRIPT is sent the whole text from then on.
        """
        body = script.body(self.version)
        if self._eval_only:
            return await self._send(("EVAL", body.text, len(keys), *keys, *args))
        command = ("EVALSHA", body.sha, len(keys), *keys, *args)
        try:
            return await self._send(command)
        except RedisReplyError as error:
            if error.code == "NOSCRIPT":
                return await self._load_and_run(body.text, command, error.due_s)
            if not _is_forbidden(error):
                raise
        self._eval_only = True
        return await self._send(("EVAL", body.text, len(keys), *keys, *args))

    async def _load_and_run(self, text: str, command: tuple[Arg, ...], due_s: float) -> Any:
        """Both within what is left of the call's one limit."""
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
            raise CapsUnavailableError(
                f"Redis at {self._target}: no time was left to run a script that had to be loaded"
            ) from None

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

    async def _use(self, wire: RedisWire) -> None:
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

    async def _connect(self) -> RedisWire:
        """A connection that has answered; whatever fails, the half-open one is closed."""
        wire = RedisWire(self._timeout_s, self._pending_max, on_lost=self._forget)
        # The handshake also waits behind a stopped server's backlog, hence one bound over it all.
        try:
            async with asyncio.timeout(max(self._timeout_s, 1.0)):
                await self._dial(wire)
                await self._greet(wire)
        except BaseException as error:
            wire.fail(f"cannot connect: {error or type(error).__name__}")
            raise
        return wire

    def _dial(self, wire: RedisWire) -> Coroutine[Any, Any, Any]:
        loop, target = asyncio.get_running_loop(), self._target
        if target.path is not None:
            return loop.create_unix_connection(lambda: wire, target.path)
        tls = self._tls
        if tls is None and target.tls:
            tls = _trusting(target.ca_file)
        return loop.create_connection(lambda: wire, target.host, target.port, ssl=tls)

    async def _greet(self, wire: RedisWire) -> None:
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
        role = await _tolerate(wire.send(("ROLE",)))
        if role and role[0] == b"slave" and not self._any_role:
            if self._run_id is not None:
                self._run_id = ""  # once it is the master again it has another's data
            raise CapsUnavailableError(f"{target} is a replica of {role[1].decode()}:{role[2]}")
        self._note_run(info)

    def _note_run(self, info: bytes | None) -> None:
        """Compare with the last run; a server that does not say counts as another each time."""
        found = _RUN_ID.search(info or b"")
        run_id = found[1].decode() if found else ""
        if self._run_id is not None and (run_id != self._run_id or not run_id):
            self.generation += 1
        self._run_id = run_id

    def _forget(self, wire: RedisWire) -> None:
        """From the moment a connection is lost no call is given to it."""
        if self._wire is wire:
            self._wire = None
            self._up.clear()
            self._last_failure = wire.failure or "closed"
            if self._on_lost is not None:
                self._on_lost()


async def _probe_until_lost(wire: RedisWire) -> None:
    while wire.failure is None:
        await asyncio.wait([wire.lost], timeout=PROBE_S)
        if wire.failure is None:
            await _tolerate_loss(wire)


async def _tolerate_loss(wire: RedisWire) -> None:
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


def _trusting(ca_file: str | None) -> ssl.SSLContext:
    """Reading authorities holds the loop up for milliseconds, so it is done once per file."""
    changed_ns = Path(ca_file).stat().st_mtime_ns if ca_file else 0
    return _read_authorities(ca_file, changed_ns)


@lru_cache(maxsize=8)
def _read_authorities(ca_file: str | None, _changed_ns: int) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca_file)


def _version(info: bytes | None) -> tuple[int, int]:
    found = re.search(rb"^redis_version:(\d+)\.(\d+)", info or b"", re.MULTILINE)
    return (int(found[1]), int(found[2])) if found else UNKNOWN_VERSION


def _is_forbidden(error: RedisReplyError) -> bool:
    return str(error).startswith(_FORBIDDEN)
