"""Bedrock behind the whole proxy, on real sockets: signed, streamed, billed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from bedrock_frames import event, exception, packed, resigned
from fixtures_door import OpenDoor, RunningDoor, held, settings
from fixtures_upstream import LAST_CHUNK, Act, ScriptedUpstream, Step, body, chunk, completion, head

from proxy.settings import Secret
from proxy.vendors.bedrock.sigv4 import Keys
from proxy.wire import UpstreamFormat, client_formats, upstream_format
from routing.upstreams import Model, Upstream

GOLDEN = Path(__file__).parents[1] / "golden" / "bedrock_converse"
KEYS = Keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "lent-token-0123456789")
MODEL = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
OPTIONS = {
    "region": "eu-central-1",
    "access_key_id": Secret(KEYS.access_key_id),
    "secret_access_key": Secret(KEYS.secret_access_key),
    "session_token": Secret(KEYS.token or ""),
}
STREAM_HEAD = (
    head(kind="application/vnd.amazon.eventstream") + b"Transfer-Encoding: chunked\r\n\r\n"
)


def golden(kind: str, name: str) -> Any:
    return orjson.loads((GOLDEN / kind / f"{name}.json").read_bytes())


def streamed(*events: bytes) -> list[Step]:
    return [STREAM_HEAD, *(chunk(each) for each in events), LAST_CHUNK]


@pytest.fixture
async def bedrock(open_door: OpenDoor, upstream: ScriptedUpstream) -> RunningDoor:
    """A proxy whose only provider is Bedrock."""
    return await open_door(aws(upstream.url.removesuffix("/v1")))


def aws(url: str, **others: str) -> Any:
    model = Model("m", tuple(Upstream(name, MODEL, "m") for name in ("aws", *others)))
    configured = settings({"aws": url, **others}, models={"m": model})
    provider = replace(
        configured.providers["aws"], type="bedrock", base_url=url, api_key=None, options=OPTIONS
    )
    return replace(configured, providers={**configured.providers, "aws": provider})


def test_it_is_a_format_of_upstreams_only() -> None:
    """No client speaks it, and every other format can be written in it."""
    found: UpstreamFormat = upstream_format("bedrock_converse")

    assert found.TRANSLATES
    assert "bedrock_converse" not in client_formats()


async def test_a_whole_answer(bedrock: RunningDoor, upstream: ScriptedUpstream) -> None:
    """The client gets a chat completion, the event the classes of the cache; botocore signs what
    came the same way."""
    case = golden("answers", "cached")
    upstream.scripts = [[body(case["converse"])]]

    answer = await bedrock.chat(messages=[{"role": "user", "content": "hi"}], stop="END")

    told = await answer.json()
    assert answer.status == 200
    assert told["choices"][0]["message"]["content"] == "Yes"
    assert told["usage"]["prompt_tokens"] == 368 + 10536
    assert told["usage"]["prompt_tokens_details"]["cached_tokens"] == 10536
    received = upstream.received[0]
    assert received.path == f"/model/{MODEL.replace(':', '%3A')}/converse"
    assert received.json == {
        "messages": [{"role": "user", "content": [{"text": "hi"}]}],
        "inferenceConfig": {"stopSequences": ["END"]},
        "additionalModelResponseFieldPaths": ["/stop_sequence"],
    }
    url = f"http://127.0.0.1:{upstream.port}{received.path}"
    assert received.headers["authorization"] == resigned(
        url, received.headers, received.body, KEYS, "eu-central-1"
    )
    assert received.headers["accept"] == "application/json"
    (booked,) = bedrock.events
    assert booked.vendor == "bedrock"
    assert booked.model_upstream == MODEL
    assert {name: n for name, n in booked.units.items() if "put" in name} == case["units"]
    assert booked.usage_source == "provider"
    assert held(bedrock) == []


@pytest.mark.parametrize("name", ["plain", "tools", "thinking", "cached"])
async def test_a_stream(bedrock: RunningDoor, upstream: ScriptedUpstream, name: str) -> None:
    """Frames come in, chunks go out, and the usage that follows the stop is billed."""
    case = golden("streams", name)
    stream = packed(case["events"])
    upstream.scripts = [streamed(*(stream[at : at + 50] for at in range(0, len(stream), 50)))]

    answer = await bedrock.chat(stream=True)

    told = await answer.read()
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert told.endswith(b"data: [DONE]\n\n")
    text = "".join(
        choice["delta"].get("content") or ""
        for line in told.split(b"\n\n")
        if line and line != b"data: [DONE]"
        for choice in orjson.loads(line.removeprefix(b"data: "))["choices"]
    )
    assert text == case["told"]["content"]
    received = upstream.received[0]
    assert received.path.endswith("/converse-stream")
    assert received.headers["accept"] == "application/vnd.amazon.eventstream"
    (booked,) = bedrock.events
    assert {name: n for name, n in booked.units.items() if "put" in name} == case["units"]
    assert (booked.usage_source, booked.finish_reason) == (
        "provider",
        case["told"]["finish_reason"],
    )


async def test_a_stream_that_fails_before_its_first_word(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """An exception as the first event is no answer yet: another upstream gives one."""
    upstream.scripts = [streamed(exception("throttlingException", "Too many tokens"))]
    other_upstream.scripts = [[completion()]]
    door = await open_door(aws(upstream.url.removesuffix("/v1"), other=other_upstream.url))

    answer = await door.chat(stream=True)
    await answer.read()

    assert answer.headers["x-weir-provider"] == "other"


async def test_a_stream_that_fails_midway(bedrock: RunningDoor, upstream: ScriptedUpstream) -> None:
    """What was said is billed, and the client learns that it is not all."""
    case = golden("streams", "error_mid_stream")
    begun, failed = (streamed(packed(part)) for part in (case["events"][:2], case["events"][2:]))
    upstream.scripts = [[*begun[:-1], Act.WAIT, *failed[1:]]]

    answer = await bedrock.chat(stream=True)
    told = await answer.content.readany()
    upstream.proceed.set()
    told += await answer.read()

    assert b"Hello there, how are" in told
    assert b'"error"' in told
    (booked,) = bedrock.events
    assert booked.usage_source in {"counted", "mixed"}
    assert booked.units["output_text"] >= 4


async def test_a_stream_that_breaks_off(bedrock: RunningDoor, upstream: ScriptedUpstream) -> None:
    """In the middle of a frame: what was said before is billed."""
    stream = packed(golden("streams", "plain")["events"])
    upstream.scripts = [[STREAM_HEAD, chunk(stream[:400]), Act.WAIT, Act.CLOSE]]

    answer = await bedrock.chat(stream=True)
    told = await answer.content.readany()
    upstream.proceed.set()
    told += await answer.read()

    assert b"Hello" in told
    (booked,) = bedrock.events
    assert booked.units["output_text"] >= 1
    assert held(bedrock) == []


async def test_a_corrupt_stream_is_not_passed_on_as_whole(
    bedrock: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """A checksum that does not hold ends the answer with an error."""
    broken = bytearray(event("contentBlockDelta", {"delta": {"text": "lost"}}))
    broken[-1] ^= 1
    first = packed(golden("streams", "plain")["events"][:2])
    upstream.scripts = [[STREAM_HEAD, chunk(first), Act.WAIT, chunk(bytes(broken)), LAST_CHUNK]]

    answer = await bedrock.chat(stream=True)
    told = await answer.content.readany()
    upstream.proceed.set()
    told += await answer.read()

    assert b"Hello" in told
    assert b"lost" not in told
    assert b'"error"' in told


@pytest.mark.parametrize(
    ("status", "said", "told", "code"),
    [
        (400, {"message": "Malformed input request"}, 400, None),
        (403, {"message": "not authorized: lent-token-0123456789"}, 502, "upstream_auth"),
        (429, {"message": "Too many tokens per day"}, 503, "upstream_quota"),
    ],
)
async def test_errors(
    bedrock: RunningDoor,
    upstream: ScriptedUpstream,
    status: int,
    said: dict[str, str],
    told: int,
    code: str | None,
) -> None:
    """A refusal of the request is told in OpenAI's words, one of our account in our own."""
    upstream.scripts = [[body(said, status)]]

    answer = await bedrock.chat()
    found = await answer.json()

    assert answer.status == told
    assert found["error"]["code"] == code
    assert "lent-token" not in str(found)
    if status == 400:
        assert found["error"]["message"] == "Malformed input request"
        assert found["error"]["type"] == "invalid_request_error"


async def test_what_cannot_be_carried_is_refused(
    bedrock: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """By name, before anything is sent."""
    upstream.scripts = [[body({})]]

    answer = await bedrock.chat(seed=1)

    assert answer.status == 400
    assert (await answer.json())["error"]["param"] == "seed"
    assert upstream.received == []


async def test_a_client_that_leaves(
    open_door: OpenDoor, upstream: ScriptedUpstream, handler_cancellation: bool
) -> None:
    """The upstream is told, and what was said is billed once."""
    upstream.scripts = [
        [STREAM_HEAD, chunk(packed(golden("streams", "plain")["events"][:2])), Act.HANG]
    ]
    door = await open_door(aws(upstream.url.removesuffix("/v1")), cancels=handler_cancellation)

    answer = await door.chat(stream=True)
    await answer.content.readany()
    answer.close()
    await upstream.left.wait()
    while not door.events:
        await asyncio.sleep(0)

    (booked,) = door.events
    assert booked.units["output_text"] >= 1
