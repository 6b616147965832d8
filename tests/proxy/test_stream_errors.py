"""An error before anything else in a stream: told as a status would be, our own account aside."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from fixtures_door import KEY, PROVIDER_KEY, OpenDoor, held, settings
from fixtures_upstream import ScriptedUpstream, chunk, delta, event, stream_head, streamed
from hypothesis import given
from wire_samples import any_json

from proxy.redaction import NOTHING, Redaction
from proxy.stream_errors import outcome_of, reason_of, said_later, words_of
from routing.fallback import Outcome

OVERLOADED = (
    b"event: error\n"
    b'data: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        ({"type": "rate_limit_error", "message": "Slow"}, 429, None),
        ({"type": "service_unavailable_error", "message": "Busy", "code": "busy"}, 503, "busy"),
        ({"type": "api_error", "message": "No", "code": "modelStreamErrorException"}, 500, None),
        ({"message": "From behind", "code": 502}, 502, None),
        ("It broke.", 500, None),
    ],
)
def test_the_status_is_that_of_the_words(error: Any, status: int, code: str | None) -> None:
    """By the type or the code, else by a number that some servers say; what is left is a 500."""
    words = words_of(error, NOTHING)

    assert words is not None
    assert words.status == status
    assert code is None or words.code == code


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ({"type": "overloaded_error", "message": "Busy"}, "Busy (overloaded_error)"),
        ({"type": "server_error", "code": "hot", "message": "No"}, "No (hot)"),
        ({"type": "insufficient_quota", "message": "You exceeded your quota"}, None),
        ({"message": "an event of the answer cannot be read (KeyError)"}, None),
        ("an event could not be read", None),
        (None, None),
    ],
)
def test_what_an_error_in_mid_stream_gives_as_the_reason(error: Any, said: str | None) -> None:
    """Its message and its word; nothing of our account, and no notes of our own."""
    assert said_later(error, NOTHING) == said


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        ({"type": "overloaded_error"}, Outcome.SERVER_ERROR),
        ({"type": "service_unavailable_error"}, Outcome.SERVER_ERROR),
        ({"type": "rate_limit_error"}, Outcome.RATE_LIMITED),
        ({"code": 429}, Outcome.RATE_LIMITED),
        ({"code": "context_length_exceeded"}, Outcome.CONTEXT_TOO_LONG),
        ({"type": "invalid_request_error", "code": "content_filter"}, Outcome.CONTENT_POLICY),
        ({"type": "invalid_request_error", "code": None}, Outcome.REFUSED),
        ({"type": "authentication_error"}, Outcome.AUTH),
        ({"code": 401}, Outcome.AUTH),
        ({"type": "insufficient_quota"}, Outcome.QUOTA),
        ({"code": []}, Outcome.SERVER_ERROR),
        ("It broke.", Outcome.SERVER_ERROR),
        (None, Outcome.SERVER_ERROR),
    ],
)
def test_the_outcome_is_that_of_a_status(error: Any, outcome: Outcome) -> None:
    """What begins a stream means what it would have meant before it; the rest is the server's."""
    assert outcome_of(error) is outcome


@pytest.mark.parametrize(
    "error",
    [
        {"type": "authentication_error", "message": "bad key"},
        {"type": "insufficient_quota", "message": "pay"},
        {"code": 401, "message": "bad key"},
        {"message": 3},
        None,
    ],
)
def test_our_account_is_nobodys_business(error: Any) -> None:
    """Nor is there anything to tell where nothing was said."""
    assert words_of(error, NOTHING) is None


def test_credentials_are_hidden() -> None:
    """In the words and in the reason."""
    redaction = Redaction(["sk-0123456789"])
    error = {"type": "x sk-0123456789", "message": "for sk-0123456789", "code": "sk-0123456789"}
    words = words_of(error, redaction)

    assert words is not None
    assert (words.message, words.code) == ("for ***", "***")
    assert "0123456789" not in reason_of(error, redaction)


@given(any_json("type", "code", "message"))
def test_any_error_is_read(error: Any) -> None:
    """Nothing in it can be trusted."""
    words = words_of(error, NOTHING)

    assert words is None or 400 <= words.status <= 599
    assert reason_of(error, NOTHING)


async def test_an_overloaded_model_is_told_as_such(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Anthropic's first event is its error: the client gets its words, and the log its type."""
    made = settings({"one": upstream.url})
    one = replace(made.providers["one"], type="anthropic")
    door = await open_door(replace(made, providers={"one": one}))
    upstream.scripts = [[stream_head(), chunk(OVERLOADED), chunk(b"")]]

    answer = await door.chat(stream=True)
    error = orjson.loads(await answer.read())["error"]

    assert (answer.status, error["message"]) == (503, "Overloaded")
    assert answer.headers["x-weir-error-source"] == "upstream"
    assert "service_unavailable_error" in str(door.log.lines)
    assert (door.events[0].status, door.events[0].billable) == ("error", False)
    assert held(door) == []


async def test_a_field_has_the_clients_own_name(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Whoever sent `input` is not told of `messages`; whoever sent these is."""
    door = await open_door(settings({"one": upstream.url}))
    error = {"message": "no", "type": "invalid_request_error", "param": "messages", "code": None}
    upstream.scripts = [[stream_head(), chunk(event({"error": error})), chunk(b"")]]

    answer = await door.http.post(
        f"{door.url}/v1/responses",
        json={"model": "m", "input": "hi", "stream": True},
        headers={"Authorization": f"Bearer {KEY}"},
    )
    door.answers.append(answer)
    translated = orjson.loads(await answer.read())["error"]
    same = orjson.loads(await (await door.chat(stream=True)).read())["error"]

    assert (answer.status, translated["param"], same["param"]) == (400, "input", "messages")


async def test_another_upstream_still_goes_first(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """The error is told only where nobody else answers."""
    door = await open_door(settings({"one": upstream.url, "two": other_upstream.url}))
    error = {"message": f"no {PROVIDER_KEY}", "type": "server_error", "code": None}
    upstream.scripts = [[stream_head(), chunk(event({"error": error})), chunk(b"")]]
    other_upstream.scripts = [streamed(delta("Hello"))]

    raw = await (await door.chat(stream=True)).read()
    assert raw.startswith(delta("Hello"))

    other_upstream.scripts = upstream.scripts
    answer = await door.chat(stream=True)
    told = orjson.loads(await answer.read())["error"]
    assert (answer.status, told["message"], told["type"]) == (500, "no ***", "server_error")


async def test_an_address_that_leads_nowhere_is_no_refusal(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """A web server's 404 speaks of our settings: the next upstream, else our own 502."""
    page = b"HTTP/1.1 404 X\r\nContent-Type: text/html\r\nContent-Length: 9\r\n\r\n<html>404"
    door = await open_door(settings({"one": upstream.url, "two": other_upstream.url}))
    upstream.scripts, other_upstream.scripts = [[page]], [streamed(delta("Hello"))]

    raw = await (await door.chat(stream=True)).read()
    assert raw.startswith(delta("Hello"))

    other_upstream.scripts = [[page]]
    answer = await door.chat()
    assert (answer.status, (await answer.json())["error"]["code"]) == (502, "upstream_error")
    assert "is providers.one.base_url right?" in str(door.log.lines)
