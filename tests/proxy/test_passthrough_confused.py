"""What leads elsewhere by another reading reaches nobody: paths, queries, headers, bodies."""

from __future__ import annotations

import pytest
from fixtures_door import OpenDoor, settings, tenant
from fixtures_upstream import ScriptedUpstream, body
from passthrough_samples import ask, form_bytes, passing_settings, refusal, terms

CONFUSED = {
    "dot_dot": "/v1/files/../chat/completions",
    "dot": "/v1/./files",
    "encoded_dot": "/v1/files/%2e%2e/chat",
    "encoded_slash": "/v1/files%2Ffile-1",
    "encoded_letter": "/v1/%66iles",
    "double_slash": "/v1//files",
    "trailing_slash": "/v1/files/",
    "semicolon": "/v1/files;x=1",
    "backslash": "/v1/files\\..\\chat",
    "host": "/v1/files@example.com",
    "nul": "/v1/files%00",
    "unknown": "/v1/organization/usage",
    "admin": "/v1/organization/admin_api_keys",
}


@pytest.mark.parametrize("path", CONFUSED.values(), ids=CONFUSED)
async def test_confused_paths_reach_nobody(
    open_door: OpenDoor, upstream: ScriptedUpstream, path: str
) -> None:
    """What is not in the table as it stands on the wire is not found, and nothing is sent."""
    upstream.scripts = [[body({})]]
    door = await open_door(passing_settings(upstream.url))

    answer = await ask(door, "GET", path)

    assert answer.status == 404
    assert upstream.received == []


@pytest.mark.parametrize("query", ["?a=%0d%0aX", "?x=<", "?q=" + "a" * 3000])
async def test_only_what_survives_relaying_passes(
    open_door: OpenDoor, upstream: ScriptedUpstream, query: str
) -> None:
    """A query is relayed as it came or refused; one with an escaped line break is no line break."""
    upstream.scripts = [[body({"id": "x"})]]
    own = terms(own_accounts={"acme": "one"})
    door = await open_door(passing_settings(upstream.url, passthrough=own))

    answer = await ask(door, "GET", f"/v1/files/file-1{query}")

    if answer.status == 200:
        assert upstream.received[0].path == f"/v1/files/file-1{query}"
        assert "x" not in upstream.received[0].headers
    else:
        assert await refusal(answer) == (400, None)


async def test_only_three_headers_go_on(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """Type, Accept and OpenAI-Beta; neither the client's key nor a header of its own."""
    upstream.scripts = [[body({"id": "x", "object": "file"})]]
    own = terms(own_accounts={"acme": "one"})
    door = await open_door(passing_settings(upstream.url, passthrough=own))

    await ask(
        door,
        "GET",
        "/v1/files/file-1",
        headers={"OpenAI-Beta": "assistants=v2", "OpenAI-Organization": "org", "Cookie": "a=b"},
    )

    sent = upstream.received[0]
    assert sent.method == "GET"
    assert sent.headers["openai-beta"] == "assistants=v2"
    assert set(sent.headers) == {
        "host",
        "accept",
        "accept-encoding",
        "authorization",
        "openai-beta",
        "user-agent",
    }
    assert "sk-weir" not in sent.headers["authorization"]


async def test_nothing_is_relayed_without_the_section(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """The path is not found, and the message says what to configure."""
    upstream.scripts = [[body({})]]
    door = await open_door(settings({"one": upstream.url}))

    answer = await ask(door, "GET", "/v1/files")
    other = await ask(door, "GET", "/v1/chat/completions")

    assert answer.status == 404
    assert "section `passthrough`" in (await answer.json())["error"]["message"]
    assert other.status == 405


async def test_a_family_that_is_not_allowed(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Keys to the provider itself are given to nobody unless somebody allows it."""
    upstream.scripts = [[body({})]]
    door = await open_door(passing_settings(upstream.url, who=tenant(cap=None)))

    answer = await ask(door, "POST", "/v1/realtime/client_secrets", json={})
    other = await ask(door, "PUT", "/v1/files")

    assert await refusal(answer) == (403, "path_not_allowed")
    assert (other.status, other.headers["Allow"]) == (405, "GET, POST")


BODIES: dict[str, tuple[bytes, str]] = {
    "twice": (b'{"model":"a","model":"b"}', "application/json"),
    "twice_within": (b'{"a":{"file_id":"x","file_id":"y"}}', "application/json"),
    "spelled": (b'{"Model":"a"}', "application/json"),
    "no_json": (b'{"model":', "application/json"),
    "no_object": (b"[]", "application/json"),
    "text": (b'{"model":"a"}', "text/plain"),
    "two_models": (
        form_bytes(b"a").replace(b'name="file"; filename="a.mp3"', b'name="model"'),
        "multipart/form-data; boundary=xyz",
    ),
}


@pytest.mark.parametrize(("sent", "kind"), BODIES.values(), ids=BODIES)
async def test_ambiguous_bodies_are_refused(
    open_door: OpenDoor, upstream: ScriptedUpstream, sent: bytes, kind: str
) -> None:
    """A body that two readers could understand differently reaches no upstream."""
    upstream.scripts = [[body({})]]
    door = await open_door(passing_settings(upstream.url))

    answer = await ask(
        door, "POST", "/v1/images/generations", data=sent, headers={"Content-Type": kind}
    )

    assert answer.status == 400
    assert upstream.received == []
