"""T-10, T-11: any bytes at all get a well-formed answer or a clean close, and no bug of ours."""

from __future__ import annotations

import asyncio
import logging

import pytest
from fixtures_door import OpenDoor, RunningDoor, held, settings
from fixtures_upstream import ScriptedUpstream, completion
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st
from raw_http import BODY, STREAM, every, get, post

from proxy.client_connection import Patience

HURRIED = Patience(
    idle_s=0.03, headers_s=0.03, body_grace_s=0.03, body_s=0.03, write_s=0.5, linger_s=0.03
)
FUZZ = effort(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
async def hurried(open_door: OpenDoor, upstream: ScriptedUpstream) -> RunningDoor:
    upstream.scripts = [[completion()]]
    return await open_door(settings({"one": upstream.url}), patience=HURRIED)


CHUNKED = post(b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY), "Transfer-Encoding: chunked").replace(
    b"Content-Length: %d\r\n" % len(b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)), b""
)
SEEDS = [post(), post(STREAM), CHUNKED, get("/v1/models"), get("/v1/models/m"), get("/healthz")]
PIECES = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\0",
    b" ",
    b"\t",
    b":",
    b"0\r\n\r\n",
    b"\xff",
    b"%00",
    b"/../",
    b"HTTP/1.0",
    b"HTTP/2.0",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length: 1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Connection: close\r\n",
    b"Connection: upgrade\r\nUpgrade: websocket\r\n",
    b"Expect: 100-continue\r\n",
    b"Content-Encoding: gzip\r\n",
    b"Host: y\r\n",
    b"[" * 300,
    b"9" * 30,
    b'"',
    b"\\",
    b"}",
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A request as it should be, in which a few things are not."""
    raw = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(raw)))
        cut = draw(st.sampled_from([0, 0, 1, 2, 10]))
        raw[at : at + cut] = draw(st.sampled_from(PIECES) | st.binary(max_size=3))
    return bytes(raw)


async def judged(door: RunningDoor, upstream: ScriptedUpstream, raw: bytes) -> None:
    """Sends it and checks what comes of it, to the client, the upstream and the money."""
    before = len(upstream.received)
    async with asyncio.timeout(3):
        said = await every(door.url, raw)
        while door.crowd_size:
            await asyncio.sleep(0)

    assert all(answer.status < 500 for answer in said), said
    assert len(upstream.received) - before <= 1
    assert "held" not in held(door)
    assert len(door.renewals) == 0


@pytest.mark.slow(60)
@pytest.mark.timeout(60)
@FUZZ
@given(raw=mutated())
async def test_t11_a_request_with_mistakes_in_it(
    hurried: RunningDoor, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture, raw: bytes
) -> None:
    """T-11: one request is one request at most, whatever was done to it."""
    caplog.set_level(logging.WARNING)

    await judged(hurried, upstream, raw)

    assert [record for record in caplog.records if record.name != "asyncio"] == []


@pytest.mark.slow(60)
@pytest.mark.timeout(60)
@FUZZ
@given(raw=st.binary(max_size=200) | st.lists(st.sampled_from(PIECES)).map(b"".join))
async def test_t10_bytes_that_are_no_request(
    hurried: RunningDoor, upstream: ScriptedUpstream, raw: bytes
) -> None:
    """T-10: noise is refused or left unanswered, and never reaches an upstream."""
    await judged(hurried, upstream, raw)

    assert upstream.received == []
