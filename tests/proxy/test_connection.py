"""One connection: what it holds in memory, and for how long it listens to what never ends."""

from __future__ import annotations

import asyncio
import contextlib
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


async def test_what_came_before_a_fault_is_handed_out(
    transport: HttpTransport, upstream: ScriptedUpstream
) -> None:
    """A chunk and the nonsense after it in one segment: first the chunk, then the error."""
    upstream.scripts = [[stream_head() + chunk(b"one") + b"zz\r\n", Act.HANG]]

    answer = await transport.send(call(upstream.url))

    assert await answer.chunk() == b"one"
    with pytest.raises(TransportError) as caught:
        await answer.chunk()
    assert caught.value.fault is Fault.NONSENSE
    answer.close()


async def drip(connection: Connection) -> int:
    """Feed a chunk every 10 ms until the answer is ended; how many were taken."""
    taken = 0
    with contextlib.suppress(TransportError):
        while True:
            connection.data_received(chunk(b"x"))
            await connection.chunk()
            taken += 1
            await asyncio.sleep(0.01)
    return taken


async def test_an_answer_without_end_is_ended() -> None:
    """T-25: an upstream that is never silent for long is stopped all the same."""
    connection, wire = Connection(lambda _: None), _Wire()
    connection.connection_made(wire)
    asked = Call("http://x/", {}, b"{}", timeout_s=5.0, connect_timeout_s=1.0, max_answer_s=0.1)
    sending = asyncio.ensure_future(connection.send(b"", asked))
    await asyncio.sleep(0)
    connection.data_received(stream_head())
    await sending

    taken = await drip(connection)

    assert 1 <= taken <= 11
    assert wire.is_aborted
    with pytest.raises(TransportError) as caught:
        await connection.chunk()
    assert caught.value.fault is Fault.ENDLESS


async def test_a_silence_ends_with_the_answers_time(
    transport: HttpTransport, upstream: ScriptedUpstream
) -> None:
    """T-25: the bound of the whole answer is kept while nothing comes, too."""
    upstream.scripts = [[stream_head() + chunk(b"x"), Act.HANG]]
    asked = Call(upstream.url, {}, b"{}", timeout_s=5.0, connect_timeout_s=1.0, max_answer_s=0.1)

    answer = await transport.send(asked)
    await answer.chunk()
    with pytest.raises(TransportError) as caught:
        await answer.chunk()

    assert caught.value.fault is Fault.ENDLESS
    answer.close()


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

    is_aborted = False

    def write(self, data: object) -> None:
        pass

    def abort(self) -> None:
        self.is_aborted = True

    def is_closing(self) -> bool:
        return False
