"""Whose stored answers and files are, where a request in a format of ours names them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from fixtures_door import KEY, OpenDoor, RunningDoor, settings
from fixtures_upstream import ScriptedUpstream, body

from metering.tenants import ApiKey, SpendLimits, Tenant
from routing.retries import OnFailure
from routing.upstreams import Model, Upstream

OTHER_KEY = "sk-weir-other-0123456789"
OTHER = Tenant(
    id="other",
    name="Other",
    limits=SpendLimits(daily_cap_nano=10**10),
    keys=(ApiKey("k2", hashlib.sha256(OTHER_KEY.encode()).hexdigest(), "default"),),
)
USAGE = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
STORED = body(
    {
        "id": "resp_1",
        "object": "response",
        "status": "completed",
        "model": "up-m",
        "output": [
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "Hello"}],
            }
        ],
        "usage": USAGE,
    }
)


@pytest.fixture
async def door(open_door: OpenDoor, upstream: ScriptedUpstream) -> RunningDoor:
    """Two tenants at one account that stores responses."""
    made = settings({"one": upstream.url})
    providers = {
        name: replace(each, options={"formats": "openai_responses"})
        for name, each in made.providers.items()
    }
    tenants = {**made.tenants, OTHER.id: OTHER}
    upstream.scripts = [[STORED]]
    return await open_door(replace(made, providers=providers, tenants=tenants))


async def ask(door: RunningDoor, path: str, key: str = KEY, **fields: Any) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {key}"}
    asked = {"model": "m", **fields}
    async with door.http.post(f"{door.url}/v1/{path}", json=asked, headers=headers) as answer:
        return answer.status, await answer.json()


async def test_a_stored_response_goes_on_for_who_made_it_alone(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """Another tenant is told what is told of an id that never was, and nothing goes out."""
    assert (await ask(door, "responses", input="hi"))[0] == 200

    again = {"input": "more", "previous_response_id": "resp_1"}
    mine, _ = await ask(door, "responses", **again)
    sent = len(upstream.received)
    foreign, told = await ask(door, "responses", OTHER_KEY, **again)
    unknown, said = await ask(door, "responses", **{**again, "previous_response_id": "resp_2"})

    assert (mine, foreign, unknown) == (200, 404, 404)
    assert told["error"]["code"] == said["error"]["code"] == "object_not_found"
    assert told["error"]["message"].replace("resp_1", "resp_2") == said["error"]["message"]
    assert len(upstream.received) == sent
    assert len(door.events) == 2


async def test_what_is_not_stored_is_not_noted(door: RunningDoor) -> None:
    """`store: false` leaves nothing at the provider to go on from."""
    assert (await ask(door, "responses", input="hi", store=False))[0] == 200

    status, _ = await ask(door, "responses", input="more", previous_response_id="resp_1")

    assert status == 404


@pytest.mark.parametrize(
    "part",
    [
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "file", "file": {"file_id": ["file-1"]}},
    ],
)
async def test_a_file_in_a_chat_has_to_be_the_tenants(
    door: RunningDoor, upstream: ScriptedUpstream, part: dict[str, Any]
) -> None:
    """Wherever an id stands."""
    messages = [{"role": "user", "content": [part]}]

    status, told = await ask(door, "chat/completions", messages=messages)

    assert (status, told["error"]["code"]) == (404, "object_not_found")
    assert upstream.received == []


async def test_an_id_spelled_by_escapes_is_found(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """JSON has many spellings of one name."""
    raw = b'{"model":"m","input":"hi","previous_response_\\u0069d":"resp_9"}'
    headers = {"Authorization": f"Bearer {KEY}"}

    async with door.http.post(f"{door.url}/v1/responses", data=raw, headers=headers) as answer:
        assert answer.status == 404
    assert upstream.received == []


async def test_a_detour_does_not_leave_the_account_of_an_object(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """A prompt that is too long goes where it is told, but not with an object to where it is not
    the tenant's."""
    own = OnFailure(context_fallbacks=("large",))
    models = {
        "m": Model("m", (Upstream("one", "up-m", "m"),), on_failure=own),
        "large": Model("large", (Upstream("two", "up-l", "large"),)),
    }
    made = settings({"one": upstream.url, "two": other_upstream.url}, models=models)
    providers = {
        name: replace(each, options={"formats": "openai_responses"})
        for name, each in made.providers.items()
    }
    door = await open_door(replace(made, providers=providers))
    too_long = body({"error": {"message": "no", "code": "context_length_exceeded"}}, 400)
    upstream.scripts, other_upstream.scripts = [[STORED], [too_long]], [[STORED]]
    assert (await ask(door, "responses", input="hi"))[0] == 200

    named, _ = await ask(door, "responses", input="more", previous_response_id="resp_1")
    sent = len(other_upstream.received)
    plain, _ = await ask(door, "responses", input="more")

    assert (named, sent) == (400, 0)
    assert (plain, len(other_upstream.received)) == (200, 1)
