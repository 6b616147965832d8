"""The transport's contract: bytes as they come, and one name for everything that goes wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
from fixtures_upstream import (
    LAST_CHUNK,
    Act,
    Script,
    ScriptedUpstream,
    body,
    chunk,
    head,
    stream_head,
)

from proxy.transport import AiohttpTransport, Answer, Call, Fault, Transport, TransportError

TRANSPORTS: dict[str, Callable[[], Transport]] = {"aiohttp": AiohttpTransport}


@pytest.fixture(params=TRANSPORTS)
async def transport(request: pytest.FixtureRequest) -> AsyncIterator[Transport]:
    made = TRANSPORTS[request.param]()
    yield made
    await made.close()


def call(url: str, timeout_s: float = 5.0) -> Call:
    return Call(f"{url}/chat", {"X-One": "1"}, b'{"a":1}', timeout_s, connect_timeout_s=1.0)


async def all_of(answer: Answer) -> bytes:
    parts = []
    while part := await answer.chunk():
        parts.append(part)
    return b"".join(parts)


async def all_and_close(answer: Answer) -> bytes:
    try:
        return await all_of(answer)
    finally:
        answer.close()


async def test_a_body_and_its_headers(transport: Transport, upstream: ScriptedUpstream) -> None:
    """Status, headers in any case, and the body come through; the request arrives as given."""
    upstream.scripts = [[body(b"hello", status=201, extra="X-Id: 7\r\n")]]

    answer = await transport.send(call(upstream.url))

    assert (answer.status, answer.header("x-ID"), answer.header("none")) == (201, "7", None)
    assert await answer.read(100) == b"hello"
    received = upstream.received[0]
    assert (received.path, received.body) == ("/v1/chat", b'{"a":1}')
    assert received.headers["x-one"] == "1"
    answer.close()


async def test_chunks_come_as_they_are_sent(
    transport: Transport, upstream: ScriptedUpstream
) -> None:
    """The first chunk is handed out while the second has not been sent."""
    upstream.scripts = [[stream_head(), chunk(b"one"), Act.WAIT, chunk(b"two"), LAST_CHUNK]]

    answer = await transport.send(call(upstream.url))
    first = await answer.chunk()
    upstream.proceed.set()

    assert first == b"one"
    assert await all_of(answer) == b"two"
    assert await answer.chunk() == b""
    answer.close()


async def test_a_connection_is_used_again(transport: Transport, upstream: ScriptedUpstream) -> None:
    """After a body read to its end, the next call needs no new connection."""
    upstream.scripts = [[body(b"x")]]

    for _ in range(3):
        answer = await transport.send(call(upstream.url))
        await answer.read(10)
        answer.close()

    assert upstream.connections == 1


async def test_an_unread_answer_closes_its_connection(
    transport: Transport, upstream: ScriptedUpstream
) -> None:
    """Closing an answer in mid-body closes the connection, so the upstream stops working."""
    upstream.scripts = [[stream_head(), chunk(b"one"), Act.HANG]]

    answer = await transport.send(call(upstream.url))
    await answer.chunk()
    answer.close()

    await upstream.left.wait()


async def test_redirects_are_not_followed(transport: Transport, upstream: ScriptedUpstream) -> None:
    """T-21: a redirect comes back as it is; the key goes nowhere else."""
    upstream.scripts = [[body(b"", status=307, extra="Location: http://127.0.0.1:1/\r\n")]]

    answer = await transport.send(call(upstream.url))

    assert answer.status == 307
    assert len(upstream.received) == 1
    answer.close()


async def test_a_body_over_the_limit(transport: Transport, upstream: ScriptedUpstream) -> None:
    """T-25: a body larger than the caller takes is an error, not memory."""
    upstream.scripts = [[body(b"x" * 100_000)]]

    answer = await transport.send(call(upstream.url))
    with pytest.raises(TransportError) as caught:
        await answer.read(50_000)

    assert caught.value.fault is Fault.TOO_LARGE
    answer.close()


async def test_nobody_listens(transport: Transport, unused_tcp_port: int) -> None:
    """A refused connection says that nothing was sent."""
    with pytest.raises(TransportError) as caught:
        await transport.send(call(f"http://127.0.0.1:{unused_tcp_port}"))

    assert caught.value.fault is Fault.UNREACHABLE


HEAD_FAULTS: dict[str, tuple[Script, Fault]] = {
    "closed_before_a_byte": ([Act.CLOSE], Fault.BROKEN),
    "reset_before_a_byte": ([Act.RESET], Fault.BROKEN),
    "ssh_banner": ([b"SSH-2.0-OpenSSH_9\r\n\r\n", Act.CLOSE], Fault.NONSENSE),
    "silence": ([Act.HANG], Fault.TIMEOUT),
    "two_lengths": (
        [b"HTTP/1.1 200 X\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", Act.CLOSE],
        Fault.NONSENSE,
    ),
}


@pytest.mark.parametrize("name", HEAD_FAULTS)
async def test_before_the_headers(
    transport: Transport, upstream: ScriptedUpstream, name: str
) -> None:
    """T-24: what goes wrong before the headers has one name each."""
    script, fault = HEAD_FAULTS[name]
    upstream.scripts = [script]

    with pytest.raises(TransportError) as caught:
        await transport.send(call(upstream.url, timeout_s=0.2))

    assert caught.value.fault is fault


BODY_FAULTS: dict[str, tuple[Script, Fault]] = {
    "chunked_then_closed": ([stream_head(), chunk(b"one"), Act.CLOSE], Fault.BROKEN),
    "closed_in_a_chunk": ([stream_head(), b"5\r\non", Act.CLOSE], Fault.BROKEN),
    "shorter_than_said": ([head(), b"Content-Length: 9\r\n\r\none", Act.CLOSE], Fault.BROKEN),
    "bad_chunk_size": ([stream_head(), b"zz\r\none\r\n", Act.CLOSE], Fault.NONSENSE),
    "silence": ([stream_head(), chunk(b"one"), Act.HANG], Fault.TIMEOUT),
}


@pytest.mark.parametrize("name", BODY_FAULTS)
async def test_in_the_body(transport: Transport, upstream: ScriptedUpstream, name: str) -> None:
    """T-24: what goes wrong in the body has one name each; what came before is handed out."""
    script, fault = BODY_FAULTS[name]
    upstream.scripts = [script]

    with pytest.raises(TransportError) as caught:
        await all_and_close(await transport.send(call(upstream.url, timeout_s=0.2)))

    assert caught.value.fault is fault
