"""The door's handlers: who may ask, what may be asked, and the shape of every refusal."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import orjson
import pytest
from fixtures_door import KEY, OpenDoor, RunningDoor, rule, settings, tenant
from fixtures_upstream import (
    DONE,
    FINISH,
    LAST_CHUNK,
    ScriptedUpstream,
    chunk,
    completion,
    delta,
    stream_head,
)

from metering.memory_caps import MemoryCaps
from proxy.settings import Server

CHAT = "/v1/chat/completions"
AUTH = {"Authorization": f"Bearer {KEY}"}
BODY = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'


async def ask(
    door: RunningDoor, path: str = CHAT, *, method: str = "POST", **options: Any
) -> tuple[int, Any, Any]:
    """Status, headers and decoded JSON of one request."""
    async with door.http.request(method, f"{door.url}{path}", **options) as answer:
        raw = await answer.read()
        return answer.status, answer.headers, orjson.loads(raw) if raw else None


WRONG_KEYS = {
    "none": {},
    "other_scheme": {"Authorization": f"Basic {KEY}"},
    "unknown": {"Authorization": "Bearer sk-weir-acme-0123456788"},
    "prefix": {"Authorization": f"Bearer {KEY[:-1]}"},
    "longer": {"Authorization": f"Bearer {KEY}x"},
    "empty": {"Authorization": "Bearer "},
    "sql": {"Authorization": "Bearer ' OR 1=1--"},
    "huge": {"Authorization": f"Bearer {'x' * 4000}"},
    "in_another_header": {"X-Forwarded-Authorization": f"Bearer {KEY}"},
}


@pytest.mark.parametrize("name", WRONG_KEYS)
async def test_a_wrong_key_is_the_same_401(door: RunningDoor, name: str) -> None:
    """T-01: whatever is wrong with a key, the answer is the same and nothing is sent."""
    status, headers, body = await ask(door, data=BODY, headers=WRONG_KEYS[name])
    _, _, reference = await ask(door, data=BODY)

    assert (status, body) == (401, reference)
    assert body["error"]["code"] == "invalid_api_key"
    assert headers["x-request-id"].startswith("req_")


async def test_two_keys_that_differ_are_refused(door: RunningDoor) -> None:
    """T-05: two Authorization headers that differ prove nothing."""
    both = [("Authorization", f"Bearer {KEY}"), ("Authorization", "Bearer other")]

    status, _, _ = await ask(door, data=BODY, headers=both)

    assert status == 400


async def test_a_key_in_the_query_is_no_key(door: RunningDoor) -> None:
    """T-05: a key in a URL ends up in logs; it is not looked at."""
    status, _, _ = await ask(door, f"{CHAT}?api_key={KEY}", data=BODY)

    assert status == 401


REFUSED = {
    "not_json": (b"{", 400, None),
    "no_model": (b'{"messages":[]}', 400, "model"),
    "unknown_model": (b'{"model":"x","messages":[]}', 404, "model"),
    "case_matters": (b'{"model":"M","messages":[]}', 404, "model"),
    "space_matters": (b'{"model":"m ","messages":[]}', 404, "model"),
    "path_as_model": (b'{"model":"http://169.254.169.254/","messages":[]}', 404, "model"),
    "too_deep": (
        b'{"model":"m","messages":[],"x":' + b"[" * 260 + b"]" * 260 + b"}",
        400,
        None,
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_wrong_request_names_its_field(
    door: RunningDoor, upstream: ScriptedUpstream, name: str
) -> None:
    """T-20, T-46, T-47: what cannot be served is refused in OpenAI's shape, and nothing is sent."""
    raw, status, param = REFUSED[name]

    answered, headers, body = await ask(door, data=raw, headers=AUTH)

    assert (answered, body["error"]["param"]) == (status, param)
    assert set(body["error"]) >= {"message", "type", "param", "code"}
    assert headers["x-request-id"].startswith("req_")
    assert upstream.received == []
    assert isinstance(door.caps, MemoryCaps)
    assert door.caps.model.records == {}


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "zstd", "gzip, gzip"])
async def test_a_compressed_body_is_refused_unread(door: RunningDoor, encoding: str) -> None:
    """T-14: a compressed body is refused before a byte of it is unpacked."""
    reader, writer = await asyncio.open_connection(*_address(door))
    writer.write(
        f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Encoding: {encoding}\r\nContent-Length: 1000000\r\n\r\n".encode()
    )

    head = await reader.readuntil(b"\r\n\r\n")

    await _close(writer)
    assert b" 415 " in head
    assert b"connection: close" in head.lower()


async def test_the_key_comes_before_the_body(door: RunningDoor) -> None:
    """Who has no key is refused while the body has not been sent."""
    reader, writer = await asyncio.open_connection(*_address(door))
    writer.write(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n".encode())

    head = await reader.readuntil(b"\r\n\r\n")

    await _close(writer)
    assert b" 401 " in head


async def test_a_body_over_the_limit_is_413(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """T-13: one byte over `server.max_body_mb` is too much."""
    door = await open_door(settings({"one": upstream.url}, server=Server(max_body_mb=1)))

    reader, writer = await asyncio.open_connection(*_address(door))
    size = 1024 * 1024 + 1
    writer.write(
        f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Length: {size}\r\n\r\n".encode()
        + b"x" * size
    )

    head = await reader.readuntil(b"\r\n\r\n")

    await _close(writer)
    assert b" 413 " in head
    assert b"connection: close" in head.lower()


NOWHERE = [
    ("GET", "/nowhere", 404),
    ("POST", "/v1//chat/completions", 404),
    ("POST", "/v1/chat/completions/", 404),
    ("POST", "/v1/%2e%2e/admin", 404),
    ("POST", "/V1/chat/completions", 404),
    ("POST", "/v1/chat%2fcompletions;x", 404),
    ("GET", "/v1/chat/completions", 405),
    ("DELETE", "/v1/models", 405),
    ("POST", "/v1/models/m", 405),
]


@pytest.mark.parametrize(("method", "path", "status"), NOWHERE)
async def test_other_paths_are_refused_in_shape(
    door: RunningDoor, method: str, path: str, status: int
) -> None:
    """T-45: only the paths of the table exist; the rest is an OpenAI-shaped refusal."""
    from yarl import URL

    url = URL(door.url + path, encoded=True)
    async with door.http.request(method, url, headers=AUTH) as answer:
        body = await answer.json()

    assert answer.status == status
    assert body["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("method", "path", "version", "status"),
    [
        ("GET", "/v1/messages", False, 405),
        ("POST", "/v1/messages/batches", False, 404),
        ("GET", "/v1/nowhere", True, 404),
    ],
)
async def test_clients_of_anthropic_are_refused_in_their_shape(
    door: RunningDoor, method: str, path: str, version: bool, status: int
) -> None:
    """A path that is nowhere has no format; who asked tells which is understood."""
    headers = {**AUTH, **({"anthropic-version": "2023-06-01"} if version else {})}

    found, named, body = await ask(door, path, method=method, headers=headers)

    assert (found, body["type"]) == (status, "error")
    assert body["error"]["type"] == (
        "not_found_error" if status == 404 else "invalid_request_error"
    )
    assert body["request_id"] == named["request-id"]


async def test_models_are_those_the_tenant_may_use(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """The list and the look-up show the allow-list, and a forbidden model is a 403."""
    from dataclasses import replace

    from routing.upstreams import Model, Upstream

    models = {name: Model(name, (Upstream("one", name, name),)) for name in ("a", "b")}
    who = replace(tenant(), models=frozenset({"a"}))
    door = await open_door(settings({"one": upstream.url}, who=who, models=models))

    _, _, listed = await ask(door, "/v1/models", method="GET", headers=AUTH)
    found, _, _ = await ask(door, "/v1/models/a", method="GET", headers=AUTH)
    hidden, _, _ = await ask(door, "/v1/models/b", method="GET", headers=AUTH)
    status, _, refused = await ask(door, data=b'{"model":"b","messages":[]}', headers=AUTH)

    assert [model["id"] for model in listed["data"]] == ["a"]
    assert (found, hidden) == (200, 404)
    assert (status, refused["error"]["code"]) == (403, "model_not_allowed")


async def test_models_need_a_key_but_no_money(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """T-61: a tenant with nothing left can still list its models; a stranger cannot."""
    door = await open_door(settings({"one": upstream.url}, who=tenant("0.00")))

    assert (await ask(door, "/v1/models", method="GET", headers=AUTH))[0] == 200
    assert (await ask(door, "/v1/models", method="GET"))[0] == 401


async def test_labels_travel_into_the_event(door: RunningDoor, upstream: ScriptedUpstream) -> None:
    """E3, E7: feature, session, run, step, user and the SDK's retry count are recorded."""
    upstream.scripts = [[completion()]]
    labels = {
        "x-weir-feature": "search",
        "x-weir-session": "s-1",
        "x-weir-run": "r.1",
        "x-weir-step": "3",
        "x-stainless-retry-count": "1",
    }

    raw = b'{"model":"m","messages":[],"user":"u-7"}'
    status, _, _ = await ask(door, data=raw, headers=AUTH | labels)

    event = door.events[0]
    assert status == 200
    assert (event.feature, event.session, event.run, event.step) == ("search", "s-1", "r.1", 3)
    assert (event.user, event.client_retry_count) == ("u-7", 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [("x-weir-feature", "a b"), ("x-weir-session", "{x}"), ("x-weir-step", "-1")],
)
async def test_a_label_that_cannot_be_one_is_refused(
    door: RunningDoor, name: str, value: str
) -> None:
    """T-63: a label becomes part of keys and rows, so it is checked at the door."""
    status, _, body = await ask(door, data=BODY, headers=AUTH | {name: value})

    assert (status, body["error"]["param"]) == (400, name)


async def test_nobody_learns_what_runs_here(door: RunningDoor) -> None:
    """T-32: health says alive or not, and no header names the software below."""
    status, headers, body = await ask(door, "/healthz", method="GET")

    assert (status, body) == (200, {"status": "ok"})
    _, refused, _ = await ask(door, data=BODY)
    assert refused["Server"] == "tokenweir"
    assert "aiohttp" not in str(headers) + str(refused)


async def test_one_trip_before_and_one_after(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """The request path asks the store once before the first upstream byte and once at the end."""
    asked: list[str] = []

    class CountingCaps(MemoryCaps):
        async def reserve(self, *args: Any, **options: Any) -> Any:
            asked.append("reserve")
            return await super().reserve(*args, **options)

        async def commit(self, *args: Any) -> Any:
            asked.append("commit")
            return await super().commit(*args)

    door = await open_door(settings({"one": upstream.url}, rules=(rule("*"),)), CountingCaps())
    upstream.scripts = [[completion()]]

    await ask(door, data=BODY, headers=AUTH)

    assert asked == ["reserve", "commit"]


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


def _address(door: RunningDoor) -> tuple[str, int]:
    host, _, port = door.url.removeprefix("http://").partition(":")
    return host, int(port)


async def test_a_relayed_refusal_has_one_content_type(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """The upstream's own content type replaces ours; two of them would be a framing puzzle."""
    upstream.scripts = [
        [b"HTTP/1.1 400 X\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nno"]
    ]

    async with door.http.post(f"{door.url}{CHAT}", data=BODY, headers=AUTH) as answer:
        assert answer.headers.getall("Content-Type") == ["text/plain"]
        assert await answer.read() == b"no"


async def test_a_streams_connection_is_used_again(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """The last bytes of a stream's framing may come after its `[DONE]`; the connection is kept."""
    events = [delta("a"), FINISH, DONE]
    upstream.scripts = [[stream_head(), *map(chunk, events), LAST_CHUNK]]

    for _ in range(3):
        async with door.http.post(
            f"{door.url}{CHAT}",
            data=b'{"model":"m","messages":[],"stream":true}',
            headers=AUTH,
        ) as answer:
            assert (await answer.read()).endswith(DONE)

    assert upstream.connections == 1
