"""Connections to upstreams: taken, made, kept. The production `Transport`."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

from metering.clock import monotonic_s
from proxy.connection import Connection
from proxy.transport import Call, Fault, TransportError

IDLE_CONNECTION_S = 30.0
"""How long an unused connection is kept. Servers close theirs after 5 s (uvicorn) to minutes; the
closer to theirs, the likelier a request meets a connection that is just being closed."""


class HttpTransport:
    """Connections to upstreams, kept while they are good; make it inside a running loop."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._idle: dict[_Origin, deque[tuple[float, Connection]]] = {}
        self._is_closed = False

    async def send(self, call: Call, on_sent: Callable[[], None] = lambda: None) -> Connection:
        """Send the call on an idle connection, or on a new one; see `Transport`."""
        origin, head = _head(call)
        connection = self._take(origin) or await self._connect(origin, call.connect_timeout_s)
        on_sent()
        await connection.send(head, call)
        return connection

    async def close(self) -> None:
        """Close every idle connection; those in use close with their answers."""
        self._is_closed = True
        for waiting in self._idle.values():
            for _, connection in waiting:
                connection.abort()
        self._idle.clear()

    def _take(self, origin: _Origin) -> Connection | None:
        """The connection used last: the older ones may lapse."""
        waiting = self._idle.get(origin)
        oldest_s = monotonic_s() - IDLE_CONNECTION_S
        while waiting:
            since_s, connection = waiting.pop()
            if connection.is_open and since_s >= oldest_s:
                return connection
            connection.abort()
        return None

    def _keep(self, origin: _Origin, connection: Connection) -> None:
        if self._is_closed:
            connection.abort()
            return
        waiting = self._idle.setdefault(origin, deque())
        while waiting and not waiting[0][1].is_open:
            waiting.popleft()
        waiting.append((monotonic_s(), connection))

    async def _connect(self, origin: _Origin, timeout_s: float) -> Connection:
        tls = self._tls_context() if origin.is_tls else None
        try:
            async with asyncio.timeout(timeout_s):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: Connection(lambda idle: self._keep(origin, idle)),
                    origin.host,
                    origin.port,
                    ssl=tls,
                    server_hostname=origin.host if tls else None,
                )
        except (OSError, ValueError) as error:  # TimeoutError and ssl.SSLError are OSErrors
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise TransportError(Fault.UNREACHABLE, reason) from error
        return connection

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls


class _Origin(NamedTuple):
    host: str
    port: int
    is_tls: bool


@lru_cache(maxsize=1024)
def _target(url: str) -> tuple[_Origin, bytes]:
    """Where a URL leads, and the first lines of a POST there; URLs come from settings only."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{url!r} is not an http(s) URL")
    is_tls = parts.scheme == "https"
    path = parts.path or "/"
    if parts.query:
        path = f"{path}?{parts.query}"
    origin = _Origin(parts.hostname, parts.port or (443 if is_tls else 80), is_tls)
    return origin, f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\n".encode("ascii")


def _head(call: Call) -> tuple[_Origin, bytes]:
    origin, start = _target(call.url)
    lines = "".join([f"{name}: {value}\r\n" for name, value in call.headers.items()])
    if lines.count("\n") != len(call.headers) or "\0" in lines:
        raise ValueError("a header's value has a line break in it")
    return origin, start + f"{lines}Content-Length: {len(call.body)}\r\n\r\n".encode("latin-1")
