"""One connection: what it holds in memory, and for how long it listens to what never ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from fixtures_upstream import Act, ScriptedUpstream, chunk, head, stream_head
from hypothesis import given
from hypothesis import strategies as st

from proxy.connection import HEAD_BYTES_MAX, READ_AHEAD_BYTES, Connection
from proxy.pool import HttpTransport
from proxy.transport import Call, Fault, TransportError

SEGMENT_BYTES_MAX = 256 * 1024
"""What asyncio reads from a socket at once."""

MB = 1024 * 1024


@pytest.fixture
async def transport() -> AsyncIterator[HttpTransport]:
    made = HttpTransport()
    yield made
    await made.close()


def call(url: str) -> Call:
    return Call(url, {}, b"{}", timeout_s=5.0, connect_timeout_s=1.0)


async def test_a_slow_reader_holds_the_upstream_back(
    transport: HttpTransport, upstream: ScriptedUpstream
) -> None:
    """Of 50 MB no more than the read-ahead is ever in memory, however slowly it is taken."""
    upstream.scripts = [[head() + f"Content-Length: {50 * MB}\r\n\r\n".encode(), *[b"x" * MB] * 50]]

    answer = await transport.send(call(upstream.url))
    sizes, unread = [], []
    while True:
        for _ in range(5):  # turns in which the upstream could send on
            await asyncio.sleep(0)
        unread.append(answer._unread)
        if not (part := await answer.chunk()):
            break
        sizes.append(len(part))
    answer.close()

    assert sum(sizes) == 50 * MB
    assert max(*sizes, *unread) <= READ_AHEAD_BYTES + SEGMENT_BYTES_MAX
    assert upstream.connections == 1


async def test_after_a_held_back_answer_the_connection_reads_on(
    transport: HttpTransport, upstream: ScriptedUpstream
) -> None:
    """Reading that was paused is resumed: a second large answer comes over the same connection."""
    large = head() + f"Content-Length: {2 * MB}\r\n\r\n".encode() + b"x" * (2 * MB)
    upstream.scripts = [[large]]

    for _ in range(2):
        answer = await transport.send(call(upstream.url))
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(await answer.read(3 * MB)) == 2 * MB
        answer.close()

    assert upstream.connections == 1


LONG = b"a" * 1000
ENDLESS = {
    "headers": [b"HTTP/1.1 200 OK\r\n", *[b"X: " + LONG + b"\r\n"] * 400],
    "one_header": [b"HTTP/1.1 200 OK\r\nX: ", *[LONG] * 400],
    "interim": [b"HTTP/1.1 103 X\r\nLink: " + LONG + b"\r\n\r\n"] * 400,
    "trailers": [stream_head() + chunk(b"x") + b"0\r\n", *[b"X: " + LONG + b"\r\n"] * 400],
    "one_trailer": [stream_head() + chunk(b"x") + b"0\r\nX: ", *[LONG] * 400],
    "chunk_extension": [stream_head() + chunk(b"x") + b"1;x=", *[LONG] * 400],
}


@pytest.mark.parametrize("name", ENDLESS)
async def test_framing_that_does_not_end(
    transport: HttpTransport, upstream: ScriptedUpstream, name: str
) -> None:
    """Headers, trailers and interim answers are bounded: they are not body, and they are kept."""
    upstream.scripts = [[*ENDLESS[name], Act.HANG]]

    async def read() -> bytes:
        return await (await transport.send(call(upstream.url))).read(HEAD_BYTES_MAX)

    with pytest.raises(TransportError) as caught:
        await read()

    assert caught.value.fault is Fault.NONSENSE


WHOLE = stream_head() + chunk(b"one") + chunk(b"two") + b"0\r\n\r\n"


@given(st.lists(st.integers(1, len(WHOLE) + 40), max_size=12), st.binary(min_size=1, max_size=40))
def test_however_the_bytes_are_cut(cuts: list[int], surplus: bytes) -> None:
    """An answer is the same however it is cut, whatever follows it; then it is not used again."""

    async def run() -> tuple[int, bytes, bool]:
        kept: list[Connection] = []
        connection = Connection(kept.append)
        wire = _Wire()
        connection.connection_made(wire)
        sending = asyncio.ensure_future(connection.send(b"", call("http://x/")))
        await asyncio.sleep(0)
        data = WHOLE + b"HTTP/1.1 " + surplus
        edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
        for start, end in pairwise(edges):
            connection.data_received(data[start:end])
        await sending
        status, whole = connection.status, await connection.read(100)
        connection.close()
        return status, whole, bool(kept)

    assert asyncio.run(run()) == (200, b"onetwo", False)


class _Wire(asyncio.Transport):
    """A transport that leads nowhere."""

    def write(self, data: object) -> None:
        pass

    def abort(self) -> None:
        pass

    def is_closing(self) -> bool:
        return False
