"""The container's question: answered over either protocol, and a no is a no."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ssl import SSLContext

import pytest
import trustme
from aiohttp import web

from proxy.healthcheck import is_healthy


@asynccontextmanager
async def answering(status: int, context: SSLContext | None) -> AsyncIterator[int]:
    async def healthz(_: web.Request) -> web.Response:
        return web.Response(status=status)

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def _tls() -> SSLContext:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("weir.example").configure_cert(context)
    return context


@pytest.mark.parametrize("context", [lambda: None, _tls], ids=["http", "https"])
@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
async def test_the_answer_decides(
    context: Callable[[], SSLContext | None], status: int, healthy: bool
) -> None:
    async with answering(status, context()) as port:
        assert await asyncio.to_thread(is_healthy, port) is healthy


async def test_nobody_there_is_a_no() -> None:
    async with answering(200, None) as port:
        pass

    assert await asyncio.to_thread(is_healthy, port) is False
