"""What the server answers by itself: JSON like every refusal, and nothing of what was sent."""

from __future__ import annotations

import asyncio
import logging
from urllib.parse import urlsplit

import orjson
import pytest
from aiohttp import web
from fixtures_door import KEY, RunningDoor

from proxy.client_connection import PATIENCE
from proxy.crowd import Crowd
from proxy.server import Runner

SECRET = "sk-quoted-nowhere"
HOST = b"Host: x\r\n"


async def say(url: str, raw: bytes) -> tuple[bytes, dict[str, str], bytes]:
    """Status line, headers and body of what comes back until the server closes."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(raw)
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    start, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    return start.encode(), headers, body


POST = b"POST /v1/chat/completions HTTP/1.1\r\n"
UNREADABLE = {
    "garbage": f"{SECRET} \r\n\r\n".encode(),
    "unknown_method": f"BREW /{SECRET} HTTP/1.1\r\n{HOST.decode()}\r\n".encode(),
    "other_version": f"GET /{SECRET} HTTP/9.9\r\n{HOST.decode()}\r\n".encode(),
    "no_host": f"GET /{SECRET} HTTP/1.1\r\n\r\n".encode(),
    "tls": bytes.fromhex("16030100a5010000a10303") + SECRET.encode(),
    "length_and_chunked": POST
    + HOST
    + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two_lengths": POST + HOST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "bad_header": f"GET / HTTP/1.1\r\n{HOST.decode()}{SECRET}\x01: a\r\n\r\n".encode(),
    "long_header": b"GET / HTTP/1.1\r\n" + HOST + b"X: " + SECRET.encode() * 1000 + b"\r\n\r\n",
    "long_target": b"GET /" + SECRET.encode() * 1000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
}


@pytest.mark.parametrize("name", UNREADABLE)
async def test_what_is_no_http_is_refused_like_all_else(
    door: RunningDoor, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A request that cannot be parsed gets a JSON refusal, quoting nothing, and a closed door."""
    caplog.set_level(logging.DEBUG)

    start, headers, body = await say(door.url, UNREADABLE[name])

    assert start.startswith(b"HTTP/1.1 400 ")
    assert headers["server"] == "tokenweir"
    assert headers["x-request-id"].startswith("req_")
    assert headers["content-type"] == "application/json"
    assert headers["connection"] == "close"
    error = orjson.loads(body)["error"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", None, None)
    assert SECRET.encode() not in body
    assert SECRET not in caplog.text


UNROUTED = {
    "options_star": (b"OPTIONS * HTTP/1.1\r\n", b"404"),
    "no_version": (b"GET /nothing\r\n", b"404"),
    "rare_method": (b"PROPFIND /nothing HTTP/1.1\r\n", b"404"),
    "rare_method_known_path": (b"PROPFIND /v1/chat/completions HTTP/1.1\r\n", b"405"),
    "connect": (b"CONNECT example.com:443 HTTP/1.1\r\n", b"404"),
    "expect": (b"GET /healthz HTTP/1.1\r\nExpect: tea\r\n", b"400"),
    "absolute": (b"GET http://example.com/nothing HTTP/1.1\r\n", b"404"),
}


@pytest.mark.parametrize("name", UNROUTED)
async def test_what_no_route_takes(door: RunningDoor, name: str) -> None:
    """A request that no handler could take gets a JSON refusal too."""
    start_line, status = UNROUTED[name]

    start, headers, body = await say(door.url, start_line + HOST + b"Connection: close\r\n\r\n")

    assert start.startswith(b"HTTP/1.1 " + status)
    assert headers["server"] == "tokenweir"
    assert headers["x-request-id"].startswith("req_")
    assert set(orjson.loads(body)["error"]) == {"message", "type", "param", "code"}


async def test_garbage_after_a_good_request(door: RunningDoor) -> None:
    """On a connection that has served, garbage is refused in the same words."""
    parts = urlsplit(door.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n")
    first = await reader.readuntil(b"}")
    writer.write(f"{SECRET} \r\n\r\n".encode())
    second = await reader.read()
    writer.close()

    assert first.startswith(b"HTTP/1.1 200 OK")
    assert second.startswith(b"HTTP/1.1 400 Bad Request")
    assert b"Python" not in second and SECRET.encode() not in second


async def test_a_handler_that_fails_is_a_json_500(caplog: pytest.LogCaptureFixture) -> None:
    """A bug in a handler is answered in JSON and logged with its cause under the request's id."""

    async def broken(request: web.Request) -> web.Response:
        raise RuntimeError("a bug")

    app = web.Application()
    app.router.add_get("/", broken)
    runner = Runner(app, shutdown_timeout=0.1, patience=PATIENCE, crowd=Crowd(10), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]

    start, headers, body = await say(
        f"http://127.0.0.1:{port}", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    await runner.cleanup()

    assert start.startswith(b"HTTP/1.1 500 ")
    assert headers["x-request-id"] in body.decode()
    assert headers["x-request-id"] in caplog.text
    assert "a bug" in caplog.text and b"a bug" not in body


async def test_the_runners_options_reach_the_connection(door: RunningDoor) -> None:
    """Our server takes over what the runner was told: bodies are still not unpacked."""
    raw = POST + HOST + f"Authorization: Bearer {KEY}\r\n".encode()
    raw += b"Content-Encoding: gzip\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"

    start, _, _ = await say(door.url, raw)

    assert start.split(b" ")[1] == b"415"
