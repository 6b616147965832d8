"""One HTTP/1.1 connection to an upstream: a request goes out in one write, an answer comes in.

Parsing is httptools' (llhttp, the parser of Node.js). What is kept here is what a proxy needs and
a general client makes dear: no copies of the body, no task or timer per chunk, one watchdog per
connection. An answer ends well only by its own framing; a connection that closes early, stays
silent for the call's `timeout_s`, or takes longer than its `max_answer_s` is a TransportError.
What follows a whole answer belongs to nobody: the answer is served, the connection is not used
again.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import cast

import httptools

from metering.clock import monotonic_s
from proxy.transport import Call, Fault, TransportError

HEAD_BYTES_MAX = 64 * 1024
"""Status line and headers of an answer, and its trailers; real ones are below 8 kB."""

READ_AHEAD_BYTES = 64 * 1024
"""Above this much unread body the socket is not read: the upstream waits for the client."""

_NO_BODY = frozenset({204, 304})
"""Answers that end with their headers (RFC 9112, 6.3)."""


class _NextMessageError(Exception):
    """Thrown into the parser to stop it: another message begins where ours has ended."""


class Connection(asyncio.Protocol):
    """A connection and the answer that is under way on it; one call at a time.

    `on_idle` gets the connection back when an answer was read to its end and it can be used again.
    """

    __slots__ = (
        "_awaited_s",
        "_call_timeout_s",
        "_chunks",
        "_ends_s",
        "_failure",
        "_framing_bytes",
        "_headers",
        "_is_complete",
        "_is_paused",
        "_keeps_alive",
        "_loop",
        "_on_idle",
        "_parser",
        "_poll",
        "_transport",
        "_unread",
        "_until_close",
        "_waiter",
        "_watchdog",
        "is_open",
        "status",
    )

    def __init__(self, on_idle: Callable[[Connection], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_idle = on_idle
        self._transport: asyncio.Transport | None = None
        self._watchdog: asyncio.TimerHandle | None = None
        self._poll = select.poll()
        self._parser = httptools.HttpResponseParser(self)
        self.is_open = False
        self._reset()

    def _reset(self) -> None:
        self._headers: dict[str, str] = {}
        self._chunks: list[bytes] = []
        self._unread = 0
        self._framing_bytes = 0
        self._is_complete = False
        self._is_paused = False
        self._keeps_alive = False
        self._until_close = False
        self._failure: TransportError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._awaited_s = 0.0
        self._call_timeout_s = 0.0
        self._ends_s = 0.0
        self.status = 0

    # -- the caller's side --------------------------------------------------------------------

    async def send(self, head: bytes, call: Call) -> None:
        """Send a call and wait for the answer's status and headers."""
        assert self._transport is not None
        self._reset()
        self._call_timeout_s = call.timeout_s
        self._ends_s = monotonic_s() + call.max_answer_s
        self._transport.write(head + call.body)
        try:
            while not self.status:
                await self._wait()
        except BaseException:
            self.abort()
            raise

    def header(self, name: str) -> str | None:
        """The first header of that name, or None."""
        return self._headers.get(name.lower())

    async def chunk(self) -> bytes:
        """The next bytes of the body, b"" at its end."""
        while not self._chunks:
            if self._is_complete:
                return b""
            await self._wait()
        if not self._is_complete and monotonic_s() >= self._ends_s:
            self._fail(_endless())
            raise _endless()
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._unread = 0
        if self._is_paused:
            self._is_paused = False
            if self._transport is not None and self._failure is None:
                self._transport.resume_reading()
        return data

    async def read(self, limit: int) -> bytes:
        """The whole body, at most `limit` bytes."""
        parts: list[bytes] = []
        size = 0
        while part := await self.chunk():
            size += len(part)
            if size > limit:
                raise TransportError(Fault.TOO_LARGE, f"the body is over {limit} bytes")
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Done with the answer: back to the pool if it was read to its end, else closed."""
        self._unwatch()
        transport = self._transport
        is_good = self._is_complete and self._keeps_alive and self._failure is None
        if is_good and self.is_open and transport and not transport.get_write_buffer_size():
            self._on_idle(self)  # before the next call somebody asks `is_quiet`
        else:
            self.abort()

    def is_quiet(self) -> bool:
        """Whether a call can be sent: open, all written, and nothing waits to be read.

        The loop may not have come to read yet that the upstream closed, or sent what nobody asked
        for; a call sent then would break, or get a foreign answer. One poll of the socket tells.
        """
        transport = self._transport
        if not self.is_open or transport is None or transport.is_closing():
            return False
        return not self._poll.poll(0) and not transport.get_write_buffer_size()

    def abort(self) -> None:
        """Close the connection at once; the upstream sees that nobody listens any more."""
        self._unwatch()
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    # -- waiting ------------------------------------------------------------------------------

    async def _wait(self) -> None:
        """Until something arrives; raises what went wrong."""
        if self._failure is not None:
            raise self._failure
        self._awaited_s = monotonic_s()
        if self._watchdog is None:
            first_s = min(self._call_timeout_s, max(0.0, self._ends_s - self._awaited_s))
            self._watchdog = self._loop.call_later(first_s, self._watch)
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
            self._awaited_s = 0.0

    def _watch(self) -> None:
        """Fires once per timeout, not once per chunk: looks how long somebody has waited now."""
        self._watchdog = None
        if not self._awaited_s:
            return
        now_s = monotonic_s()
        left_s = self._awaited_s + self._call_timeout_s - now_s
        if self._ends_s - now_s <= 0.001:
            self._fail(_endless())
        elif left_s <= 0.001:
            silence = f"nothing came for {self._call_timeout_s:g} s"
            self._fail(TransportError(Fault.TIMEOUT, silence))
        else:
            self._watchdog = self._loop.call_later(min(left_s, self._ends_s - now_s), self._watch)

    def _unwatch(self) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, failure: TransportError) -> None:
        if self._failure is None and not self._is_complete:
            self._failure = failure
            self._wake()  # what came before is handed out first; the next wait raises
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio's side -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self._transport = cast("asyncio.Transport", transport)
        socket = transport.get_extra_info("socket")
        if socket is not None:  # a transport without one has nothing to poll
            self._poll.register(socket.fileno(), select.POLLIN)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        """Bytes of an answer; bytes nobody asked for close the connection."""
        if self._is_complete or not self._call_timeout_s:
            self.abort()
            return
        self._framing_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._stop(error)
            return
        if self._framing_bytes > HEAD_BYTES_MAX and not self._is_complete:
            self._fail(TransportError(Fault.NONSENSE, "the headers do not end"))
            return
        if self._unread > READ_AHEAD_BYTES and not self._is_paused and not self._is_complete:
            self._is_paused = True
            assert self._transport is not None
            self._transport.pause_reading()
        if self._chunks or self.status:
            self._wake()

    def _stop(self, error: Exception) -> None:
        """The parser stopped: in the answer, which is broken, or after it, which harms nobody."""
        if self._is_complete:
            self.abort()
            self._wake()
        else:
            self._fail(TransportError(Fault.NONSENSE, type(error).__name__))

    def eof_received(self) -> None:
        """The upstream closed its side; `connection_lost` follows."""
        self.is_open = False

    def connection_lost(self, exc: Exception | None) -> None:
        """The end of the connection is the end of the answer only if the answer says so."""
        self.is_open = False
        self._transport = None
        self._unwatch()
        if self._is_complete or self._failure is not None:
            return
        if self._until_close and exc is None:
            self._is_complete = True
            self._wake()
        else:
            why = type(exc).__name__ if exc is not None else "closed"
            self._fail(TransportError(Fault.BROKEN, f"the connection broke off ({why})"))

    # -- httptools' side ----------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A message begins: ours, an interim one before it, or one that nobody asked for."""
        if self._is_complete:
            raise _NextMessageError

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; of several with one name the first counts. Trailers come here too: dropped."""
        if self.status:
            return
        self._headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))

    def on_headers_complete(self) -> None:
        """All headers are there; interim answers (100 Continue) are passed over."""
        status = self._parser.get_status_code()
        if status < 200:
            self._headers.clear()
            return
        self.status = status
        self._until_close = (
            "content-length" not in self._headers
            and "transfer-encoding" not in self._headers
            and status not in _NO_BODY
        )
        # a length in such an answer announces nothing (a 304's is that of the 200); the parser
        # would wait for it, so without its `on_message_complete` the connection is not kept
        self._is_complete = status in _NO_BODY

    def on_body(self, body: bytes) -> None:
        """Bytes of the body."""
        if self._is_complete:
            return
        self._framing_bytes = 0
        self._chunks.append(body)
        self._unread += len(body)

    def on_message_complete(self) -> None:
        """The body ended by its own framing."""
        if self.status:
            self._is_complete = True
            # the parser forgets this once it is back at the start of a message
            self._keeps_alive = not self._until_close and self._parser.should_keep_alive()


def _endless() -> TransportError:
    return TransportError(Fault.ENDLESS, "the answer takes longer than max_answer_s")
