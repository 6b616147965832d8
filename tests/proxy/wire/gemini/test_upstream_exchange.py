"""An OpenAI client in front of a Gemini upstream, over real sockets: served, billed, refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from fixtures_door import PROVIDER_KEY, OpenDoor, RunningDoor, settings
from fixtures_upstream import Act, ScriptedUpstream, body, completion, streamed

GOLDEN = Path(__file__).parents[1] / "golden" / "gemini"


@pytest.fixture
async def gemini(open_door: OpenDoor, upstream: ScriptedUpstream) -> RunningDoor:
    """A proxy in front of one scripted Gemini."""
    configured = settings({"one": upstream.url})
    one = replace(configured.providers["one"], type="gemini")
    return await open_door(replace(configured, providers={"one": one}))


def answer_of(name: str) -> dict[str, Any]:
    found = orjson.loads((GOLDEN / f"{name}.json").read_bytes())
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("is_told", [True, False])
async def test_a_delay_that_is_told_is_kept(
    open_door: OpenDoor,
    upstream: ScriptedUpstream,
    other_upstream: ScriptedUpstream,
    is_told: bool,
) -> None:
    """Google says in the body when to come back, and is left alone until then; where it does not
    say so, it is asked again at once."""
    configured = settings({"one": upstream.url, "two": other_upstream.url})
    one = replace(configured.providers["one"], type="gemini")
    providers = {**configured.providers, "one": one}
    door = await open_door(replace(configured, providers=providers))
    delay = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "36s"}
    busy = {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": [delay] * is_told}
    upstream.scripts = [[body({"error": busy}, 429)]] * 2
    other_upstream.scripts = [[completion()]] * 2

    answers = [await door.chat() for _ in range(2)]

    assert [each.headers["x-weir-provider"] for each in answers] == ["two", "two"]
    assert len(upstream.received) == (1 if is_told else 2)


async def test_a_candidate_that_was_left_out_is_told_as_filtered(
    gemini: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """Whoever asked for two choices finds two; what was made of them is billed as reported."""
    told = answer_of("answer_cached")["answer"]
    upstream.scripts = [[body(told)]]

    answer = await gemini.chat(n=2)

    first, second = (await answer.json())["choices"]
    assert first["message"]["content"] == "A cat"
    assert (second["index"], second["finish_reason"]) == (1, "content_filter")
    assert second["message"]["content"] is None
    units = answer_of("answer_cached")["units"]
    assert units.items() <= gemini.events[0].units.items()
    assert (gemini.events[0].status, gemini.events[0].usage_suspect) == ("success", None)


ONE = {"content": {"parts": [{"text": "A cat"}], "role": "model"}, "index": 0}
ENDED = {**ONE, "finishReason": "STOP"}
USED = {"promptTokenCount": 9, "candidatesTokenCount": 2, "totalTokenCount": 11}


def sse(*told: dict[str, Any]) -> list[Any]:
    return streamed(*(b"data: " + orjson.dumps(each) + b"\r\n\r\n" for each in told))


async def test_a_stream_that_leaves_a_candidate_out_is_whole(
    gemini: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """What Gemini filters does not come at all: the client is told so, and gets its end."""
    upstream.scripts = [sse({"candidates": [ENDED], "usageMetadata": USED})]

    answer = await gemini.chat(n=2, stream=True)

    *events, end, _ = (await answer.read()).split(b"\n\n")
    chunks = [orjson.loads(each.removeprefix(b"data: ")) for each in events]
    ends = [
        (choice["index"], choice["finish_reason"])
        for each in chunks
        for choice in each["choices"]
        if choice["finish_reason"]
    ]
    assert (end, ends) == (b"data: [DONE]", [(0, "stop"), (1, "content_filter")])
    assert (gemini.events[0].status, gemini.events[0].units["output_text"]) == ("success", 2)


@pytest.mark.parametrize(
    "told",
    [
        [{"candidates": [ONE], "usageMetadata": USED}],
        [{"candidates": [ENDED]}],
        [{"candidates": [ENDED, {**ONE, "index": 1}], "usageMetadata": USED}],
    ],
    ids=["not ended", "no usage", "another has begun"],
)
async def test_a_stream_that_was_cut_off_is_not(
    gemini: RunningDoor, upstream: ScriptedUpstream, told: list[dict[str, Any]]
) -> None:
    """Where a candidate has no end, or nothing was told of the usage, the rest did not come."""
    upstream.scripts = [sse(*told)]

    answer = await gemini.chat(n=2, stream=True)

    assert b"[DONE]" not in await answer.read()
    assert gemini.events[0].status == "truncated"


async def test_a_whole_answer(gemini: RunningDoor, upstream: ScriptedUpstream) -> None:
    """The client gets a chat completion, the tenant a bill by Gemini's own numbers."""
    upstream.scripts = [[body(answer_of("answer_cached")["answer"])]]

    answer = await gemini.chat(max_tokens=50)

    told = orjson.loads(await answer.read())
    assert told["choices"][0]["message"]["content"] == "A cat"
    assert told["usage"]["total_tokens"] == 2150
    assert told["usage"]["completion_tokens_details"] == {"reasoning_tokens": 100}
    received = upstream.received[0]
    assert received.path == "/v1/models/up-m:generateContent"
    assert received.headers["x-goog-api-key"] == PROVIDER_KEY
    assert "authorization" not in received.headers
    assert received.json["generationConfig"] == {"maxOutputTokens": 50}
    event = gemini.events[0]
    tokens = {"api_call": 1, "inference": 1, **answer_of("answer_cached")["units"]}
    assert event.units == tokens
    assert (event.vendor, event.model_answered) == ("gemini", "gemini-2.5-pro")


async def test_a_stream(gemini: RunningDoor, upstream: ScriptedUpstream) -> None:
    """Chunks, then the end once the usage of the last event is recorded."""
    raw = (GOLDEN / "stream_cached.sse").read_bytes()
    upstream.scripts = [streamed(raw[:100], raw[100:])]

    answer = await gemini.chat(stream=True)

    events = (await answer.read()).split(b"\n\n")
    assert events[-2] == b"data: [DONE]"
    assert upstream.received[0].path == "/v1/models/up-m:streamGenerateContent?alt=sse"
    event = gemini.events[0]
    assert (event.status, event.finish_reason, event.usage_source) == (
        "success",
        "stop",
        "provider",
    )
    assert event.units["output_text"] == 2


async def test_a_failure_in_mid_stream(gemini: RunningDoor, upstream: ScriptedUpstream) -> None:
    """What came before it is billed, and the client is told that it broke off."""
    said, failed = (GOLDEN / "stream_error.sse").read_bytes().split(b"\r\n\r\n", 1)
    head, first, second, last = streamed(said + b"\r\n\r\n", failed)
    upstream.scripts = [[head, first, Act.WAIT, second, last]]

    answer = await gemini.chat(stream=True)
    assert b"Half an" in await answer.content.readuntil(b"\n\n")
    upstream.proceed.set()

    told = await answer.read()
    assert b"[DONE]" not in told
    assert b'"error"' in told
    assert (gemini.events[0].status, gemini.events[0].units["output_text"]) == ("truncated", 3)


async def test_an_error_is_told_in_openais_words(
    gemini: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """The status stays, the shape is OpenAI's, and nothing is billed."""
    error = {"code": 400, "message": f"Bad key {PROVIDER_KEY}?", "status": "INVALID_ARGUMENT"}
    upstream.scripts = [[body({"error": error}, status=400)]]

    answer = await gemini.chat()

    assert answer.status == 400
    told = orjson.loads(await answer.read())["error"]
    assert (told["type"], told["message"]) == ("invalid_request_error", "Bad key ***?")
    assert gemini.events[0].billable is False


async def test_what_cannot_be_carried_is_refused(
    gemini: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """Before anything is sent, by its name."""
    upstream.scripts = [[b""]]

    answer = await gemini.chat(logit_bias={"1": 5})

    assert answer.status == 400
    assert orjson.loads(await answer.read())["error"]["param"] == "logit_bias"
    assert upstream.received == []
