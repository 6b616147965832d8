"""Events alike: read for less, and to the same effect as in full."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.meter import Meter
from metering.tokenizer import tokenizer_for
from proxy import stream_reader
from proxy.alike import SIZE_MAX, pattern_of
from proxy.reply import Reply
from proxy.sse import Decoder
from proxy.stream_reader import StreamReader
from proxy.wire.openai_chat.upstream import ChunkSource


def chunk(text: str | None, **fields: Any) -> dict[str, Any]:
    """A chunk as OpenAI sends it; `choice` and `delta` change what lies within."""
    delta = {"content": text, **fields.pop("delta", {})}
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
    choices = [{**choice, **fields.pop("choice", {})}]
    return {"id": "chatcmpl-1", "model": "gpt-4o", "choices": choices, "usage": None, **fields}


def learnt(body: dict[str, Any]) -> Any:
    """The pattern of such events."""
    return pattern_of(orjson.dumps(body), body)


def test_another_text_is_read() -> None:
    """What differs in its text alone is alike, escapes and all."""
    found = learnt(chunk("Hello"))
    for text in ("", " there", 'a "quote"', "\\", "\n", "東京 🌊", '","content":"x'):
        assert found.text(orjson.dumps(chunk(text))) == text
        assert found.text(json.dumps(chunk(text)).encode()) is None, "other blanks"
    assert found.channel == (0, "content")


def test_a_padding_may_differ() -> None:
    """OpenAI pads every chunk with random letters."""
    found = learnt(chunk("Hello", obfuscation="abc"))
    assert found.text(orjson.dumps(chunk("you", obfuscation="qwertzuiop"))) == "you"
    assert found.text(orjson.dumps(chunk('","obfuscation":"', obfuscation=""))) is not None
    assert found.text(orjson.dumps(chunk("you", obfuscation=7))) is None
    assert found.text(orjson.dumps(chunk("you"))) is None


@pytest.mark.parametrize(
    "body",
    [
        chunk("Hi", choice={"finish_reason": "stop"}),
        chunk("Hi", choice={"message": {"content": "Hi"}}),
        chunk("Hi", choice={"index": "0"}),
        chunk("Hi", delta={"reasoning": "hm"}),
        chunk("Hi", delta={"tool_calls": [{}]}),
        chunk("Hi", usage={"completion_tokens": 1}),
        chunk("Hi", error={"message": "no"}),
        chunk("Hi", choices=[]),
        chunk(None),
    ],
)
def test_what_says_more_is_no_pattern(body: dict[str, Any]) -> None:
    """Anything beside the text has to be read, each time."""
    assert learnt(body) is None


@pytest.mark.parametrize(
    "event",
    [
        b'{"choices":[{"index":0,"delta":{"content":"x","content":"Hello"}}]}',
        b'{"content":"Hello","choices":[{"index":0,"delta":{"content":"Hello"}}]}',
        b'{"choices":[{"index":0,"delta":{"content" :"Hello"}}]}',
        b'{"choices":[{"index":0,"delta":{"content":"Hello"}}],"x":' + b'"x"' * SIZE_MAX,
    ],
)
def test_a_text_that_may_stand_elsewhere_is_no_pattern(event: bytes) -> None:
    """Keys that come twice, or are written in no usual way, are for the full reader."""
    body = {"choices": [{"index": 0, "delta": {"content": "Hello"}}]}
    assert pattern_of(event, body) is None


def test_nothing_hides_in_a_text() -> None:
    """A text that closes its own quotes is no text: the event says more than that."""
    found = learnt(chunk("Hello"))
    whole = orjson.dumps(chunk("SAID"))
    for text in (b'a","refusal":"b', b'a","content":"b', b"a\nb", b"\\", b'a"', b"\xff"):
        assert found.text(whole.replace(b"SAID", text)) is None


_TEXT = st.one_of(st.sampled_from(["", "a", " b", '"', "\\", "é", "🌊", "\n"]), st.text(max_size=9))
_FIELDS = st.one_of(
    st.just({}),
    st.just({}),
    st.just({}),
    st.fixed_dictionaries({"obfuscation": st.text(max_size=5)}),
    st.sampled_from(
        [
            {"delta": {"role": "assistant"}},
            {"delta": {"refusal": "no"}},
            {"delta": {"reasoning_content": "so"}},
            {"delta": {"thing": 7}},
            {"choice": {"index": 1}},
            {"choice": {"text": "again"}},
            {"choice": {"finish_reason": "stop"}},
            {"service_tier": "auto"},
            {"service_tier": "flex"},
            {"usage": {"prompt_tokens": 3, "completion_tokens": 9}},
            {"error": {"message": "broken"}},
            {"model": None},
            {"choices": []},
        ]
    ),
)


@st.composite
def _events(draw: st.DrawFn) -> bytes:
    kind = draw(st.integers(0, 19))
    if kind == 0:
        return draw(st.sampled_from([b": ping", b"data: [DONE]", b"data: {", b"event: x"]))
    body = chunk(draw(_TEXT), **draw(_FIELDS))
    if kind == 1:
        return b"data: " + json.dumps(body).encode()
    made = orjson.dumps(body)
    if kind == 2:
        made = made.replace(b'"content":"', b'"content":"\\ud800', 1)
    if kind == 3:
        made = made.replace(b'"content":"', b'"content":"x","content":"', 1)
    return b"data: " + made


def _all_of(events: list[bytes], tries: int) -> tuple[list[bytes], Reply, Any, int]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_reader, "TRIES", tries)
        meter = Meter(tokenizer_for("gpt-4o"), prompt_tokens=7)
        reader = StreamReader(ChunkSource(strip_usage=True), Decoder(), meter)
    passed = [reader.feed(each + b"\n\n") for each in events]
    return [*passed, reader.flush(), reader.tail], reader.reply, meter.final(), reader.events


@settings(max_examples=300, deadline=None)
@given(st.lists(_events(), max_size=30))
def test_a_stream_is_read_alike(events: list[bytes]) -> None:
    """With patterns and without: the same bytes pass, and the same is metered and learnt."""
    assert _all_of(events, stream_reader.TRIES) == _all_of(events, 0)


def test_a_stream_of_a_thousand_chunks_is_read_once_in_full() -> None:
    """All but the first few are read by the pattern: that is what it is for."""
    read = 0

    class Counted(ChunkSource):
        def read(self, data: dict[str, Any]) -> Any:
            nonlocal read
            read += 1
            return super().read(data)

    meter = Meter(tokenizer_for("gpt-4o"), prompt_tokens=7)
    reader = StreamReader(Counted(strip_usage=True), Decoder(), meter)
    for number in range(1000):
        reader.feed(b"data: " + orjson.dumps(chunk(f" {number}", obfuscation="x")) + b"\n\n")
    assert (read, reader.events) == (1, 1000)
