"""Answers that a filter has emptied, end to end: who is asked instead, and what it costs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from continued_samples import named, read_events, text_of
from fixtures_door import OpenDoor, RunningDoor, held, settings
from fixtures_upstream import (
    DONE,
    FINISH,
    ScriptedUpstream,
    body,
    completion,
    delta,
    event,
    streamed,
    usage,
    usage_event,
)

from routing.retries import OnFailure
from routing.upstreams import Model, Upstream

START = event(
    {
        "id": "chatcmpl-0",
        "model": "m-0",
        "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}],
    }
)
FILTERED = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "content_filter"}]})


def emptied(said: str | None = None) -> bytes:
    """A whole completion that was filtered."""
    message = {"role": "assistant", "content": said}
    choice = {"index": 0, "message": message, "finish_reason": "content_filter"}
    return body(
        {"id": "c", "model": "m-0", "choices": [choice], "usage": usage(10, 0 if not said else 3)}
    )


def claude_refusal(*, is_stream: bool) -> Any:
    message = {
        "id": "msg_0",
        "type": "message",
        "role": "assistant",
        "model": "c",
        "content": [],
        "stop_reason": None if is_stream else "refusal",
        "usage": {"input_tokens": 10, "output_tokens": 1},
    }
    if not is_stream:
        return [body(message)]
    ended = {"stop_reason": "refusal", "stop_sequence": None}
    return streamed(
        named({"type": "message_start", "message": message}),
        named({"type": "message_delta", "delta": ended, "usage": {"output_tokens": 1}}),
        named({"type": "message_stop"}),
    )


def gemini_block(*, is_stream: bool) -> Any:
    answer = {
        "promptFeedback": {"blockReason": "SAFETY"},
        "usageMetadata": {"promptTokenCount": 10, "totalTokenCount": 10},
        "modelVersion": "g",
    }
    return streamed(event(answer)) if is_stream else [body(answer)]


async def opened(
    open_door: OpenDoor,
    one: ScriptedUpstream,
    two: ScriptedUpstream,
    *,
    kind: str = "openai",
    elsewhere: tuple[str, ...] = ("frank",),
) -> RunningDoor:
    """A model `m` at the first, and `frank` at the second for what is against its policy."""
    own = OnFailure(content_policy_fallbacks=elsewhere)
    models = {
        "m": Model("m", (Upstream("one", "up-m", "m"),), on_failure=own),
        "frank": Model("frank", (Upstream("two", "up-frank", "frank"),)),
    }
    made = settings({"one": one.url, "two": two.url}, models=models)
    providers = {**made.providers, "one": replace(made.providers["one"], type=kind)}
    return await open_door(replace(made, providers=providers))


@pytest.mark.parametrize(
    ("kind", "script"),
    [
        ("openai", [emptied()]),
        ("anthropic", claude_refusal(is_stream=False)),
        ("gemini", gemini_block(is_stream=False)),
    ],
)
async def test_a_whole_answer(
    open_door: OpenDoor,
    upstream: ScriptedUpstream,
    other_upstream: ScriptedUpstream,
    kind: str,
    script: Any,
) -> None:
    """The model that is named for it answers; what the first reported is billed, too."""
    door = await opened(open_door, upstream, other_upstream, kind=kind)
    upstream.scripts = [script]
    other_upstream.scripts = [[completion("Sure.", prompt=12, output=2)]]

    answer = await door.chat(max_tokens=50)

    assert (await answer.json())["choices"][0]["message"]["content"] == "Sure."
    assert answer.headers["x-weir-model"] == "frank"
    first, last = door.events
    assert (first.reason_code, first.billable, first.status) == ("filtered", True, "error")
    assert first.units["input_uncached"] == 10
    assert (last.reason_code, last.fallback_reason) == ("served", "content_policy")
    assert held(door) == []


@pytest.mark.parametrize(
    ("kind", "script"),
    [
        ("openai", streamed(START, FILTERED, usage_event(10, 0), DONE)),
        ("anthropic", claude_refusal(is_stream=True)),
        ("gemini", gemini_block(is_stream=True)),
    ],
)
async def test_a_stream(
    open_door: OpenDoor,
    upstream: ScriptedUpstream,
    other_upstream: ScriptedUpstream,
    kind: str,
    script: Any,
) -> None:
    """Events without a word wait, so that the client sees nothing of the first."""
    door = await opened(open_door, upstream, other_upstream, kind=kind)
    upstream.scripts = [script]
    other_upstream.scripts = [streamed(delta("Sure."), FINISH, usage_event(12, 2), DONE)]

    raw = await (await door.chat(stream=True, max_tokens=50)).read()

    assert raw == delta("Sure.") + FINISH + DONE
    assert [each.reason_code for each in door.events] == ["filtered", "served"]
    assert door.events[0].units["input_uncached"] == 10


@pytest.mark.parametrize("is_stream", [True, False])
async def test_without_the_key_it_is_an_answer(
    open_door: OpenDoor,
    upstream: ScriptedUpstream,
    other_upstream: ScriptedUpstream,
    is_stream: bool,
) -> None:
    """Nobody is asked instead unless the model says so."""
    door = await opened(open_door, upstream, other_upstream, elsewhere=())
    upstream.scripts = [
        streamed(START, FILTERED, usage_event(10, 0), DONE) if is_stream else [emptied()]
    ]

    answer = await door.chat(stream=is_stream)
    raw = await answer.read()

    assert (answer.status, b"content_filter" in raw) == (200, True)
    assert [each.reason_code for each in door.events] == ["served"]


@pytest.mark.parametrize("is_stream", [True, False])
async def test_a_word_makes_it_an_answer(
    open_door: OpenDoor,
    upstream: ScriptedUpstream,
    other_upstream: ScriptedUpstream,
    is_stream: bool,
) -> None:
    """What was cut by a filter in mid-sentence is served as it is."""
    door = await opened(open_door, upstream, other_upstream)
    whole = [START, delta("Well"), FILTERED, usage_event(10, 1), DONE]
    upstream.scripts = [streamed(*whole) if is_stream else [emptied("Well")]]

    answer = await door.chat(stream=is_stream)
    raw = await answer.read()

    assert (answer.status, b"Well" in raw) == (200, True)
    assert not other_upstream.received


async def test_an_empty_answer_is_none_of_a_filter(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """A stream that says nothing and ends well reaches the client whole."""
    door = await opened(open_door, upstream, other_upstream)
    upstream.scripts = [streamed(START, FINISH, usage_event(10, 1), DONE)]

    raw = await (await door.chat(stream=True)).read()

    assert raw == START + FINISH + DONE
    assert not other_upstream.received


@pytest.mark.parametrize("is_stream", [True, False])
async def test_the_last_one_is_served(
    open_door: OpenDoor,
    upstream: ScriptedUpstream,
    other_upstream: ScriptedUpstream,
    is_stream: bool,
) -> None:
    """Where the named model filters, too, and nobody is left, its answer is the answer."""
    door = await opened(open_door, upstream, other_upstream)
    script = streamed(START, FILTERED, usage_event(10, 0), DONE) if is_stream else [emptied()]
    upstream.scripts, other_upstream.scripts = [script], [script]

    answer = await door.chat(stream=is_stream)
    raw = await answer.read()

    assert answer.status == 200
    events = read_events(raw) if is_stream else [orjson.loads(raw)]
    assert is_stream is False or text_of(events) == ""
    assert events[-1]["choices"][0]["finish_reason"] == "content_filter"
    assert [each.reason_code for each in door.events] == ["filtered", "served"]


async def test_a_named_model_that_cannot_answer(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """Where it lacks what the request uses, the client is told what has happened."""
    door = await opened(open_door, upstream, other_upstream)
    models = dict(door.door.settings.models)
    sound = models["frank"].upstreams[0].terms.abilities
    terms = replace(
        models["frank"].upstreams[0].terms, abilities=replace(sound, max_context_tokens=1)
    )
    frank = replace(models["frank"].upstreams[0], terms=terms)
    models["frank"] = replace(models["frank"], upstreams=(frank,))
    narrow = await open_door(replace(door.door.settings, models=models))
    upstream.scripts = [[emptied()]]

    answer = await narrow.chat()

    assert answer.status == 400
    assert (await answer.json())["error"]["code"] == "content_policy_violation"
    assert not other_upstream.received
