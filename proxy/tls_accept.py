"""The TLS handshake of a client, inside the bounds that hold for every connection.

An event loop that listens with TLS tells us of a connection once its handshake is done: until then
nobody counts it, and silence lasts a minute. Rules kept here: a socket has its place in the crowd
from accept on, and no more time for its handshake and its first headers together than others have
for their headers; who gets no place is closed without a handshake, which costs more than a refusal.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from typing import cast

from metering.background import spawn
from proxy.client_connection import ClientConnection


class TlsAcceptor(asyncio.Protocol):
    """An accepted socket until its handshake is done; then `connection` has it.

    The socket is taken over from the plain transport it came with, before that reads: uvloop reads
    on whatever a protocol says in `connection_made`, so `start_tls` would miss the client's hello.
    """

    def __init__(
        self,
        connection: ClientConnection,
        context: ssl.SSLContext,
        waiting: set[asyncio.Task[None]],
    ) -> None:
        self._connection = connection
        self._context = context
        self._waiting = waiting

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A socket was accepted; nothing of it is read yet."""
        wire = cast("asyncio.Transport", transport)
        if not self._connection.admit(wire):
            wire.abort()
            return
        kept = socket.socket(fileno=os.dup(wire.get_extra_info("socket").fileno()))
        wire.abort()
        task = spawn(self._shake_hands(kept), name="tls-handshake")
        self._connection.on_make_way = task.cancel
        self._waiting.add(task)

        def ended(done: asyncio.Task[None]) -> None:
            self._waiting.discard(done)
            if self._connection.transport is None:
                self._connection.release()
                kept.close()

        task.add_done_callback(ended)

    async def _shake_hands(self, kept: socket.socket) -> None:
        # OSError: the client left, lingered, or speaks no TLS of ours (ssl.SSLError is one)
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self._connection,
                kept,
                ssl=self._context,
                ssl_handshake_timeout=self._connection.headers_left_s(),
            )
