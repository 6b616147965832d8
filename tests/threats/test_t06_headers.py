"""T-06 to T-08: which headers go through the proxy, in either direction: none but the listed."""

from __future__ import annotations

import pytest
from fixtures_door import KEY, PROVIDER_KEY, RunningDoor
from fixtures_upstream import DONE, FINISH, ScriptedUpstream, body, chunk, delta, stream_head
from raw_http import STREAM, one, post

SENT = {
    "host",
    "content-type",
    "content-length",
    "accept",
    "accept-encoding",
    "user-agent",
    "authorization",
}
"""Every header that an upstream is sent; docs/http.md lists them."""

TRICKS = [
    "Cookie: a=b",
    "Forwarded: for=192.0.2.1;host=evil",
    "X-Forwarded-For: 192.0.2.1",
    "X-Forwarded-Host: evil",
    "X-Real-IP: 192.0.2.1",
    "Via: 1.1 evil",
    "Proxy-Connection: keep-alive",
    "X-HTTP-Method-Override: DELETE",
    "X-Original-URL: /admin",
    "X-Rewrite-URL: /admin",
    "Content_Length: 5",
    "Transfer_Encoding: chunked",
    "X_Forwarded_For: 192.0.2.1",
    "Connection: Authorization, X-Request-Id",
    "Connection: " + ", ".join(f"h{index}" for index in range(700)),
    "TE: trailers",
    "Trailer: Authorization",
    "Keep-Alive: timeout=5",
    "Upgrade: h2c",
    "OpenAI-Beta: assistants=v2",
    "X-Stainless-Lang: python",
    "Idempotency-Key: 1",
    "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
]


@pytest.mark.parametrize("line", TRICKS, ids=lambda line: line[:24])
async def test_t06_t07_no_header_of_the_clients_goes_on(
    door: RunningDoor, upstream: ScriptedUpstream, line: str
) -> None:
    """T-06, T-07: an upstream gets our headers, all of them, and nothing else."""
    upstream.scripts = [[body({"choices": [], "usage": None})]]

    said = await one(door.url, post(post_body(), line))

    assert said.status == 200
    [received] = upstream.received
    assert set(received.headers) == SENT
    assert received.headers["authorization"] == f"Bearer {PROVIDER_KEY}"
    assert KEY not in str(received.headers)


def post_body() -> bytes:
    return b'{"model":"m","messages":[]}'


@pytest.mark.parametrize("token", ["h2c", "websocket"])
async def test_t07_nobody_is_upgraded(
    door: RunningDoor, upstream: ScriptedUpstream, token: str
) -> None:
    """T-07: an offer to speak something else is not taken up; the connection stays HTTP."""
    upstream.scripts = [[body({"choices": [], "usage": None})]]

    said = await one(
        door.url,
        post(post_body(), "Connection: Upgrade", f"Upgrade: {token}", "HTTP2-Settings: AA"),
    )

    assert said.status in {200, 400}
    assert "upgrade" not in said.headers


FROM_UPSTREAM = (
    "Set-Cookie: a=b\r\nServer: secret/1.0\r\nx-request-id: theirs\r\n"
    "openai-organization: org-1\r\nVia: 1.1 theirs\r\nConnection: x-request-id\r\n"
    "Alt-Svc: h2=evil\r\nLocation: http://evil/\r\n"
    "Access-Control-Allow-Origin: *\r\nX-Weir-Cost-Usd: 0\r\nWWW-Authenticate: Basic\r\n"
    + "".join(f"X-{index}: a\r\n" for index in range(100))
)
OURS = {"server", "content-type", "content-length", "transfer-encoding", "date", "cache-control"}


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
async def test_t08_no_header_of_the_upstreams_comes_back(
    door: RunningDoor, upstream: ScriptedUpstream, *, is_stream: bool
) -> None:
    """T-08: cookies, organisations and software of an upstream are no client's business."""
    events = [chunk(each) for each in (delta("a"), FINISH, DONE)]
    streamed = [stream_head(FROM_UPSTREAM), *events, b"0\r\n\r\n"]
    upstream.scripts = [
        streamed if is_stream else [body({"choices": [], "usage": None}, extra=FROM_UPSTREAM)]
    ]

    said = await one(door.url, post(STREAM if is_stream else post_body()))

    assert said.status == 200
    strangers = {
        name
        for name in said.headers
        if name not in OURS and not name.startswith(("x-weir-", "x-request-id", "x-accel"))
    }
    assert strangers == set()
    assert said.headers["server"] == "tokenweir"
    assert said.headers["x-request-id"].startswith("req_")
    assert said.headers.get("x-weir-cost-usd") != "0"


@pytest.mark.parametrize("value", ["a\rSet-Cookie: b", "a\x00b", "a\x7fb", "\u00ff" * 50])
async def test_t08_bytes_that_frame_headers_do_not_come_through(
    door: RunningDoor, upstream: ScriptedUpstream, value: str
) -> None:
    """T-08: what an upstream writes into a header we do relay cannot begin another one."""
    raw = f"HTTP/1.1 429 X\r\nRetry-After: {value}\r\nContent-Length: 2\r\n\r\n{{}}"
    upstream.scripts = [[raw.encode("latin-1")]]

    said = await one(door.url, post(post_body()))

    assert "set-cookie" not in said.headers
    assert said.status in {429, 502}
