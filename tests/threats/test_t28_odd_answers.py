"""T-08, T-28, T-29: headers, types and texts of an upstream on their way out, to client and log."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from fixtures_door import RunningDoor
from fixtures_upstream import DONE, FINISH, LAST_CHUNK, ScriptedUpstream, body, chunk, delta, head

from metering.events import decode, encode

NOISE = (
    "Set-Cookie: session=canary\r\nServer: canary\r\nX-Request-Id: up-1\r\nVia: canary\r\n"
    "openai-organization: canary\r\nx-ratelimit-remaining-tokens: canary\r\nAlt-Svc: canary\r\n"
    "x-weir-cost-usd: canary\r\nx-weir-tenant: canary\r\nx-should-retry: canary\r\n"
    "Content-Disposition: canary\r\nAccess-Control-Allow-Origin: canary\r\n"
    "X-Latin: \xe9\x80canary\r\n" + "X-Many: canary\r\n" * 127
)
STREAM = delta("Hello world") + FINISH + DONE
WHOLE = orjson.dumps({"choices": [{"message": {"content": "Hello world"}}]})
REFUSAL = orjson.dumps({"error": {"message": "no", "code": "x"}})

ANSWERS: dict[str, tuple[bool, list[Any]]] = {
    "stream": (
        True,
        [
            head(kind="text/event-stream").replace(b"\r\n", b"\r\n" + NOISE.encode("latin-1"), 1)
            + b"Transfer-Encoding: chunked\r\n\r\n",
            chunk(STREAM),
            LAST_CHUNK,
        ],
    ),
    "json": (False, [body(WHOLE).replace(b"\r\n", b"\r\n" + NOISE.encode("latin-1"), 1)]),
    "refusal": (False, [body(REFUSAL, 400).replace(b"\r\n", b"\r\n" + NOISE.encode("latin-1"), 1)]),
    "failure": (False, [body(REFUSAL, 401).replace(b"\r\n", b"\r\n" + NOISE.encode("latin-1"), 1)]),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_t08_no_header_of_the_upstream_comes_through(
    door: RunningDoor, upstream: ScriptedUpstream, name: str
) -> None:
    """Cookies, server names, organisations and forged `x-weir-*` stop here; the framing is ours."""
    stream, script = ANSWERS[name]
    upstream.scripts = [script]

    answer = await door.chat(stream=stream)
    await answer.read()

    assert not [item for item in answer.headers.items() if "canary" in item[1]]
    assert answer.headers["Server"] == "tokenweir"
    assert answer.headers["x-request-id"] == door.events[0].request_id
    framing = [
        value
        for header in ("Content-Length", "Transfer-Encoding")
        for value in answer.headers.getall(header, [])
    ]
    assert len(framing) == 1
    assert door.events[0].upstream_request_id == "up-1"


@pytest.mark.parametrize(
    "retry_after", ["\x01\x02", "\xe9" * 400, "7\t", "", "a" * 10_000], ids=ascii
)
async def test_t08_a_relayed_header_is_printable_and_short(
    door: RunningDoor, upstream: ScriptedUpstream, retry_after: str
) -> None:
    """The few headers that do come through cannot carry what a header must not, nor much."""
    raw = body(b"{}", 429).replace(
        b"\r\n", b"\r\nRetry-After: %s\r\n" % retry_after.encode("l1"), 1
    )
    upstream.scripts = [[raw]]

    answer = await door.chat()

    assert answer.status in (429, 502)
    got = answer.headers.get("Retry-After", "")
    assert len(got) <= 256
    assert got.isprintable()


KINDS: dict[str, tuple[bool, list[Any], int]] = {
    "html_for_json": (False, [head(kind="text/html") + b"Content-Length: 4\r\n\r\n<a/>"], 502),
    "html_for_stream": (True, [head(kind="text/html") + b"Content-Length: 4\r\n\r\n<a/>"], 502),
    "json_for_stream": (True, [body(WHOLE)], 200),
    "stream_for_json": (
        False,
        [head(kind="text/event-stream") + b"Content-Length: %d\r\n\r\n" % len(STREAM) + STREAM],
        502,
    ),
    "json_typed_as_text": (
        False,
        [head(kind="text/plain") + b"Content-Length: %d\r\n\r\n" % len(WHOLE) + WHOLE],
        200,
    ),
    "no_content": (False, [b"HTTP/1.1 204 X\r\n\r\n"], 502),
    "created": (False, [body(WHOLE, 201)], 502),
    "partial": (True, [body(WHOLE, 206)], 502),
    "not_modified": (False, [b"HTTP/1.1 304 X\r\n\r\n"], 502),
    "status_999": (True, [body(WHOLE, 999)], 502),
    "status_600": (False, [body(WHOLE, 600)], 502),
    "empty": (False, [body(b"")], 502),
    "a_list": (False, [body(b"[]")], 502),
    "choices_an_object": (False, [body(b'{"choices":{}}')], 502),
    "brotli": (False, [body(WHOLE, extra="Content-Encoding: br\r\n")], 502),
    "identity_said": (False, [body(WHOLE, extra="Content-Encoding: Identity\r\n")], 200),
}


@pytest.mark.parametrize("name", KINDS)
async def test_t28_what_was_not_asked_for(
    door: RunningDoor, upstream: ScriptedUpstream, name: str
) -> None:
    """A chat completion is served whatever it is called; anything else is one 502, unbilled."""
    stream, script, status = KINDS[name]
    upstream.scripts = [script]

    answer = await door.chat(stream=stream)
    raw = await answer.read()

    assert answer.status == status
    assert upstream.received[0].headers["accept-encoding"] == "identity"
    if status == 200:
        assert raw == WHOLE or (stream and b'"delta":{"content":"Hello world"' in raw)
        assert door.events[0].units["output_text"] == 2
    else:
        assert orjson.loads(raw)["error"]["code"] == "upstream_error"
        assert door.events[0].billable is False


HOSTILE = {
    "script": "<script>alert(1)</script>",
    "ansi": "\x1b[31mred\x1b[0m\x07",
    "right_to_left": "\u202egnp.exe",
    "nul": "a\u0000b",
    "lines": 'a\n{"event":"forged","level":"info"}\r\n',
    "megabyte": "m" * 1024 * 1024,
    "half_a_pair": "\ud800",
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_t29_hostile_words_become_harmless_labels(
    door: RunningDoor, upstream: ScriptedUpstream, name: str
) -> None:
    """Model, version, tier and finish reason: short and printable; the log has none of the text."""
    word = HOSTILE[name]
    answer_of = {
        "model": word,
        "system_fingerprint": word,
        "service_tier": word,
        "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": word}],
    }
    stream = b"data: " + json.dumps(answer_of).encode() + b"\n\n" + DONE
    upstream.scripts = [
        [head(kind="text/event-stream") + b"Content-Length: %d\r\n\r\n" % len(stream) + stream]
    ]

    answer = await door.chat(stream=True)

    assert await answer.read() == stream
    event = door.events[0]
    labels = (event.model_answered, event.model_version, event.service_tier, event.finish_reason)
    for label in labels:
        assert label is None or (len(label) <= 256 and label.isprintable())
    assert decode(encode(event)) == event
    assert word not in repr(door.log.lines)
