"""T-10, T-11, T-40, T-45: what a request is, where it ends, and what it asks for."""

from __future__ import annotations

import pytest
from fixtures_door import RunningDoor
from fixtures_upstream import ScriptedUpstream, completion
from raw_http import BEARER, BODY, CHAT, close, connect, every, get, one, post, read_one

HEAD = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\n{BEARER}".encode()

HOSTS = {
    "empty": "",
    "path": "x/a",
    "query": "x/?",
    "fragment": "x/#a",
    "user": "user@x",
    "user_and_query": "user@x/?",
    "list": "x, y",
    "bracket_query": "[::1]/?x",
    "open_bracket": "[::1",
    "scheme": "http://x",
    "bad_port": "x:http",
    "long_port": "x:123456",
    "space": "x y",
    "leading_dash": "-x",
    "unicode": "\u00e9x",
    "too_long": "x" * 300,
}


@pytest.mark.parametrize("name", HOSTS)
async def test_t10_t40_a_host_that_is_none_is_refused(
    door: RunningDoor, upstream: ScriptedUpstream, name: str
) -> None:
    """T-10, T-40: a Host that somebody could read as a path, a user or a list is a 400."""
    said = await every(door.url, post(host=HOSTS[name]))

    assert [answer.status for answer in said] == [400]
    assert said[0].headers["connection"] == "close"
    assert upstream.received == []


@pytest.mark.parametrize(
    "host",
    ["x", "localhost:8080", "127.0.0.1:8080", "[::1]:8080", "a-b.example.com.", "my_service:1"],
)
async def test_t10_an_ordinary_host_is_fine(door: RunningDoor, host: str) -> None:
    """Names, addresses, ports and the underscores of container networks pass."""
    assert (await one(door.url, get("/v1/models", host=host))).status == 200


async def test_t10_two_hosts_are_refused(door: RunningDoor) -> None:
    """T-10: with two of them nobody knows which one a peer believed."""
    said = await every(door.url, get("/v1/models", "Host: x"))

    assert [answer.status for answer in said] == [400]


PLAIN = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
FRAMINGS = {
    "length_and_chunked": PLAIN + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKED,
    "two_lengths": PLAIN + b"Content-Length: 5\r\n\r\n" + BODY,
    "two_lengths_in_one": b"Content-Length: %d, %d\r\n\r\n" % (len(BODY), len(BODY)) + BODY,
    "hexadecimal_length": b"Content-Length: 0x%x\r\n\r\n" % len(BODY) + BODY,
    "signed_length": b"Content-Length: +%d\r\n\r\n" % len(BODY) + BODY,
    "negative_length": b"Content-Length: -5\r\n\r\n" + BODY,
    "spaced_length": b"Content-Length: 1 0\r\n\r\n" + BODY,
    "space_before_colon": b"Content-Length : %d\r\n\r\n" % len(BODY) + BODY,
    "huge_length": b"Content-Length: 99999999999999999999\r\n\r\n" + BODY,
    "unknown_coding": b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNKED,
    "chunked_not_last": b"Transfer-Encoding: chunked, gzip\r\n\r\n" + CHUNKED,
    "two_codings": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n" + CHUNKED,
    "packed_chunks": b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKED,
    "packed_chunks_in_two": b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    + CHUNKED,
    "chunked_twice": b"Transfer-Encoding: chunked, chunked\r\n\r\n" + CHUNKED,
    "folded_header": b"X: a\r\n b\r\n" + PLAIN + b"\r\n" + BODY,
    "bare_linefeeds": (PLAIN + b"\r\n").replace(b"\r\n", b"\n") + BODY,
    "linefeed_in_extension": b"Transfer-Encoding: chunked\r\n\r\n"
    b"%x;a\nb\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY),
    "no_chunk_size": b"Transfer-Encoding: chunked\r\n\r\n\r\n" + CHUNKED,
    "bad_chunk_size": b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + CHUNKED,
    "negative_chunk_size": b"Transfer-Encoding: chunked\r\n\r\n-1\r\n" + CHUNKED,
    "chunk_size_overflows": b"Transfer-Encoding: chunked\r\n\r\n1%s\r\n" % (b"0" * 16) + CHUNKED,
    "chunk_longer_than_said": b"Transfer-Encoding: chunked\r\n\r\n2\r\n%s\r\n0\r\n\r\n" % BODY,
    "nul_in_header": b"X: a\0b\r\n" + PLAIN + b"\r\n" + BODY,
    "nul_in_name": b"X\0Y: a\r\n" + PLAIN + b"\r\n" + BODY,
}


@pytest.mark.parametrize("name", FRAMINGS)
async def test_t11_framing_that_two_could_read_in_two_ways(
    door: RunningDoor, upstream: ScriptedUpstream, name: str
) -> None:
    """T-11: refused at once and closed; the request smuggled behind it is never answered."""
    upstream.scripts = [[completion()]]

    said = await every(door.url, HEAD + FRAMINGS[name] + get("/v1/models"))

    assert [answer.status for answer in said] == [400]
    assert said[0].headers["connection"] == "close"
    assert upstream.received == []


async def test_t11_a_broken_chunk_behind_a_good_one_is_told_at_once(
    door: RunningDoor, caplog: pytest.LogCaptureFixture
) -> None:
    """T-11: the handler that waits for the body hears of it; no deadline has to pass."""
    reader, writer = await connect(door.url)
    writer.write(HEAD + b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")  # now the handler waits for the body
    writer.write(b"1\r\n{\r\n")
    await writer.drain()
    writer.write(b"nonsense\r\n" + get("/v1/models"))

    said = await read_one(reader)
    rest = await reader.read()

    await close(writer)
    assert (said.status, said.headers["connection"], rest) == (400, "close", b"")
    assert b"framing" in said.body
    assert caplog.text == ""


SOUND = {
    "capital_letters": b"Transfer-Encoding: Chunked\r\n\r\n" + CHUNKED,
    "trailer": b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\nX: 5\r\n\r\n"
    % (len(BODY), BODY),
    "extension": b"Transfer-Encoding: chunked\r\n\r\n%x;a=b\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY),
    "leading_zeros": b"Content-Length: 000%d\r\n\r\n" % len(BODY) + BODY,
    "repeated_length": b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY,
}


@pytest.mark.parametrize("name", SOUND)
async def test_t11_odd_framing_that_is_sound_frames_exactly_one_request(
    door: RunningDoor, upstream: ScriptedUpstream, name: str
) -> None:
    """T-11: what is allowed is read as one request, and the one behind it as another."""
    upstream.scripts = [[completion()]]

    said = await every(door.url, HEAD + SOUND[name] + get("/v1/models", "Connection: close"))

    assert [answer.status for answer in said] == [200, 200]
    assert b"choices" in said[0].body
    assert b'"object":"list"' in said[1].body
    assert [each.body for each in upstream.received] != []
    assert len(upstream.received) == 1


TARGETS = [
    "/v1//chat/completions",
    "//v1/chat/completions",
    "//host/v1/chat/completions",
    "/v1/./chat/completions",
    "/v1/../v1/chat/completions",
    "/v1/%2e%2e/admin",
    "/v1/%2E/chat/completions",
    "/v1/chat%2fcompletions",
    "/v1/chat%2Fcompletions",
    "/v1/%63hat/completions",
    "/v1/chat/completions;x",
    "/v1/chat/completions/",
    "/v1/chat/completions%20",
    "/v1/chat/completions%00",
    "/v1/chat/completions%0d%0aX:%20y",
    "/V1/chat/completions",
    "/v1/Chat/completions",
    "/v1\\chat\\completions",
    "/v1/chat%5ccompletions",
    "http://x/v1/chat/completions",
    "https://169.254.169.254/v1/chat/completions",
    "v1/chat/completions",
    "/v1/chat/completions#a",
    "/v1/chat/completions?a#b",
    "*",
]


@pytest.mark.parametrize("target", TARGETS)
async def test_t45_only_the_paths_of_the_table_exist(
    door: RunningDoor, upstream: ScriptedUpstream, target: str
) -> None:
    """T-45: no spelling of a path is another path; what is not in the table is a 404."""
    said = await one(door.url, post(path=target))

    assert said.status in {400, 404}
    assert upstream.received == []


@pytest.mark.parametrize("target", ["/healthz#a", "/v1/models#a", "/v1/models/m#a", "/readyz?#"])
async def test_t45_a_fragment_is_no_part_of_a_target(door: RunningDoor, target: str) -> None:
    """T-45: no client sends one, and what is in front of us may read it as part of the path."""
    assert (await one(door.url, get(target))).status in {400, 404}


async def test_t45_the_upstreams_path_is_never_the_clients(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """T-45: a query of the client's does not travel; the upstream's path is the configured one."""
    upstream.scripts = [[completion()]]

    said = await one(door.url, post(path=f"{CHAT}?api-version=1&x=http://169.254.169.254"))

    assert said.status == 200
    assert [each.path for each in upstream.received] == ["/v1/chat/completions"]
