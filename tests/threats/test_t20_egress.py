"""T-20 to T-23, T-31: where a request goes and what it carries is ours to say, not the client's."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from fixtures_door import KEY, PROVIDER_KEY, OpenDoor, RunningDoor, settings
from fixtures_upstream import DONE, FINISH, ScriptedUpstream, body, completion, delta, streamed

METADATA = "http://169.254.169.254/latest/meta-data/"

TRICKS: dict[str, dict[str, Any]] = {
    "api_base": {"api_base": METADATA},
    "base_url": {"base_url": METADATA},
    "model_list": {"model_list": [{"model_name": "m", "litellm_params": {"api_base": METADATA}}]},
    "extra_body": {"extra_body": {"api_base": METADATA, "base_url": METADATA}},
    "extra_headers": {"extra_headers": {"Host": "169.254.169.254", "X-Custom-Host": METADATA}},
    "metadata": {"metadata": {"api_base": METADATA, "provider": "other"}},
    "json_in_text": {"metadata": {"x": orjson.dumps({"api_base": METADATA}).decode()}},
    "tools": {"tools": [{"type": "function", "api_base": METADATA, "function": {"name": "f"}}]},
    "provider": {"provider": {"order": ["other"], "url": METADATA}},
    "route": {"route": "fallback", "models": ["other", METADATA], "fallbacks": ["other"]},
    "proxy": {"proxy": METADATA, "http_proxy": METADATA, "timeout": 0},
    "image_url": {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": METADATA},
                    {"type": "image_url", "image_url": {"url": "CANARY/image.png"}},
                    {"type": "file", "file": {"file_url": "CANARY/file.pdf"}},
                ],
            }
        ]
    },
}
"""T-20, T-23: fields by which other gateways were led astray; CANARY is the other upstream."""

HEADERS = {
    "X-Custom-Host": "169.254.169.254",
    "X-Portkey-Custom-Host": METADATA,
    "X-Forwarded-Host": "169.254.169.254",
    "X-Original-URL": "/admin",
    "Forwarded": "host=169.254.169.254",
    "api-base": METADATA,
    "x-base-url": METADATA,
    "X-HTTP-Method-Override": "DELETE",
    "Cookie": "a=b",
    "Proxy-Authorization": "Basic x",
    "x-api-key": "sk-other",
    "Connection": "keep-alive, Authorization",
    "TE": "trailers",
}

OURS = {
    "host",
    "authorization",
    "content-type",
    "accept",
    "accept-encoding",
    "user-agent",
    "content-length",
}


@pytest.mark.parametrize("name", TRICKS)
async def test_t20_t31_a_field_changes_nothing_but_the_body(
    door: RunningDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream, name: str
) -> None:
    """Method, host and path are those of the settings; the body is the client's but for `model`."""
    canary = orjson.dumps(TRICKS[name]).replace(b"CANARY", other_upstream.url.encode())
    sent = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **orjson.loads(canary)}
    upstream.scripts = [[completion()]]

    answer = await door.http.post(
        f"{door.url}/v1/chat/completions?api_base={METADATA}",
        json=sent,
        headers={"Authorization": f"Bearer {KEY}", **HEADERS},
    )

    assert answer.status == 200
    [received] = upstream.received
    assert received.path == "/v1/chat/completions"
    assert received.json == {**sent, "model": "up-m"}
    assert received.headers.keys() == OURS
    assert upstream.url.split("/")[2] == received.headers["host"]
    assert received.headers["authorization"] == f"Bearer {PROVIDER_KEY}"
    assert other_upstream.connections == 0
    answer.close()


MODELS = [
    METADATA,
    "http://evil/m",
    "openai/../../x",
    "../../../v1/files",
    "m/../n",
    "m?x=1",
    "m#x",
    "m\r\nHost: evil",
    " m",
    "m ",
    "M",
    "one/m",
    "one:m",
    "up-m",
    "m:free",
    "m@latest",
    "\u217f",
    "m\u0000",
]


@pytest.mark.parametrize("model", MODELS)
async def test_t20_a_model_is_found_by_its_exact_name_or_not(
    door: RunningDoor, upstream: ScriptedUpstream, model: str
) -> None:
    """A model's name is looked up, never parsed: no path, host or provider comes out of it."""
    upstream.scripts = [[completion()]]

    answer = await door.chat(model=model)

    assert (answer.status, (await answer.json())["error"]["code"]) == (404, "model_not_found")
    assert upstream.connections == 0


async def test_t31_a_stream_is_changed_by_one_option_only(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """`stream_options.include_usage` is set; fields of the client's that we do not know stay."""
    upstream.scripts = [streamed(delta("a"), FINISH, DONE)]
    fields = {"seed": 2**63, "user": "u1", "stream_options": {"include_usage": False, "x": 1}}
    fields["nested"] = {"deep": [{"a": [1.5, None, True, "é"]}]}

    await (await door.chat(stream=True, **fields)).read()

    assert upstream.received[0].json == {
        "model": "up-m",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        **fields,
        "stream_options": {"include_usage": True, "x": 1},
    }


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "json"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_t21_a_redirect_is_an_error_and_carries_no_key_away(
    door: RunningDoor,
    upstream: ScriptedUpstream,
    other_upstream: ScriptedUpstream,
    status: int,
    *,
    stream: bool,
) -> None:
    """The place it names is never connected to; the client gets a 502 without the place."""
    location = f"Location: {other_upstream.url}/chat/completions\r\n"
    upstream.scripts = [[body(b"moved", status, location)]]

    answer = await door.chat(stream=stream)
    raw = await answer.read()

    assert (answer.status, orjson.loads(raw)["error"]["code"]) == (502, "upstream_error")
    assert other_upstream.connections == 0
    assert other_upstream.url.encode() not in raw
    assert "Location" not in answer.headers
    assert door.events[0].billable is False


async def test_t20_the_environments_proxy_is_not_used(
    open_door: OpenDoor,
    upstream: ScriptedUpstream,
    other_upstream: ScriptedUpstream,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """HTTP_PROXY and its kin, which any parent process may have set, lead no key anywhere."""
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, other_upstream.url)
    door = await open_door(settings({"one": upstream.url}))
    upstream.scripts = [[completion()]]

    answer = await door.chat()

    assert answer.status == 200
    assert other_upstream.connections == 0
    answer.close()
