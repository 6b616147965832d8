"""One client's connection: what it may take of our time, and what we say when it does not.

aiohttp knows one deadline, for idle connections. Rules kept here, besides: the headers of a request
are here within a fixed time, however steadily they drip; a body whose framing breaks is an error at
once; whoever takes nothing of an answer, or of the rest of it after its end, is cut; no refusal
quotes what the client sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, cast

from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import HttpRequestParser
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import _ErrInfo

from proxy.crowd import Crowd, Place
from proxy.errors import ApiError, Overloaded, RequestTimeout

WRITE_BUFFER_BYTES = 32 * 1024
"""What we keep of an answer for a client that reads slowly, before its upstream has to wait."""

BYTES_PER_S_MIN = 1024
"""Who sends or takes less than this, after a first grace, is not waited for."""

QUEUED_REQUESTS_MAX = 2
"""Requests of a connection that are parsed ahead of the one that is served; aiohttp's own is 32."""

HEADERS_BYTES_MAX = 64 * 1024
"""For all headers of a request; aiohttp bounds one, and their number, which makes a MiB."""

HEALTH_HEADERS_S = 1.0
"""For the headers of who came when all places were taken: health checks ask at once, and a few
silent connections must not keep them out."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a client is waited for, in seconds."""

    idle_s: float = 75.0
    """Between two requests of a connection."""
    headers_s: float = 10.0
    """For the headers of a request, from the connection (a TLS handshake is part of it) or their
    first byte on."""
    body_grace_s: float = 10.0
    """For a body's first bytes; then it has to come at `BYTES_PER_S_MIN`."""
    body_s: float = 30.0
    """For a whole body, with a second more for every 64 KiB of it."""
    write_s: float = 30.0
    """For a client that takes too little of what it asked for."""
    linger_s: float = 5.0
    """For the rest of a refused body, so that the client can read the refusal."""


PATIENCE = Patience()


def _nobody_counts() -> None:
    """What is told of clients that stall, where nobody asks."""


class ClientConnection(web.RequestHandler):
    """aiohttp's connection with deadlines in it.

    Some attributes here are private to aiohttp; tests/proxy/test_client_connection.py and
    tests/threats notice if they go.
    """

    __slots__ = (
        "_accepted_at",
        "_address",
        "_crowd",
        "_cut_timer",
        "_has_begun",
        "_headers_timer",
        "_is_counted",
        "_on_stall",
        "_patience",
        "_payload",
        "_place",
        "_unsent",
        "_wire",
        "on_make_way",
    )

    def __init__(
        self,
        manager: web.Server,
        *,
        patience: Patience,
        crowd: Crowd,
        on_stall: Callable[[], None] = _nobody_counts,
        **options: Any,
    ) -> None:
        super().__init__(
            manager,
            keepalive_timeout=patience.idle_s,
            lingering_time=patience.linger_s,
            **options,
        )
        # the same parser, but for the queue, whose length aiohttp lets nobody choose
        self._parser = HttpRequestParser(
            self,
            self._loop,
            self._read_bufsize,
            max_line_size=self.max_line_size,
            max_field_size=self.max_field_size,
            max_headers=self.max_headers,
            payload_exception=web.RequestPayloadError,
            auto_decompress=options.get("auto_decompress", True),
            max_msg_queue_size=QUEUED_REQUESTS_MAX,
        )
        self._max_msg_queue_size = QUEUED_REQUESTS_MAX
        self._msg_queue_resume_size = QUEUED_REQUESTS_MAX // 2
        self._patience = patience
        self._crowd = crowd
        self._on_stall = on_stall
        self._accepted_at = 0.0
        self._address = ""
        self._is_counted = False
        self._place = Place.NONE
        self._wire: asyncio.Transport | None = None
        self._payload: StreamReader | None = None
        self._headers_timer: asyncio.TimerHandle | None = None
        self._cut_timer: asyncio.TimerHandle | None = None
        self._has_begun = False
        self._unsent = 0
        self.on_make_way: Callable[[], object] = self._be_refused
        """How it is ended for somebody who comes later; another way while its handshake lasts."""

    @property
    def is_for_health_only(self) -> bool:
        """There are too many connections: this one may ask whether we are alive."""
        return self._place is Place.HEALTH

    async def writable(self) -> None:
        """Wait while the client has yet to take what was written."""
        if self._paused:
            await self._drain_helper()

    # -- its place among the others ------------------------------------------------------------

    def admit(self, wire: asyncio.Transport) -> bool:
        """Take a place for a socket that was accepted, over TLS before its handshake; False when
        there is none."""
        peer = wire.get_extra_info("peername")
        self._address = str(peer[0]) if peer else ""
        self._accepted_at = self._loop.time()
        self._place = self._crowd.enter(self._address, self.make_way)
        self._is_counted = self._place is not Place.NONE
        return self._is_counted

    def release(self) -> None:
        """Give the place back; twice is once."""
        if self._is_counted:
            self._is_counted = False
            self._crowd.leave(self._address, self.make_way)

    def make_way(self) -> None:
        """Go, for somebody who comes now: all places are taken, and nothing was asked here yet."""
        self.release()
        self.on_make_way()

    def _be_refused(self) -> None:
        if self._has_begun and self.transport is not None:
            self.transport.write(_raw(Overloaded("Too many connections are open.")))
        self.force_close()

    def headers_left_s(self) -> float:
        """How much longer the first headers are waited for, and the handshake before them."""
        late_s = self._patience.headers_s
        if self.is_for_health_only:
            late_s = min(late_s, HEALTH_HEADERS_S)
        return max(0.001, self._accepted_at + late_s - self._loop.time())

    # -- what the event loop tells us ----------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody has connected."""
        wire = cast("asyncio.Transport", transport)  # uvloop's is one in all but its class
        if not self._is_counted:
            self.admit(wire)
        self._wire = wire
        self.on_make_way = self._be_refused
        if self._place is Place.NONE:
            self._force_close = True
            wire.write(_raw(Overloaded("Too many connections are open.")))
            self._hang_up()
            return
        wire.set_write_buffer_limits(WRITE_BUFFER_BYTES, WRITE_BUFFER_BYTES // 4)
        self._await_headers(self.headers_left_s())
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection is closed, by whomever."""
        self._wire = None
        self._stop(headers=True, cut=True)
        self.release()
        if self._place is not Place.NONE:
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes have come: a request, a part of one, or several."""
        queued = len(self._messages)
        super().data_received(data)
        if len(self._messages) > queued:
            self._stop(headers=True)
            self._crowd.has_asked(self.make_way)
            for at, (message, payload) in enumerate(list(self._messages)[queued:], queued):
                self._arrived(message, payload)
                if _headers_bytes(message) > HEADERS_BYTES_MAX:
                    self._messages[at] = (_TOO_LONG, payload)
        elif data and self._waiter is not None and not self._waiter.done():
            self._has_begun = True
            if self._headers_timer is None:
                self._await_headers(self._patience.headers_s)

    def pause_writing(self) -> None:
        """The client reads slower than we write."""
        super().pause_writing()
        self._watch_writing()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._stop(cut=True)
        super().resume_writing()

    async def start(self) -> None:
        """Serve requests until the connection is to be closed; see aiohttp."""
        try:
            await super().start()
        finally:
            if self._wire is not None:
                self._hang_up()

    # -- deadlines -----------------------------------------------------------------------------

    def _await_headers(self, late_s: float) -> None:
        self._headers_timer = self._loop.call_later(late_s, self._headers_late)

    def _headers_late(self) -> None:
        self._headers_timer = None
        if self._messages or self._request_in_progress:
            return
        if self._has_begun and self.transport is not None:
            late = f"The headers did not arrive within {self._patience.headers_s:.0f} s."
            self.transport.write(_raw(RequestTimeout(late)))
        self.force_close()

    def _arrived(self, message: object, payload: StreamReader) -> None:
        """A message is in the queue, or what aiohttp puts there when it cannot read on."""
        self._has_begun = False
        before, self._payload = self._payload, payload
        if isinstance(message, RawRequestMessage) or before is None or before.is_eof():
            return
        # the bytes that could not be read were meant to be the body of the one before, and
        # nobody else tells who waits for it
        before.set_exception(web.RequestPayloadError("its framing is broken"))
        before.feed_eof()

    def _watch_writing(self) -> None:
        if self._wire is not None:
            self._stop(cut=True)
            self._unsent = self._wire.get_write_buffer_size()
            self._cut_timer = self._loop.call_later(self._patience.write_s, self._judge_writing)

    def _judge_writing(self) -> None:
        self._cut_timer = None
        if self._wire is None:
            return
        taken = self._unsent - self._wire.get_write_buffer_size()
        if taken >= BYTES_PER_S_MIN * self._patience.write_s:
            self._watch_writing()
        else:
            self._on_stall()
            self._wire.abort()

    def _hang_up(self) -> None:
        """Close once all is sent, and in any case: a closing transport waits for ever."""
        if self._wire is not None:
            self._stop(cut=True)
            self._wire.close()
            self._cut_timer = self._loop.call_later(self._patience.write_s, self._wire.abort)

    def _stop(self, *, headers: bool = False, cut: bool = False) -> None:
        if headers and self._headers_timer is not None:
            self._headers_timer.cancel()
            self._headers_timer = None
        if cut and self._cut_timer is not None:
            self._cut_timer.cancel()
            self._cut_timer = None


_TOO_LONG = _ErrInfo(400, LineTooLong("all headers", HEADERS_BYTES_MAX), "")
"""What aiohttp puts in place of a request that it cannot take: a refusal, and the end."""


def _headers_bytes(message: object) -> int:
    if not isinstance(message, RawRequestMessage):
        return 0
    return sum(len(name) + len(value) for name, value in message.raw_headers)


def _raw(error: ApiError) -> bytes:
    """A refusal for a connection on which no request was read."""
    body = error.body()
    head = {
        "Server": "tokenweir",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        **error.headers(),
    }
    lines = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in head.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body
