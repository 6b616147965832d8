"""How answers end that do not end well, for every client format before every upstream format: at a
cap, by an error, by a refusal. Each client is told so in a way its own library understands."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import anthropic
import openai
import orjson
import pytest
from fixtures_door import KEY, OpenDoor, held
from fixtures_upstream import LAST_CHUNK, Act, ScriptedUpstream, body, chunk
from test_translation import assert_billed, before, script
from translation_answers import HELLO, Answer
from translation_clients import EARS, Ears, Fields
from translation_upstreams import TRANSLATING, VOICES

from metering.usage import INPUT_CLASSES, OUTPUT_CLASSES
from proxy.wire import client_format

WAYS = list(
    dict.fromkeys((client, upstream) for client in EARS for upstream in (*TRANSLATING, client))
)
FOREIGN = [(client, upstream) for client, upstream in WAYS if client != upstream]

way = pytest.mark.parametrize(("client", "upstream_format"), WAYS)
foreign = pytest.mark.parametrize(("client", "upstream_format"), FOREIGN)
streams = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])

ERRORS = (openai.APIError, anthropic.APIError)
STATUS_ERRORS = (openai.APIStatusError, anthropic.APIStatusError)


def small(ears: Ears) -> Fields:
    """A request that asks for more than the cap below leaves room for."""
    limit = {"input": "max_output_tokens"}.get(next(iter(ears.plain)), "max_tokens")
    return {**ears.plain, limit: 1000}


def code_of(error: Any) -> str | None:
    """Our code, where this library has it."""
    found = error.error_code if isinstance(error, anthropic.APIError) else error.code
    return None if found is None else str(found)


@way
async def test_a_stream_ends_softly_at_the_cap(
    open_door: OpenDoor, upstream: ScriptedUpstream, client: str, upstream_format: str
) -> None:
    """As if the model had run out of tokens: no error, its own word for it, the usage that is
    billed, and no more of it than the cap and what one slice is."""
    door = await open_door(
        replace(before(upstream.url, upstream_format, cap="0.001"), stream_slice_tokens=32)
    )
    long = Answer(words=tuple(f" word{at}" for at in range(600)))
    events = VOICES[upstream_format].events(long)[:500]
    upstream.scripts = [VOICES[upstream_format].sends(events, ends=[Act.HANG])]
    ears = EARS[client]

    heard = await ears.ask(door, small(ears), True)

    assert heard.text.startswith(" word0 word1")
    assert heard.reason == ears.ends["length"]
    [event] = door.events
    assert event.finish_reason == "length"
    assert str(event.status) == "stopped"
    given = sum(event.units.get(name, 0) for name in INPUT_CLASSES)
    made = sum(event.units.get(name, 0) for name in OUTPUT_CLASSES)
    assert heard.tokens == (given, made)
    assert given * 1000 + made * 4000 <= 1_000_000 + 32 * 4000
    assert held(door) == []


@streams
@way
async def test_an_error_before_the_answer(
    open_door: OpenDoor, upstream: ScriptedUpstream, client: str, upstream_format: str, stream: bool
) -> None:
    """What the upstream refuses is told with its status and its words; nothing is billed."""
    door = await open_door(before(upstream.url, upstream_format))
    upstream.scripts = [[body(VOICES[upstream_format].refusal, status=400)]]
    ears = EARS[client]

    with pytest.raises(STATUS_ERRORS) as caught:
        await ears.ask(door, ears.plain, stream)

    assert caught.value.status_code == 400  # type: ignore[union-attr]  # both have it
    assert "Too hot." in str(caught.value)
    assert [event.units for event in door.events] == [{}]
    assert held(door) == []


@way
async def test_a_stream_that_fails_before_it_says_anything(
    open_door: OpenDoor, upstream: ScriptedUpstream, client: str, upstream_format: str
) -> None:
    """Its status was 200; the client's is the failure's, in its words, and nothing is billed."""
    door = await open_door(before(upstream.url, upstream_format))
    voice = VOICES[upstream_format]
    upstream.scripts = [voice.sends([voice.failure])]
    ears = EARS[client]

    with pytest.raises(STATUS_ERRORS) as caught:
        await ears.ask(door, ears.plain, True)

    assert caught.value.status_code in {500, 503}  # type: ignore[union-attr]  # both have it
    assert "Too hot." in str(caught.value)
    assert [event.units for event in door.events] == [{}]
    assert held(door) == []


@way
async def test_a_stream_that_fails_in_the_middle(
    open_door: OpenDoor, upstream: ScriptedUpstream, client: str, upstream_format: str
) -> None:
    """The library raises, and what had come is billed."""
    door = await open_door(before(upstream.url, upstream_format))
    voice = VOICES[upstream_format]
    # the pauses are turns of the loop in which the proxy, too, lives: what is sent is relayed
    later = [*[Act.PAUSE] * 20, chunk(voice.failure), LAST_CHUNK]
    upstream.scripts = [voice.sends(voice.events(HELLO)[:5], ends=later)]
    ears = EARS[client]

    with pytest.raises(ERRORS) as caught:
        await ears.ask(door, ears.plain, True)

    assert "Too hot." in str(caught.value)
    [event] = door.events
    assert sum(event.units.get(name, 0) for name in OUTPUT_CLASSES) > 0
    assert str(event.status) == "truncated"
    assert held(door) == []


RELAYED = [each for each in EARS if each != "openai_responses"]
HI = [{"role": "user", "content": "Hi"}]
FIELDS: Fields = {"model": "m", "stream": True, "max_tokens": 50}


@pytest.mark.parametrize("client", RELAYED)
async def test_a_relayed_stream_tells_its_error_once(
    open_door: OpenDoor, upstream: ScriptedUpstream, client: str
) -> None:
    """The upstream's own event ends it, in bytes as they came: none of ours follows, nor an end."""
    door = await open_door(before(upstream.url, client))
    voice, said = VOICES[client], VOICES[client].events(HELLO)[:3]
    later = [*[Act.PAUSE] * 20, chunk(voice.failure), chunk(b"data: [DONE]\n\n"), LAST_CHUNK]
    upstream.scripts = [voice.sends(said, ends=later)]
    asked = {"prompt": "Hi"} if client == "openai_completions" else {"messages": HI}

    answer = await door.http.post(
        door.url + client_format(client).PATH,
        json={**FIELDS, **asked},
        headers={"Authorization": f"Bearer {KEY}"},
    )

    assert await answer.read() == b"".join([*said, voice.failure])


async def test_another_formats_error_is_told_in_the_words_of_the_upstream(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Once, with our code, and with what the upstream gave as the reason."""
    door = await open_door(before(upstream.url, "anthropic_messages"))
    voice = VOICES["anthropic_messages"]
    later = [*[Act.PAUSE] * 20, chunk(voice.failure), LAST_CHUNK]
    upstream.scripts = [voice.sends(voice.events(HELLO)[:3], ends=later)]

    answer = await door.http.post(
        f"{door.url}/v1/chat/completions",
        json={**FIELDS, "messages": HI},
        headers={"Authorization": f"Bearer {KEY}"},
    )
    *_, last, rest = (await answer.text()).split("\n\n")

    assert rest == ""
    error = orjson.loads(last.removeprefix("data: "))["error"]
    assert error["code"] == "upstream_error"
    assert error["message"] == (
        "The upstream one failed in mid-stream: Too hot. (server_is_overloaded)"
    )


@pytest.mark.parametrize("client", EARS)
async def test_a_model_that_does_not_exist(
    open_door: OpenDoor, upstream: ScriptedUpstream, client: str
) -> None:
    """Every library knows the 404."""
    made = before(upstream.url, "gemini")
    door = await open_door(replace(made, models={"other": made.models["m"]}))
    ears = EARS[client]

    with pytest.raises((openai.NotFoundError, anthropic.NotFoundError)) as caught:
        await ears.ask(door, ears.plain, False)

    assert code_of(caught.value) == "model_not_found"
    assert upstream.received == []
    assert door.events == []


@foreign
async def test_what_cannot_be_carried_is_refused_by_name(
    open_door: OpenDoor, upstream: ScriptedUpstream, client: str, upstream_format: str
) -> None:
    """Before anything is sent or held."""
    door = await open_door(before(upstream.url, upstream_format))
    ears = EARS[client]

    with pytest.raises((openai.BadRequestError, anthropic.BadRequestError)) as caught:
        await ears.ask(door, {**ears.plain, **ears.refused}, False)

    assert ears.param in str(caught.value)
    assert code_of(caught.value) == "unsupported_parameter"
    assert upstream.received == []
    assert door.events == []
    assert held(door) == []


@foreign
async def test_it_is_left_out_where_that_is_allowed(
    open_door: OpenDoor, upstream: ScriptedUpstream, client: str, upstream_format: str
) -> None:
    """`drop_unsupported` sends the rest, and nothing of what was named."""
    door = await open_door(before(upstream.url, upstream_format, drop_unsupported=True))
    upstream.scripts = [script(upstream_format, HELLO, stream=False)]
    ears = EARS[client]

    heard = await ears.ask(door, {**ears.plain, **ears.refused}, False)

    assert heard.text == HELLO.text
    assert ears.refused.keys().isdisjoint(upstream.received[0].json)
    assert_billed(door, heard)


@pytest.mark.parametrize("upstream_format", TRANSLATING)
async def test_a_prompt_that_cannot_be_said_is_not_left_out(
    open_door: OpenDoor, upstream: ScriptedUpstream, upstream_format: str
) -> None:
    """Whatever may be dropped: without it nothing would be asked."""
    door = await open_door(before(upstream.url, upstream_format, drop_unsupported=True))
    ears = EARS["openai_completions"]

    with pytest.raises(openai.BadRequestError) as caught:
        await ears.ask(door, {"prompt": [1, 2, 3], "max_tokens": 5}, False)

    assert caught.value.param == "prompt"
    assert upstream.received == []


@pytest.mark.parametrize("client", EARS)
async def test_a_model_that_failed_is_named(
    open_door: OpenDoor, upstream: ScriptedUpstream, client: str
) -> None:
    """A whole answer that Gemini could not make is an error with its reason, and no empty one."""
    door = await open_door(before(upstream.url, "gemini"))
    failed: dict[str, Any] = VOICES["gemini"].said(HELLO)
    failed["candidates"][0] |= {"finishReason": "MALFORMED_FUNCTION_CALL", "content": {}}
    upstream.scripts = [[body(failed)]]
    ears = EARS[client]

    with pytest.raises(STATUS_ERRORS) as caught:
        await ears.ask(door, ears.plain, False)

    assert caught.value.status_code == 500  # type: ignore[union-attr]  # both have it
    assert "malformed_function_call" in str(caught.value).lower()
    causes = [str(fields).lower() for _, fields in door.log.lines]
    assert any("malformed_function_call" in cause for cause in causes)
    assert [event.units for event in door.events] == [{}]
    assert held(door) == []
