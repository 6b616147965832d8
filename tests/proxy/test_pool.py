"""Which connections are kept, for how long, and what never goes out on one."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest
from fixtures_upstream import ScriptedUpstream, body

from proxy.pool import IDLE_CONNECTIONS_MAX, HttpTransport
from proxy.settings import Egress
from proxy.transport import Call, Fault, TransportError


@dataclass
class ManualClock:
    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def transport(clock: ManualClock) -> AsyncIterator[HttpTransport]:
    made = HttpTransport(clock=clock)
    yield made
    await made.close()


def call(url: str, headers: dict[str, str] | None = None) -> Call:
    return Call(f"{url}/chat", headers or {}, b"{}", timeout_s=5.0, connect_timeout_s=1.0)


async def ask(transport: HttpTransport, upstream: ScriptedUpstream) -> bytes:
    answer = await transport.send(call(upstream.url))
    try:
        return await answer.read(100)
    finally:
        answer.close()


async def ask_at_once(transport: HttpTransport, upstream: ScriptedUpstream, times: int) -> None:
    """That many calls, each on a connection of its own, closed in order."""
    answers = [await transport.send(call(upstream.url)) for _ in range(times)]
    for answer in answers:
        await answer.read(100)
        answer.close()


def idle(transport: HttpTransport) -> int:
    return sum(len(waiting) for waiting in transport._idle.values())


LIFETIMES = {
    "none": ("", 30.0),
    "five": ("Keep-Alive: timeout=5\r\n", 4.0),
    "two": ("Keep-Alive: timeout=2\r\n", 1.0),
    "twenty": ("keep-alive: max=100, timeout=20\r\n", 19.0),
    "long": ("Keep-Alive: timeout=75\r\n", 30.0),
    "spaced": ('Keep-Alive: Timeout = "5"\r\n', 4.0),
    "no_number": ("Keep-Alive: timeout=soon\r\n", 30.0),
    "negative": ("Keep-Alive: timeout=-1\r\n", 30.0),
    "other": ("Keep-Alive: xtimeout=5\r\n", 30.0),
}


@pytest.mark.parametrize("name", LIFETIMES)
async def test_how_long_a_connection_is_kept(
    transport: HttpTransport, clock: ManualClock, upstream: ScriptedUpstream, name: str
) -> None:
    """30 s, or a second less than the server says it waits: later it may be closing it."""
    extra, kept_s = LIFETIMES[name]
    upstream.scripts = [[body(b"x", extra=extra)]]

    await ask(transport, upstream)
    clock.now_s += kept_s - 0.1
    await ask(transport, upstream)
    used_again = upstream.connections == 1
    clock.now_s += kept_s
    await ask(transport, upstream)

    assert (used_again, upstream.connections) == (True, 2)


async def test_a_server_that_does_not_wait(
    transport: HttpTransport, upstream: ScriptedUpstream
) -> None:
    """A timeout of one second leaves no margin: the connection is not kept at all."""
    upstream.scripts = [[body(b"x", extra="Keep-Alive: timeout=1\r\n")]]

    await ask(transport, upstream)

    assert idle(transport) == 0


async def test_older_connections_lapse_while_the_newest_is_used(
    transport: HttpTransport, clock: ManualClock, upstream: ScriptedUpstream
) -> None:
    """What a burst opened is closed after it, though calls keep taking the newest."""
    upstream.scripts = [[body(b"x")]]

    await ask_at_once(transport, upstream, 5)
    before = idle(transport)
    clock.now_s += 20
    await ask(transport, upstream)
    clock.now_s += 20
    transport._sweep()

    assert (before, idle(transport)) == (5, 1)
    await upstream.left.wait()


async def test_the_sweep_runs_while_anything_is_idle(
    transport: HttpTransport, clock: ManualClock, upstream: ScriptedUpstream
) -> None:
    """The sweep's timer is there exactly while a connection is kept."""
    upstream.scripts = [[body(b"x")]]

    before = transport._sweeper
    await ask(transport, upstream)
    transport._sweep()
    while_idle = transport._sweeper
    clock.now_s += 31
    transport._sweep()

    assert (before, while_idle is not None, transport._sweeper) == (None, True, None)
    assert transport._idle == {}


async def test_idle_connections_are_bounded(
    transport: HttpTransport, upstream: ScriptedUpstream
) -> None:
    """Of a burst of calls no more than so many connections are kept."""
    upstream.scripts = [[body(b"x")]]

    await ask_at_once(transport, upstream, IDLE_CONNECTIONS_MAX + 10)

    assert idle(transport) == IDLE_CONNECTIONS_MAX


def _end(served: socket.socket) -> None:
    served.close()


def _reset(served: socket.socket) -> None:
    served.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    served.close()


def _speak(served: socket.socket) -> None:
    served.send(b"HTTP/1.1 500 foreign")


@pytest.mark.parametrize("spoil", [_end, _reset, _speak])
async def test_the_socket_is_looked_at_before_a_call(
    transport: HttpTransport, spoil: Callable[[socket.socket], None]
) -> None:
    """An end, or bytes, that the loop has not come to read are seen before a call goes out."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)

        async def ask_and_serve() -> tuple[bytes, socket.socket]:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            sending = asyncio.ensure_future(transport.send(call(url)))
            served, _ = await loop.sock_accept(listener)
            await loop.sock_recv(served, 1000)
            await loop.sock_sendall(served, body(b"x"))
            answer = await sending
            whole = await answer.read(10)
            answer.close()
            return whole, served

        _, first = await ask_and_serve()
        spoil(first)  # the loop gets no turn between this and the next call
        whole, second = await ask_and_serve()

    first.close()
    second.close()
    assert whole == b"x"


SECRET = "sk-secret"
UNSENDABLE = {
    "cr": f"{SECRET}\rX-Evil: 1",
    "lf": f"{SECRET}\nX-Evil: 1",
    "crlf": f"{SECRET}\r\nX-Evil: 1",
    "nul": f"{SECRET}\0",
    "control": f"{SECRET}\x1b[2J",
    "not_latin": f"{SECRET}\u2013",
    "surrogate": f"{SECRET}\udc80",
}


@pytest.mark.parametrize("name", UNSENDABLE)
async def test_a_header_that_cannot_be_sent(
    transport: HttpTransport, upstream: ScriptedUpstream, name: str
) -> None:
    """A key with a line break or a stray character is a fault that names the header only."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {UNSENDABLE[name]}"}

    with pytest.raises(TransportError) as caught:
        await transport.send(call(upstream.url, headers))

    assert caught.value.fault is Fault.UNREACHABLE
    assert "'Authorization'" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert upstream.connections == 0


@pytest.mark.parametrize("url", ["ftp://x", "x", "http://", "http://x:99999", "http://x/gr\u00f6"])
async def test_a_url_that_cannot_be_sent_to(transport: HttpTransport, url: str) -> None:
    """A URL that is none is a fault like an unreachable host, not a crash."""
    with pytest.raises(TransportError) as caught:
        await transport.send(call(url))

    assert caught.value.fault is Fault.UNREACHABLE


async def test_a_latin_header_is_sent(transport: HttpTransport, upstream: ScriptedUpstream) -> None:
    """Tabs and Latin-1 are allowed in a header's value and arrive as they are."""
    upstream.scripts = [[body(b"x")]]

    answer = await transport.send(call(upstream.url, {"X-Name": "Gr\u00f6\u00dfe\tx"}))
    answer.close()

    assert upstream.received[0].headers["x-name"] == "Gr\u00f6\u00dfe\tx"


async def test_a_server_that_hangs_up_at_once(
    transport: HttpTransport, unused_tcp_port: int
) -> None:
    """A server that speaks first, or accepts and leaves, gives a fault and never a crash."""

    async def rude(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        writer.close()

    server = await asyncio.start_server(rude, "127.0.0.1", unused_tcp_port)
    with pytest.raises(TransportError) as caught:
        await transport.send(call(f"http://127.0.0.1:{unused_tcp_port}"))
    server.close()

    assert caught.value.fault in {Fault.UNREACHABLE, Fault.BROKEN, Fault.NONSENSE}


async def test_another_way_out_leaves_no_old_connection(
    transport: HttpTransport, upstream: ScriptedUpstream
) -> None:
    """Idle ones are closed, and those in use are not kept; the same way out changes nothing."""
    upstream.scripts = [[body(b"x")]]
    await ask_at_once(transport, upstream, 2)
    transport.adopt(Egress())
    same = idle(transport)
    answer = await transport.send(call(upstream.url))
    transport.adopt(Egress(no_proxy=("elsewhere.example",)))
    closed = idle(transport)
    await answer.read(100)
    answer.close()

    assert (same, closed, idle(transport)) == (2, 0, 0)
