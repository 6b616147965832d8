"""Through a forward proxy: a tunnel to the upstream, or an error that says what the proxy did."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trustme
import uvloop
from fixtures_tls import Authority, ConnectProxy
from fixtures_upstream import ScriptedUpstream, body, scripted_upstream

from proxy.egress import parse_forward_proxy
from proxy.pool import HttpTransport
from proxy.settings import Egress
from proxy.transport import Call, Fault, TransportError

HOST = "upstream.example"


def call(url: str, ca_file: Path | None = None, wait_s: float = 2.0) -> Call:
    return Call(url, {"X-Key": "sk-canary"}, b"{}", 2.0, wait_s, ca_file=ca_file)


def through(proxy: ConnectProxy, **fields: object) -> Egress:
    return replace(Egress(parse_forward_proxy(proxy.url)), **fields)  # type: ignore[arg-type]


async def ask(egress: Egress, wanted: Call, times: int = 1) -> bytes:
    transport = HttpTransport(egress)
    try:
        for _ in range(times):
            answer = await transport.send(wanted)
            got = await answer.read(1000)
            answer.close()
        return got
    finally:
        await transport.close()


async def test_tls_through_a_tunnel(authority: Authority, connect_proxy: ConnectProxy) -> None:
    """The proxy sees a name and a port; the upstream's certificate is checked against its name."""
    async with scripted_upstream(authority.server(HOST)) as upstream:
        upstream.scripts = [[body(b"hello")]]
        connect_proxy.port = upstream.port

        got = await ask(
            through(connect_proxy), call(f"https://{HOST}/v1/chat", authority.ca_file), times=2
        )

    assert got == b"hello"
    assert connect_proxy.heads == [
        f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\nUser-Agent: tokenweir\r\n\r\n"
    ]
    assert b"sk-canary" not in connect_proxy.passed
    assert (upstream.received[1].path, upstream.connections) == ("/v1/chat", 1)
    assert upstream.received[0].headers["x-key"] == "sk-canary"


async def test_plain_http_goes_through_a_tunnel_too(
    upstream: ScriptedUpstream, connect_proxy: ConnectProxy
) -> None:
    """The request line is as it is without a proxy, so the proxy has no say in the answer."""
    upstream.scripts = [[body(b"hello")]]
    connect_proxy.port = upstream.port

    got = await ask(through(connect_proxy), call(f"http://{HOST}:8000/v1/chat"))

    assert got == b"hello"
    assert connect_proxy.heads[0].startswith(f"CONNECT {HOST}:8000 HTTP/1.1\r\n")
    assert upstream.received[0].path == "/v1/chat"
    assert upstream.received[0].headers["host"] == f"{HOST}:8000"


async def test_the_proxys_credentials_go_to_the_proxy_alone(
    upstream: ScriptedUpstream, connect_proxy: ConnectProxy
) -> None:
    """Basic, from the URL, decoded: `us%40er:p%3Aw`."""
    upstream.scripts = [[body(b"hello")]]
    connect_proxy.port = upstream.port
    url = connect_proxy.url.replace("http://", "http://us%40er:p%3Aw@")

    await ask(Egress(parse_forward_proxy(url)), call(f"http://{HOST}/x"))

    assert "Proxy-Authorization: Basic dXNAZXI6cDp3\r\n" in connect_proxy.heads[0]
    assert b"Proxy-Authorization" not in connect_proxy.passed
    assert "proxy-authorization" not in upstream.received[0].headers


REFUSALS = {
    "407": (b"HTTP/1.1 407 Auth\r\nProxy-Authenticate: Basic\r\n\r\n", "answered 407; check"),
    "403": (b"HTTP/1.1 403 No\r\nContent-Length: 6\r\n\r\n<html>", "answered 403"),
    "502": (b"HTTP/1.0 502 Bad\r\n\r\n", "answered 502"),
    "302": (b"HTTP/1.1 302 X\r\nLocation: http://127.0.0.1/\r\n\r\n", "answered 302"),
    "closed": (b"", "closed the connection"),
    "half": (b"HTTP/1.1 200 OK\r\n", "closed the connection"),
    "ssh": (b"SSH-2.0-x\r\n\r\n", "does not speak HTTP"),
    "no_number": (b"HTTP/1.1 yes\r\n\r\n", "does not speak HTTP"),
    "endless": (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000, "sent headers without end"),
    "early_answer": (
        b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        "sent more than its answer",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_will_not(connect_proxy: ConnectProxy, name: str, scheme: str) -> None:
    """Its answer is never the upstream's: nothing was sent, and the log says what it did."""
    connect_proxy.answer, why = REFUSALS[name]

    with pytest.raises(TransportError) as caught:
        await ask(through(connect_proxy), call(f"{scheme}://{HOST}/x"))

    assert caught.value.fault is Fault.UNREACHABLE
    assert f"the proxy of `egress.proxy` {why}" in str(caught.value)
    assert connect_proxy.passed == b""


async def test_no_proxy_and_this_machine_are_reached_directly(
    upstream: ScriptedUpstream, connect_proxy: ConnectProxy
) -> None:
    """Loopback always is: the bundled simulator must not depend on a proxy."""
    upstream.scripts = [[body(b"hello")]]

    assert await ask(through(connect_proxy), call(upstream.url)) == b"hello"
    assert connect_proxy.heads == []


async def test_a_proxy_that_is_not_there(unused_tcp_port: int) -> None:
    """There is no way round it: a proxy that is away is not left out."""
    forward = parse_forward_proxy(f"http://127.0.0.1:{unused_tcp_port}")

    with pytest.raises(TransportError) as caught:
        await ask(Egress(forward), call(f"http://{HOST}/x"))

    assert caught.value.fault is Fault.UNREACHABLE


async def test_a_silent_proxy_costs_the_connect_timeout(connect_proxy: ConnectProxy) -> None:
    """The tunnel is part of connecting."""
    async with scripted_upstream() as silent:
        silent.scripts = [[]]
        forward = parse_forward_proxy(f"http://127.0.0.1:{silent.port}")

        with pytest.raises(TransportError) as caught:
            await ask(Egress(forward), call(f"http://{HOST}/x", wait_s=0.1))

    assert caught.value.fault is Fault.UNREACHABLE


Trust = Callable[[Authority], tuple[Egress, Path | None]]
TRUSTS: dict[str, tuple[Trust, bool]] = {
    "the_providers_file": (lambda own: (Egress(), own.ca_file), True),
    "the_file_of_all": (lambda own: (Egress(ca_file=own.ca_file), None), True),
    "the_system": (lambda _: (Egress(), None), False),
}


@pytest.mark.parametrize("name", TRUSTS)
async def test_who_vouches_for_an_upstream(authority: Authority, name: str) -> None:
    """A private authority is believed when it is named, and by nobody else."""
    trust, is_believed = TRUSTS[name]
    egress, ca_file = trust(authority)
    async with scripted_upstream(authority.server("127.0.0.1")) as upstream:
        upstream.scripts = [[body(b"hello")]]
        if is_believed:
            assert await ask(egress, call(upstream.url, ca_file)) == b"hello"
        else:
            with pytest.raises(TransportError, match="certificate is not believed") as caught:
                await ask(egress, call(upstream.url, ca_file))
            assert caught.value.fault is Fault.UNREACHABLE
            assert upstream.received == []


async def test_a_certificate_for_another_name(authority: Authority) -> None:
    """An authority's word is for a name: another server's certificate opens nothing."""
    async with scripted_upstream(authority.server("elsewhere.example")) as upstream:
        with pytest.raises(TransportError, match="certificate is not believed"):
            await ask(Egress(), call(upstream.url, authority.ca_file))

    assert upstream.received == []


async def test_connections_are_not_shared_between_authorities(authority: Authority) -> None:
    """A connection one provider believed is not handed to another that would not."""
    async with scripted_upstream(authority.server("127.0.0.1")) as upstream:
        upstream.scripts = [[body(b"hello")]]
        transport = HttpTransport()
        answer = await transport.send(call(upstream.url, authority.ca_file))
        await answer.read(10)
        answer.close()

        with pytest.raises(TransportError):
            await transport.send(call(upstream.url))

        await transport.close()


async def test_an_upstream_that_speaks_no_tls(upstream: ScriptedUpstream) -> None:
    """https to a plain port is a failure to connect, and the key is not sent."""
    upstream.scripts = [[body(b"hello")]]

    with pytest.raises(TransportError) as caught:
        await ask(Egress(), call(upstream.url.replace("http:", "https:"), wait_s=0.3))

    assert caught.value.fault is Fault.UNREACHABLE
    assert upstream.received == []


def test_the_loop_of_production_tunnels_alike(tmp_path: Path) -> None:
    """`weir serve` runs on uvloop, whose transports are not asyncio's."""

    async def run() -> bytes:
        authority, proxy = Authority(trustme.CA(), tmp_path), ConnectProxy()
        server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
        proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with scripted_upstream(authority.server(HOST)) as upstream:
            upstream.scripts = [[body(b"x" * 900)]]
            proxy.port = upstream.port
            wanted = call(f"https://{HOST}/v1/chat", authority.ca_file)
            got = await ask(through(proxy), wanted, times=2)
            assert upstream.connections == 1
        server.close()
        await asyncio.gather(*proxy.serving)
        return got

    assert uvloop.run(run()) == b"x" * 900
