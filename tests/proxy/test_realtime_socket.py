"""The socket to a provider keeps the rules of every other call."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web
from fixtures_tls import Authority, ConnectProxy

from proxy.egress import parse_forward_proxy
from proxy.realtime_socket import RefusedError, connected
from proxy.settings import Egress, Provider
from proxy.transport import TransportError
from routing.fallback import Outcome


def provider(url: str, **fields: object) -> Provider:
    return Provider(name="one", type="openai", base_url=url, connect_timeout_s=1.0, **fields)  # type: ignore[arg-type] # a test names what it needs


async def opened(egress: Egress, at: Provider) -> None:
    async with connected(egress, at, {"model": "m"}, {"Accept": "x", "Authorization": "Bearer k"}):
        pass


async def test_without_tls_no_forward_proxy_sees_the_key() -> None:
    """It is refused before anything is sent."""
    egress = Egress(proxy=parse_forward_proxy("http://127.0.0.1:9"))

    with pytest.raises(TransportError, match="without TLS"):
        await opened(egress, provider("http://provider.invalid/v1"))


async def test_nobody_listens(unused_tcp_port: int) -> None:
    """It cannot be reached, and the reason is no text of anybody's."""
    with pytest.raises(TransportError):
        await opened(Egress(), provider(f"http://127.0.0.1:{unused_tcp_port}/v1"))


async def test_a_broken_ca_file(tmp_path: Path) -> None:
    """Certificates that cannot be read vouch for nobody."""
    broken = tmp_path / "ca.pem"
    broken.write_text("nothing")

    with pytest.raises(TransportError, match="ca_file"):
        await opened(Egress(), provider("https://127.0.0.1/v1", ca_file=broken))


HOST = "provider.test"

Listen = Callable[[ssl.SSLContext | None, int], Awaitable[int]]


@pytest.fixture
async def listen() -> AsyncIterator[Listen]:
    """Starts a provider with this certificate that answers with this status; 101 is a session."""
    runners: list[web.AppRunner] = []

    async def start(tls: ssl.SSLContext | None, status: int) -> int:
        async def serve(request: web.Request) -> web.StreamResponse:
            if status != 101:
                return web.Response(status=status, headers={"Location": "http://127.0.0.1:1/"})
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            await socket.send_str(request.headers["Authorization"])
            await socket.close()
            return socket

        app = web.Application()
        app.router.add_get("/v1/realtime", serve)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        return int(runner.addresses[0][1])

    yield start
    for runner in runners:
        await runner.cleanup()


async def test_through_a_forward_proxy(
    listen: Listen, authority: Authority, connect_proxy: ConnectProxy
) -> None:
    """A tunnel, TLS within it by the configured authority, and the key only inside."""
    connect_proxy.port = await listen(authority.server(HOST), 101)
    url = connect_proxy.url.replace("http://", "http://us%40er:p%3Aw@")
    egress = Egress(proxy=parse_forward_proxy(url), ca_file=authority.ca_file)
    sent = {"Authorization": "Bearer sk-canary"}

    async with connected(egress, provider(f"https://{HOST}/v1"), {"model": "m"}, sent) as socket:
        said = await socket.receive_str()

    assert said == "Bearer sk-canary"
    assert connect_proxy.heads[0].startswith(f"CONNECT {HOST}:443 ")
    assert "Proxy-Authorization: Basic dXNAZXI6cDp3" in connect_proxy.heads[0]
    assert b"sk-canary" not in connect_proxy.passed


async def test_a_certificate_that_nobody_vouches_for(listen: Listen, authority: Authority) -> None:
    """Nothing is sent to it."""
    port = await listen(authority.server("127.0.0.1"), 101)

    with pytest.raises(TransportError):
        await opened(Egress(), provider(f"https://127.0.0.1:{port}/v1"))


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (401, Outcome.AUTH),
        (429, Outcome.RATE_LIMITED),
        (500, Outcome.SERVER_ERROR),
        (307, Outcome.NONSENSE),
        (200, Outcome.NONSENSE),
    ],
)
async def test_what_else_it_can_answer(listen: Listen, status: int, outcome: Outcome) -> None:
    """A refusal is told from a redirect, which is not followed."""
    port = await listen(None, status)

    with pytest.raises(RefusedError) as caught:
        await opened(Egress(), provider(f"http://127.0.0.1:{port}/v1"))

    assert (caught.value.status, caught.value.outcome) == (status, outcome)
