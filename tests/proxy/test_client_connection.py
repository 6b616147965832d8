"""A connection whose other side does as it likes, without a network in between."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import Any

from aiohttp import web

from proxy.client_connection import ClientConnection, Patience
from proxy.crowd import HEALTH_CONNECTIONS, Crowd

HURRIED = Patience(idle_s=0.05, headers_s=1.0, write_s=0.1)


class StuckTransport(asyncio.Transport):
    """A peer that takes nothing: what is written stays, and a close waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.protocol: ClientConnection | None = None
        self.written = b""
        self.is_closing_now = False
        self.aborted = asyncio.Event()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("192.0.2.1", 1) if name == "peername" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.limits = (high, low)

    def get_write_buffer_size(self) -> int:
        return len(self.written)

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        self.is_closing_now = True

    def is_closing(self) -> bool:
        return self.is_closing_now

    def abort(self) -> None:
        assert self.protocol is not None
        self.protocol.connection_lost(None)
        self.aborted.set()


async def hello(request: web.BaseRequest) -> web.Response:
    return web.Response(text="hello")


STALLED: list[None] = []


def connected(
    crowd: Crowd, patience: Patience = HURRIED
) -> tuple[ClientConnection, StuckTransport]:
    server = web.Server(hello, handler_cancellation=True)
    connection = ClientConnection(
        server,
        loop=asyncio.get_running_loop(),
        patience=patience,
        crowd=crowd,
        on_stall=lambda: STALLED.append(None),
    )
    transport = StuckTransport()
    transport.protocol = connection
    connection.connection_made(transport)
    return connection, transport


async def test_t16_a_closing_connection_is_not_kept_for_ever() -> None:
    """T-16: what nobody takes after the last answer is dropped in the end, and counted out."""
    crowd = Crowd(5)
    connection, transport = connected(crowd)
    connection.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")

    async with asyncio.timeout(5):
        await transport.aborted.wait()

    assert b"hello" in transport.written
    assert transport.is_closing_now
    assert len(crowd) == 0


async def test_t16_a_client_that_takes_too_little_is_cut() -> None:
    """T-16: some bytes now and then are no progress; it is counted, too."""
    STALLED.clear()
    connection, transport = connected(Crowd(5), Patience(write_s=0.1))
    transport.write(b"x" * 100_000)
    connection.pause_writing()
    transport.written = transport.written[50:]

    async with asyncio.timeout(5):
        await transport.aborted.wait()

    assert STALLED == [None]


async def test_t16_a_client_that_takes_enough_is_not() -> None:
    """T-16: 1 KiB a second is enough, and the next span is measured anew."""
    connection, transport = connected(Crowd(5), Patience(write_s=0.1))
    transport.write(b"x" * 100_000)
    connection.pause_writing()
    for _ in range(10):
        transport.written = transport.written[5_000:]
        await asyncio.sleep(0.02)

    was_kept = not transport.aborted.is_set()
    connection.resume_writing()
    transport.abort()
    assert was_kept


async def test_t17_one_too_many_is_told_and_closed() -> None:
    """T-17: over the bound a few may ask for health, the rest get a 503 before they said a word."""
    crowd = Crowd(1)
    opened = [connected(crowd, Patience()) for _ in range(1 + HEALTH_CONNECTIONS)]
    for each, _ in opened:
        each.data_received(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")

    refused, transport = connected(crowd)

    assert [each.is_for_health_only for each, _ in opened] == [False] + [True] * HEALTH_CONNECTIONS
    assert transport.written.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b'"code":"overloaded"' in transport.written
    assert b"Retry-After: 1\r\n" in transport.written
    assert transport.is_closing_now
    for each in [*(other for _, other in opened), transport]:
        each.abort()
    assert len(crowd) == 0
    assert refused.transport is None


def test_t10_the_slow_parser_is_refused() -> None:
    """T-10: aiohttp falls back to a parser in Python without a word; we do not start with that."""
    code = (
        "from aiohttp import web; from proxy.server import Runner; "
        "from proxy.client_connection import PATIENCE; from proxy.crowd import Crowd; "
        "Runner(web.Application(), shutdown_timeout=1, patience=PATIENCE, crowd=Crowd(1))"
    )

    told = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "AIOHTTP_NO_EXTENSIONS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert told.returncode == 1
    assert "parser in C is missing" in told.stderr
