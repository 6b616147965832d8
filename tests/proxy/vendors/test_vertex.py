"""Vertex AI: addresses, and tokens of the machine's own account, over real sockets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from fixtures_door import OpenDoor, held, settings
from fixtures_upstream import Act, ScriptedUpstream, body

from proxy.settings import Provider, Secret
from proxy.vendors import vertex

TOKEN = "ya29.canary-token-of-the-machine"
GRANTED = body({"access_token": TOKEN, "expires_in": 3599, "token_type": "Bearer"})
ANSWER = body(
    {
        "candidates": [
            {"content": {"role": "model", "parts": [{"text": "Hello"}]}, "finishReason": "STOP"}
        ],
        "usageMetadata": {
            "promptTokenCount": 3,
            "candidatesTokenCount": 1,
            "totalTokenCount": 4,
        },
    }
)
ASK = {"messages": [{"role": "user", "content": "hi"}]}


def provider(**fields: Any) -> Provider:
    usual: dict[str, Any] = {"name": "v", "type": "vertex", "base_url": vertex.BASE_URL}
    return Provider(**{**usual, "options": {"project": "p-1"}, **fields})


@pytest.mark.parametrize(
    ("options", "stream", "expected"),
    [
        (
            {"project": "p-1"},
            False,
            (
                "https://aiplatform.googleapis.com/v1/projects/p-1/locations/global/publishers/google/"
                "models/gemini-3-pro:generateContent"
            ),
        ),
        (
            {"project": "a/b", "location": "europe-west4"},
            True,
            (
                "https://europe-west4-aiplatform.googleapis.com/v1/projects/a%2Fb/locations/"
                "europe-west4/publishers/google/models/gemini-3-pro:streamGenerateContent?alt=sse"
            ),
        ),
    ],
)
def test_where_a_model_is(options: dict[str, str], stream: bool, expected: str) -> None:
    """Nothing in an option or a model's name leads elsewhere."""
    where = provider(options=options)

    assert vertex.url(where, format="gemini", model="gemini-3-pro", stream=stream) == expected


def test_a_token_of_the_settings_is_sent_as_it_is() -> None:
    """For whoever fetches tokens by other means."""
    assert vertex.headers(provider(api_key=Secret("t-1"))) == {"Authorization": "Bearer t-1"}


def served(url: str, metadata: str) -> Any:
    made = settings({"one": url})
    options = {"project": "p-1", "metadata": metadata}
    one = replace(made.providers["one"], type="vertex", api_key=None, options=options)
    return replace(made, providers={"one": one})


async def test_one_token_serves_many_requests(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """It is asked for once, by the header that keeps others from asking, and goes to Vertex."""
    metadata = other_upstream.url.removesuffix("/v1")
    door = await open_door(served(upstream.url, metadata))
    other_upstream.scripts, upstream.scripts = [[GRANTED]], [[ANSWER]]

    for _ in range(3):
        answer = await (await door.chat(**ASK)).json()
        assert answer["choices"][0]["message"]["content"] == "Hello"

    [asked] = other_upstream.received
    assert asked.headers["metadata-flavor"] == "Google"
    assert asked.path.endswith("/service-accounts/default/token")
    assert {each.headers["authorization"] for each in upstream.received} == {f"Bearer {TOKEN}"}
    assert [event.billable for event in door.events] == [True] * 3


@pytest.mark.parametrize(
    "script",
    [
        [body({"error": "not_found"}, 404)],
        [body({"access_token": "a b", "expires_in": 5})],
        [body(b"<html>")],
        [Act.CLOSE],
    ],
    ids=["no_account", "no_token", "no_json", "gone"],
)
async def test_without_a_token_nothing_is_sent(
    open_door: OpenDoor,
    upstream: ScriptedUpstream,
    other_upstream: ScriptedUpstream,
    script: list[Any],
) -> None:
    """A machine without an account: the next upstream would be tried, and nobody pays."""
    door = await open_door(served(upstream.url, other_upstream.url.removesuffix("/v1")))
    other_upstream.scripts = [script]

    answer = await door.chat(**ASK)

    assert answer.status == 502
    assert upstream.received == []
    assert [event.reason_code for event in door.events] == ["not_sent"]
    assert held(door) == []


async def test_a_token_that_is_quoted_back_is_hidden(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """T-30: an error of the upstream's that shows what it was sent."""
    door = await open_door(served(upstream.url, other_upstream.url.removesuffix("/v1")))
    other_upstream.scripts = [[GRANTED]]
    upstream.scripts = [[body({"error": {"code": 400, "message": f"Bearer {TOKEN}?"}}, 400)]]

    raw = await (await door.chat(**ASK)).read()

    assert TOKEN.encode() not in raw
    assert orjson.loads(raw)["error"]["message"] == "Bearer ***?"
