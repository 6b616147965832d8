"""The client of one exchange, over aiohttp's server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

from aiohttp import web

from metering.background import spawn
from proxy.client_connection import ClientConnection
from proxy.relay import ClientGoneError

EVERY_ANSWER = {"Server": "tokenweir"}
"""In place of the server library's name and version, which are nobody's business."""

PING = b": keepalive\n\n"
"""A comment, which readers of event streams pass over; what stands between closes idle ones."""


class WebClient:
    """The client of one exchange, over aiohttp's server."""

    def __init__(self, request: web.Request, request_id: str, id_header: str) -> None:
        """`id_header` is where clients of its format look for the id of the request."""
        self._request = request
        self._ids = {"x-request-id": request_id, id_header: request_id}
        self._pinging: asyncio.Task[None] | None = None
        self._is_sending = False
        self.response: web.StreamResponse | None = None

    async def start_stream(self, headers: Mapping[str, str]) -> None:
        """Send status and headers; see `relay.Client`."""
        if self._pinging is not None:
            await self._pinged()
        if self.response is None:
            await self._open(headers)

    async def _open(self, headers: Mapping[str, str]) -> None:
        self.response = web.StreamResponse(
            headers={
                **EVERY_ANSWER,
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-cache",
                "X-Accel-Buffering": "no",
                **self._ids,
                **headers,
            }
        )
        try:
            await self.response.prepare(self._request)
        except ConnectionError as error:
            raise ClientGoneError from error

    async def send(self, data: bytes) -> None:
        """Send bytes of the stream; see `relay.Client`."""
        if self._pinging is not None:
            await self._pinged()
        self._is_sending = True
        try:
            await self._write(data)
        finally:
            self._is_sending = False

    def ping(self, headers: Mapping[str, str]) -> None:
        """Send a comment, in a task of its own; see `relay.Client`."""
        is_free = self._pinging is None or self._pinging.done()
        if is_free and not self._is_sending:
            self._pinging = spawn(self._ping(headers), name="keepalive")

    async def _ping(self, headers: Mapping[str, str]) -> None:
        with contextlib.suppress(ClientGoneError):  # whoever sends next finds that out
            if self.response is None:
                await self._open(headers)
            await self._write(PING)

    async def _pinged(self) -> None:
        """Wait for a ping that is under way: two must not write at once."""
        if self._pinging is not None:
            await asyncio.shield(self._pinging)
            self._pinging = None

    async def _write(self, data: bytes) -> None:
        assert self.response is not None
        connection = self._request.protocol
        assert isinstance(connection, ClientConnection)
        try:
            await self.response.write(data)
            await connection.writable()
        except ConnectionError as error:
            raise ClientGoneError from error

    def drop(self) -> None:
        """Close the connection at once: nobody is there, and nothing may wait for it."""
        if self._request.transport is not None:
            self._request.transport.abort()

    async def end(self, tail: bytes) -> web.StreamResponse:
        """Send the last bytes and close the stream."""
        await self._pinged()
        assert self.response is not None
        try:
            await self.response.write_eof(tail)
        except ConnectionError as error:
            raise ClientGoneError from error
        return self.response
