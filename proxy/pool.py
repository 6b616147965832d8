"""Connections to upstreams: taken, made, kept. The production `Transport`."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from metering.clock import monotonic_s
from proxy.connection import Connection
from proxy.egress import proxy_for
from proxy.settings import Egress
from proxy.tls import TlsFileError, upstream_context
from proxy.transport import Call, Fault, TransportError
from proxy.tunnel import open_tunnel

IDLE_CONNECTION_S = 30.0
"""How long an unused connection is kept. Servers close theirs after 5 s (uvicorn) to minutes; the
closer to theirs, the likelier a request meets a connection that is just being closed. One that
says `Keep-Alive: timeout=N` is taken at its word, less `KEEP_ALIVE_MARGIN_S`."""

KEEP_ALIVE_MARGIN_S = 1.0
"""A request that is under way when the server's timeout ends would break, and we could not know
whether it was worked on (RFC 9112, 9.3.1), so it could not be sent again."""

IDLE_CONNECTIONS_MAX = 256
"""Per origin; what a burst opened beyond that is closed when it has been answered."""

SWEEP_S = 5.0
"""How often lapsed connections are looked for while any is idle."""

_KEEP_ALIVE_TIMEOUT = re.compile(r"(?:^|[,;\s])timeout\s*=\s*\"?(\d{1,9})", re.IGNORECASE)

_UNSENDABLE = re.compile(r"[^\t\x20-\x7e\x80-\xff]")
"""What must not stand in a header: control characters, line breaks, what is not Latin-1."""


class HttpTransport:
    """Connections to upstreams, kept while they are good; make it inside a running loop."""

    def __init__(
        self, egress: Egress | None = None, *, clock: Callable[[], float] = monotonic_s
    ) -> None:
        self._egress = egress or Egress()
        self._contexts: dict[Path | None, ssl.SSLContext] = {}
        self._clock = clock
        self._idle: dict[_Origin, deque[_Idle]] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._generation = 0
        """Connections of an earlier one are not kept: they were made another way."""

    async def send(self, call: Call, on_sent: Callable[[], None] = lambda: None) -> Connection:
        """Send the call on an idle connection, or on a new one; see `Transport`."""
        origin, head = _head(call)
        connection = self._take(origin) or await self._connect(origin, call.connect_timeout_s)
        on_sent()
        await connection.send(head, call)
        return connection

    def adopt(self, egress: Egress, *, renews_files: bool = False) -> None:
        """Make new connections this way; what waits idle for the old one is closed.

        With `renews_files` files of certificates are read again. What is in use goes on as it is.
        """
        if egress == self._egress and not renews_files:
            return
        self._egress = egress
        self._contexts.clear()
        self._abort_idle()
        self._generation += 1

    async def close(self) -> None:
        """Close every idle connection; those in use close with their answers."""
        self._is_closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        self._abort_idle()

    def _abort_idle(self) -> None:
        for waiting in self._idle.values():
            for idle in waiting:
                idle.connection.abort()
        self._idle.clear()

    def _take(self, origin: _Origin) -> Connection | None:
        """The connection used last: the older ones may lapse."""
        waiting = self._idle.get(origin)
        while waiting:
            idle = waiting.pop()
            if idle.until_s > self._clock() and idle.connection.is_quiet():
                return idle.connection
            idle.connection.abort()
        return None

    def _keep(self, origin: _Origin, connection: Connection, made: int) -> None:
        idle_s = _idle_s(connection.header("keep-alive"))
        if self._is_closed or idle_s <= 0 or made != self._generation:
            connection.abort()
            return
        waiting = self._idle.setdefault(origin, deque())
        waiting.append(_Idle(self._clock() + idle_s, connection))
        if len(waiting) > IDLE_CONNECTIONS_MAX:
            waiting.popleft().connection.abort()
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        """Close what has lapsed: taking the newest first never comes to look at the oldest."""
        now_s = self._clock()
        for origin, waiting in list(self._idle.items()):
            kept: deque[_Idle] = deque()
            for idle in waiting:
                if idle.until_s > now_s and idle.connection.is_open:
                    kept.append(idle)
                else:
                    idle.connection.abort()
            if kept:
                self._idle[origin] = kept
            else:
                del self._idle[origin]
        self._sweeper = None
        if self._idle:
            self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    async def _connect(self, origin: _Origin, timeout_s: float) -> Connection:
        try:
            async with asyncio.timeout(timeout_s):
                connection = await self._open(origin)
        except TlsFileError as error:
            raise TransportError(Fault.UNREACHABLE, f"`ca_file` {error}") from error
        except ssl.SSLCertVerificationError as error:
            reason = f"its certificate is not believed: {error.verify_message}"
            raise TransportError(Fault.UNREACHABLE, reason) from error
        except (OSError, ValueError) as error:  # TimeoutError and ssl.SSLError are OSErrors
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise TransportError(Fault.UNREACHABLE, reason) from error
        if not connection.is_open:  # it spoke first, or hung up, before we had said anything
            raise TransportError(Fault.UNREACHABLE, "the connection was closed at once")
        return connection

    async def _open(self, origin: _Origin) -> Connection:
        loop = asyncio.get_running_loop()
        tls = self._tls_context(origin.ca_file) if origin.is_tls else None
        name = origin.host if tls else None
        made = self._generation
        connection = Connection(lambda idle: self._keep(origin, idle, made))
        forward = proxy_for(self._egress, origin.host)
        if forward is None:
            await loop.create_connection(
                lambda: connection, origin.host, origin.port, ssl=tls, server_hostname=name
            )
            return connection
        tunnel = await open_tunnel(forward, origin.host, origin.port)
        if tls is None:
            tunnel.set_protocol(connection)
            connection.connection_made(tunnel)
            return connection
        try:
            secured = await loop.start_tls(tunnel, connection, tls, server_hostname=name)
        except BaseException:
            tunnel.abort()
            raise
        if secured is None:
            raise ConnectionAbortedError("closed in the handshake")
        connection.connection_made(secured)
        return connection

    def _tls_context(self, ca_file: Path | None) -> ssl.SSLContext:
        """One context for each file; reading the system's certificates takes 20 ms."""
        ca_file = ca_file or self._egress.ca_file
        context = self._contexts.get(ca_file)
        if context is None:
            context = self._contexts[ca_file] = upstream_context(ca_file)
        return context


class _Origin(NamedTuple):
    host: str
    port: int
    is_tls: bool
    ca_file: Path | None = None


class _Idle(NamedTuple):
    until_s: float
    connection: Connection


def _idle_s(keep_alive: str | None) -> float:
    """How long to keep a connection whose server sent this `Keep-Alive` header."""
    told = _KEEP_ALIVE_TIMEOUT.search(keep_alive) if keep_alive else None
    if told is None:
        return IDLE_CONNECTION_S
    return min(IDLE_CONNECTION_S, int(told[1]) - KEEP_ALIVE_MARGIN_S)


_METHODS = frozenset({"GET", "POST", "DELETE"})


@lru_cache(maxsize=256)
def _target(method: str, url: str, ca_file: Path | None) -> tuple[_Origin, bytes]:
    """Where a URL leads, and how a request there begins; most of them come from settings only."""
    if method not in _METHODS:
        raise ValueError("not a method that is sent")
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("not an http(s) URL")
    is_tls = parts.scheme == "https"
    path = parts.path or "/"
    if parts.query:
        path = f"{path}?{parts.query}"
    origin = _Origin(parts.hostname, parts.port or (443 if is_tls else 80), is_tls, ca_file)
    if _UNSENDABLE_PATH.search(path):
        raise ValueError("a path that would end the line")
    return origin, f"{method} {path} HTTP/1.1\r\nHost: {parts.netloc}\r\n".encode("ascii")


def _lines(headers: tuple[tuple[str, str], ...]) -> bytes:
    _check_sendable(headers)
    return "".join([f"{name}: {value}\r\n" for name, value in headers]).encode("latin-1")


_lines_again = lru_cache(maxsize=256)(_lines)
"""For the headers of a provider, which are the same in every call."""


def _head(call: Call) -> tuple[_Origin, bytes]:
    find = _target.__wrapped__ if call.is_one_off else _target
    try:
        origin, start = find(call.method, call.url, call.ca_file)
    except ValueError as error:
        raise TransportError(Fault.UNREACHABLE, "the URL is not one to send to") from error
    make = _lines if call.is_signed or call.is_one_off else _lines_again
    lines = make(tuple(call.headers.items()))
    if call.body or call.method == "POST":
        return origin, b"%b%bContent-Length: %d\r\n\r\n" % (start, lines, len(call.body))
    return origin, b"%b%b\r\n" % (start, lines)


_UNSENDABLE_PATH = re.compile(r"[^\x21-\x7e]")


def _check_sendable(headers: tuple[tuple[str, str], ...]) -> None:
    """Names the first header that cannot be sent; never its value, which may be a key."""
    for name, value in headers:
        if _UNSENDABLE.search(name + value):
            reason = f"the header {name!r} holds a line break, a control or a non-Latin-1 character"
            raise TransportError(Fault.UNREACHABLE, reason)
