"""Legacy completions, embeddings and Azure, end to end: held, sent, relayed, billed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from fixtures_door import KEY, OpenDoor, RunningDoor, held, settings, tenant
from fixtures_upstream import Act, ScriptedUpstream, body, chunk, completion, event, stream_head
from openai import AsyncOpenAI

from proxy.settings import Provider, Secret, Settings
from proxy.simulator import create_simulator_app


@pytest.fixture
async def simulator() -> AsyncIterator[str]:
    """The base URL of a simulator that answers at once."""
    runner = web.AppRunner(create_simulator_app(0.0), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    await runner.cleanup()


def with_options(configured: Settings, **changes: Any) -> Settings:
    """The settings with its one provider changed."""
    [(name, provider)] = configured.providers.items()
    return replace(configured, providers={name: replace(provider, **changes)})


async def post(door: RunningDoor, path: str, **fields: Any) -> aiohttp.ClientResponse:
    answer = await door.http.post(
        f"{door.url}{path}",
        json={"model": "m", **fields},
        headers={"Authorization": f"Bearer {KEY}"},
    )
    door.answers.append(answer)
    return answer


async def test_a_completion_by_openais_client(open_door: OpenDoor, simulator: str) -> None:
    """Whole and streamed, with a prompt of text or tokens: said, billed and held as it is."""
    door = await open_door(settings({"one": simulator}))
    async with AsyncOpenAI(api_key=KEY, base_url=f"{door.url}/v1", max_retries=0) as client:
        whole = await client.completions.create(model="m", prompt="hello world")
        texts = [
            each.choices[0].text
            async for each in await client.completions.create(
                model="m", prompt=[24912, 2375], stream=True, max_tokens=5
            )
        ]

    assert whole.choices[0].finish_reason == "length"
    assert whole.usage is not None
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (2, 16)
    assert "".join(texts) == 'You said "hello world'
    first, second = door.events
    assert first.units["output_text"] == 16
    assert first.usage_source == second.usage_source == "provider"
    assert (second.units["input_uncached"], second.units["output_text"]) == (2, 5)
    assert held(door) == []


async def test_a_completion_said_as_a_chat(open_door: OpenDoor, simulator: str) -> None:
    """Where an upstream knows chats only, a prompt is a message and the answer a text."""
    configured = with_options(settings({"one": simulator}), options={"formats": "openai_chat"})
    door = await open_door(configured)
    async with AsyncOpenAI(api_key=KEY, base_url=f"{door.url}/v1", max_retries=0) as client:
        whole = await client.completions.create(model="m", prompt="hello world", max_tokens=5)
        chunks = [
            each
            async for each in await client.completions.create(
                model="m",
                prompt="hello world",
                max_tokens=5,
                stream=True,
                stream_options={"include_usage": True},
            )
        ]

    assert whole.object == "text_completion"
    assert whole.id.startswith("cmpl-")
    assert whole.choices[0].text == 'You said "hello world'
    assert (
        "".join(each.choices[0].text for each in chunks if each.choices) == 'You said "hello world'
    )
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 5
    assert [each.units["output_text"] for each in door.events] == [5, 5]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": "a", "echo": True}, "echo"),
        ({"prompt": "a", "logprobs": 1}, "logprobs"),
        ({"prompt": "a", "suffix": "b"}, "suffix"),
        ({"prompt": "a", "best_of": 2}, "best_of"),
    ],
    ids=str,
)
async def test_what_a_chat_cannot_say_is_refused(
    open_door: OpenDoor, upstream: ScriptedUpstream, fields: dict[str, Any], param: str
) -> None:
    """Nothing is left out in silence, and nothing is asked of the upstream."""
    configured = with_options(settings({"one": upstream.url}), options={"formats": "openai_chat"})
    door = await open_door(configured)

    answer = await post(door, "/v1/completions", **fields)

    assert answer.status == 400
    assert (await answer.json())["error"]["param"] == param
    assert upstream.received == []


async def test_a_limit_is_always_told(door: RunningDoor, upstream: ScriptedUpstream) -> None:
    """The sixteen tokens that are held for a completion without a limit are what is asked for."""
    text = {"text": "x", "index": 0, "finish_reason": "length"}
    upstream.scripts = [[body({"object": "text_completion", "choices": [text]})]]

    answer = await post(door, "/v1/completions", prompt="a")

    assert answer.status == 200
    assert upstream.received[0].path == "/v1/completions"
    assert upstream.received[0].json == {"model": "up-m", "prompt": "a", "max_tokens": 16}


async def test_a_completion_that_breaks_off_is_billed(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """What came before the break is counted, as text, without what was echoed."""
    said = event({"choices": [{"text": "hello world hello", "index": 0, "finish_reason": None}]})
    upstream.scripts = [[stream_head(), chunk(said), Act.RESET]]

    answer = await post(
        door, "/v1/completions", prompt="hello world", echo=True, stream=True, max_tokens=50
    )
    await answer.read()

    assert door.events[0].units["output_text"] == 1
    assert door.events[0].units["input_uncached"] == 2
    assert held(door) == []


async def test_embeddings_by_openais_client(open_door: OpenDoor, simulator: str) -> None:
    """The client asks for base64 by itself and reads the numbers; only the input is billed."""
    door = await open_door(settings({"one": simulator}))
    async with AsyncOpenAI(api_key=KEY, base_url=f"{door.url}/v1", max_retries=0) as client:
        found = await client.embeddings.create(model="m", input=["hello world", "a"], dimensions=8)
        plain = await client.embeddings.create(
            model="m", input="hello world", dimensions=8, encoding_format="float"
        )

    assert [len(each.embedding) for each in found.data] == [8, 8]
    assert found.data[0].embedding == plain.data[0].embedding
    first, second = door.events
    assert first.units == {"input_uncached": 3, "api_call": 1, "inference": 1}
    assert first.usage_source == "provider"
    assert second.units["input_uncached"] == 2
    assert held(door) == []


async def test_embeddings_hold_their_input_alone(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """A cap that no answer of a default length would fit under lets them pass."""
    listed = {"object": "list", "data": [], "usage": {"prompt_tokens": 1, "total_tokens": 1}}
    upstream.scripts = [[body(listed)]]
    door = await open_door(settings({"one": upstream.url}, who=tenant("0.000005")))

    chat = await door.chat()
    embedded = await post(door, "/v1/embeddings", input="hello")

    assert chat.status == 400
    assert embedded.status == 200
    assert await embedded.read() == orjson.dumps(listed)


@pytest.mark.timeout(20)
async def test_more_vectors_than_are_parsed_pass(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """Megabytes of numbers are relayed untouched and billed by their usage."""
    row = b'{"object":"embedding","index":0,"embedding":[' + b"0.125," * 400_000 + b"1]}"
    raw = b'{"data":[%s],"usage":{"prompt_tokens":3,"total_tokens":3}}' % row
    upstream.scripts = [[body(raw)]]

    answer = await post(door, "/v1/embeddings", input="hello")

    assert await answer.read() == raw
    assert door.events[0].units == {"input_uncached": 3, "api_call": 1, "inference": 1}


async def test_azure_with_a_token_of_its_tenant(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """The token is fetched once, before the first call; it goes where the deployment is."""
    host = upstream.url.removesuffix("/v1")
    configured = settings({"one": upstream.url})
    azure = Provider(
        name="one",
        type="azure_openai",
        base_url=host,
        timeout_s=5.0,
        connect_timeout_s=1.0,
        options={
            "api_version": "2024-10-21",
            "tenant_id": "t",
            "client_id": "c",
            "client_secret": Secret("secret-canary-1"),
            "authority": host,
        },
    )
    door = await open_door(replace(configured, providers={"one": azure}))
    token = {"access_token": "jwt-canary-31337", "expires_in": 3600}
    upstream.scripts = [[body(token)], [completion()], [completion()]]

    answers = [await door.chat(), await door.chat()]

    assert [each.status for each in answers] == [200, 200]
    assert [each.path for each in upstream.received] == [
        "/t/oauth2/v2.0/token",
        *["/openai/deployments/up-m/chat/completions?api-version=2024-10-21"] * 2,
    ]
    assert upstream.received[1].headers["authorization"] == "Bearer jwt-canary-31337"
    assert "canary" not in str(door.log.lines)


async def test_azure_without_a_token_is_passed_over(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """A refused client is told to nobody but the log, and nothing is billed."""
    host = upstream.url.removesuffix("/v1")
    options = {"tenant_id": "t", "client_id": "c", "client_secret": Secret("secret-canary-1")}
    azure = Provider(
        name="one",
        type="azure_openai",
        base_url=host,
        options={**options, "authority": host},
    )
    door = await open_door(replace(settings({"one": upstream.url}), providers={"one": azure}))
    refused = {"error": "invalid_client", "error_description": "secret-canary-1 is wrong"}
    upstream.scripts = [[body(refused, status=401)]]

    answer = await door.chat()
    told = await answer.text()

    assert answer.status in {502, 503}
    assert "canary" not in told + str(door.log.lines)
    assert {each.path for each in upstream.received} == {"/t/oauth2/v2.0/token"}
    assert held(door) == []
