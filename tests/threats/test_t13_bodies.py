"""T-13, T-14, T-46: bodies that are large, packed, deep, full, or read in two ways."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import time
import zlib

import orjson
import pytest
from fixtures_door import OpenDoor, RunningDoor, held, settings
from fixtures_upstream import ScriptedUpstream, completion
from raw_http import BEARER, CHAT, STREAM, close, connect, every, one, post, read_one

from proxy.crowd import BODIES_UP_TO, give_back, resident_bytes
from proxy.json_bounds import DEPTH_MAX, VALUES_MAX
from proxy.settings import Server

HEAD = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\n{BEARER}".encode()
MIB = 1024 * 1024


@pytest.fixture
async def narrow(open_door: OpenDoor, upstream: ScriptedUpstream) -> RunningDoor:
    """A door that takes bodies of one megabyte."""
    return await open_door(settings({"one": upstream.url}, server=Server(max_body_mb=1)))


async def test_t13_a_length_over_the_bound_is_refused_unread(narrow: RunningDoor) -> None:
    """T-13: the announced length is enough; not one byte has to come."""
    said = await one(narrow.url, HEAD + b"Content-Length: 2147483648\r\n\r\n")

    assert (said.status, said.code, said.headers["connection"]) == (
        413,
        "request_too_large",
        "close",
    )


async def test_t13_a_chunked_body_is_given_up_at_the_bound(narrow: RunningDoor) -> None:
    """T-13: a body that never says how long it is ends at the bound, and costs little more."""
    reader, writer = await connect(narrow.url)
    writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    before = resident_bytes()
    piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"

    async def flood() -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(piece)
                await writer.drain()

    flooding = asyncio.create_task(flood())
    said = await read_one(reader)
    grown = resident_bytes() - before

    flooding.cancel()
    await close(writer)
    assert (said.status, said.headers["connection"]) == (413, "close")
    assert grown < 16 * MIB  # the sender's own buffers are in this process, too


@pytest.mark.parametrize(
    ("size", "status"), [(MIB, 400), (MIB + 1, 413)], ids=["at_the_bound", "one_over"]
)
async def test_t13_the_bound_is_exact(narrow: RunningDoor, size: int, status: int) -> None:
    """T-13: one byte over `server.max_body_mb` is too much, the last one within is not."""
    said = await one(narrow.url, post(b"x" * size))

    assert said.status == status


async def test_t13_many_small_chunks_are_one_body(
    narrow: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """T-13: a body in one-byte chunks is a body; its framing weighs nothing afterwards."""
    upstream.scripts = [[completion()]]
    body = b'{"model":"m","messages":[],"x":"' + b"y" * 50_000 + b'"}'
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    before = time.process_time()

    said = await one(narrow.url, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)

    print(f"{len(body)} one-byte chunks: {time.process_time() - before:.2f} s of CPU")
    assert said.status == 200
    assert len(upstream.received) == 1


HEADERS = {
    "too_many": b"".join(b"X-%d: a\r\n" % index for index in range(200)),
    "too_long": b"X: " + b"a" * 10_000 + b"\r\n",
    "too_much": b"".join(b"X-%d: %s\r\n" % (at, b"a" * 8000) for at in range(10)),
}


@pytest.mark.parametrize("name", HEADERS)
async def test_t13_headers_have_bounds(narrow: RunningDoor, name: str) -> None:
    """T-13: 128 headers of 8 KiB each at most, and 64 KiB altogether."""
    said = await every(narrow.url, HEAD + HEADERS[name] + b"\r\n")

    assert [each.status for each in said] == [400]


async def test_t13_trailers_have_bounds(narrow: RunningDoor) -> None:
    """T-13: what comes behind a chunked body is bounded like headers."""
    trailers = b"".join(b"X-%d: a\r\n" % index for index in range(100_000))

    said = await every(
        narrow.url, HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n" + trailers
    )

    assert [each.status for each in said] == [400]


BOMB = gzip.compress(bytes(64 * MIB))
BOMBS = {
    "gzip": BOMB,
    "GZIP": BOMB,
    "x-gzip": BOMB,
    "deflate": zlib.compress(bytes(64 * MIB)),
    "br": b"\x5b\xff\xff\x1f" * 100,
    "zstd": b"\x28\xb5\x2f\xfd" * 100,
    "gzip, gzip": gzip.compress(BOMB),
    "identity, gzip": BOMB,
    "": BOMB,
}


@pytest.mark.parametrize("encoding", BOMBS)
async def test_t14_a_bomb_is_refused_unread_and_costs_nothing(
    narrow: RunningDoor, encoding: str
) -> None:
    """T-14: a packed body is a 415 before it is read; to unpack this one takes 200 ms."""
    raw = post(BOMBS[encoding], f"Content-Encoding: {encoding}")
    reader, writer = await connect(narrow.url)
    before = time.process_time()
    writer.write(raw)

    said = await read_one(reader)

    cost_s = time.process_time() - before
    await close(writer)
    assert (said.status, said.headers["connection"]) == (415, "close")
    assert cost_s < 0.05


async def test_t14_two_encodings_are_one_too_many(narrow: RunningDoor) -> None:
    """T-14: a second header does not hide behind an innocent first one."""
    said = await one(narrow.url, post(BOMB, "Content-Encoding: identity", "Content-Encoding: gzip"))

    assert said.status == 415


MESSAGES = b'"messages":[{"role":"user","content":"hi"}]'
REFUSED = {
    "bom": b"\xef\xbb\xbf{%s}" % MESSAGES,
    "utf_16": b"\xff\xfe{\0}\0",
    "trailing_data": b'{"model":"m",%s}{}' % MESSAGES,
    "trailing_comma": b'{"model":"m",%s,}' % MESSAGES,
    "nan": b'{"model":"m",%s,"temperature":NaN}' % MESSAGES,
    "infinity": b'{"model":"m",%s,"temperature":1e999}' % MESSAGES,
    "lone_surrogate": b'{"model":"m",%s,"user":"\\ud800"}' % MESSAGES,
    "surrogate_bytes": b'{"model":"m",%s,"user":"\xed\xa0\x80"}' % MESSAGES,
    "bad_utf_8": b'{"model":"m",%s,"user":"\xff"}' % MESSAGES,
    "control_sign": b'{"model":"m",%s,"user":"a\nb"}' % MESSAGES,
    "comment": b'{"model":"m",%s/* x */}' % MESSAGES,
    "too_wide": b'{"model":"m",%s,"seed":18446744073709551616}' % MESSAGES,
    "deep_300": b'{"model":"m",%s,"x":%s}' % (MESSAGES, b"[" * 300 + b"]" * 300),
    "deep_1025": b'{"model":"m",%s,"x":%s}' % (MESSAGES, b"[" * 1025 + b"]" * 1025),
    "deep_100000": b'{"model":"m",%s,"x":%s}' % (MESSAGES, b"[" * 100_000),
    "full": b'{"model":"m",%s,"x":[%s0]}' % (MESSAGES, b"{}," * VALUES_MAX),
    "list": b"[]",
    "text": b'"m"',
    "empty": b"",
    "other_case": b'{"Model":"m",%s}' % MESSAGES,
    "space_in_name": b'{"model ":"m",%s}' % MESSAGES,
    "model_is_a_list": b'{"model":["m"],%s}' % MESSAGES,
    "model_is_an_object": b'{"model":{"$ne":""},%s}' % MESSAGES,
}


@pytest.mark.parametrize("name", REFUSED)
async def test_t46_a_body_that_can_be_read_in_two_ways_is_refused(
    door: RunningDoor, upstream: ScriptedUpstream, name: str
) -> None:
    """T-46: a 400 in OpenAI's shape; nothing is reserved and nothing sent."""
    said = await one(door.url, post(REFUSED[name]))

    assert (said.status, said.code) == (400, None)
    assert (upstream.received, held(door)) == ([], [])


DUPLICATES = {
    "plain": b'{"model":"x","model":"m",%s}' % MESSAGES,
    "escaped": b'{"model":"x","\\u006dodel":"m",%s}' % MESSAGES,
    "limit": b'{"model":"m",%s,"max_tokens":1,"max_tokens":7}' % MESSAGES,
    "stream": b'{"model":"m",%s,"stream":true,"stream":false}' % MESSAGES,
}


@pytest.mark.parametrize("name", DUPLICATES)
async def test_t46_what_was_priced_is_what_is_sent(
    door: RunningDoor, upstream: ScriptedUpstream, name: str
) -> None:
    """T-46: the upstream gets the object that was priced, in which every name stands once."""
    upstream.scripts = [[completion()]]

    said = await one(door.url, post(DUPLICATES[name]))

    sent = upstream.received[0].body
    assert said.status == 200
    assert orjson.loads(sent)["model"] == "up-m"
    assert sent.count(b'"model"') == 1 and b'"x"' not in sent
    assert sent.count(b'"max_tokens"') <= 1 and sent.count(b'"stream"') <= 1


async def test_t46_the_deepest_body_that_is_taken_can_be_sent(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """T-46: what is parsed can be written again, at the bound too."""
    upstream.scripts = [[completion()]]
    deep = b"[" * (DEPTH_MAX - 1) + b"]" * (DEPTH_MAX - 1)

    said = await one(door.url, post(b'{"model":"m",%s,"x":%s}' % (MESSAGES, deep)))

    assert said.status == 200
    assert deep in upstream.received[0].body


async def test_t13_bodies_that_come_at_once_share_a_bound(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """T-13: bodies that were let in and never end: over a quarter of the memory, who goes on
    sending is refused; one alone has its room, and what ended has given its own back."""
    upstream.scripts = [[completion()]]
    used_mb = resident_bytes() // MIB
    server = Server(memory_limit_mb=4 * used_mb, max_body_mb=2 * used_mb)
    door = await open_door(settings({"one": upstream.url}, server=server))
    memory = door.memory
    opened = [await connect(door.url) for _ in range(2)]
    half = b"x" * (int(memory.bound * BODIES_UP_TO) // 2 + MIB)
    for _, writer in opened:
        writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % (2 * len(half)))
        await writer.drain()
    opened[0][1].write(half)
    async with asyncio.timeout(5):
        while memory._bodies < len(half):
            await asyncio.sleep(0.01)
    with contextlib.suppress(ConnectionError):
        opened[1][1].write(half)
        await opened[1][1].drain()
    said = await read_one(opened[1][0])
    before = memory._bodies
    for _, writer in opened:
        await close(writer)
    async with asyncio.timeout(5):
        while memory._bodies:
            await asyncio.sleep(0.01)

    served = await one(door.url, post())

    assert (said.status, said.code, said.headers["connection"]) == (503, "overloaded", "close")
    assert before == len(half)
    assert (served.status, memory._bodies) == (200, 0)


async def test_a_full_process_takes_no_new_stream(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """F-26: over its memory a process refuses by name, before it reads a body; health stays."""
    give_back()  # what it would do itself before it refuses
    used_mb = resident_bytes() // MIB
    upstream.scripts = [[completion()]]
    configured = settings({"one": upstream.url}, server=Server(memory_limit_mb=int(used_mb / 0.85)))
    full = settings({"one": upstream.url}, server=Server(memory_limit_mb=used_mb // 2))
    nearly, over = await open_door(configured), await open_door(full)

    refused = await one(nearly.url, post(STREAM))
    served = await one(nearly.url, post())
    unread = await one(over.url, HEAD + b"Content-Length: 1000\r\n\r\n")
    health = await one(over.url, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")

    assert (refused.status, refused.code, refused.headers["retry-after"]) == (
        503,
        "overloaded",
        "1",
    )
    assert (served.status, unread.status, health.status) == (200, 503, 200)
    assert held(over) == []
