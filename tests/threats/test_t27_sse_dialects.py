"""T-27: every way to write an event stream: the same bytes to the client, the same text to us."""

from __future__ import annotations

from itertools import pairwise

import orjson
import pytest
from fixtures_door import RunningDoor
from fixtures_upstream import (
    LAST_CHUNK,
    Act,
    ScriptedUpstream,
    chunk,
    stream_head,
)
from format_samples import chat_reader, read_reply
from hypothesis import example, given
from hypothesis import strategies as st

from metering.meter import Meter
from metering.tokenizer import tokenizer_for
from proxy.sse import Decoder


def said(text: str, **more: object) -> str:
    chosen = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}], **more}
    return orjson.dumps(chosen).decode()


HALF = '{"choices":[{"delta":{"content":"\\u%s"}}]}'
STOP = '{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'
TWO_LINES = '{"choices":[{"index":0,\ndata: "delta":{"content":"Hello world"}}]}'
INNER = 'a\n\ndata: {"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n'
WIDE = "naïve 漢字 🙂 \u2028 \u2029 \x85 end"

DIALECTS: dict[str, tuple[str, str]] = {
    "lf": (f"data: {said('Hello world')}\n\ndata: {STOP}\n\ndata: [DONE]\n\n", "Hello world"),
    "crlf": (
        f"data: {said('Hello world')}\r\n\r\ndata: {STOP}\r\n\r\ndata: [DONE]\r\n\r\n",
        "Hello world",
    ),
    "cr": (f"data: {said('Hello world')}\r\rdata: {STOP}\r\rdata: [DONE]\r\r", "Hello world"),
    "no_space": (f"data:{said('Hello world')}\n\ndata:{STOP}\n\ndata:[DONE]\n\n", "Hello world"),
    "bom": (f"\ufeffdata: {said('Hello world')}\n\ndata: {STOP}\n\n", "Hello world"),
    "two_data_lines": (f"data: {TWO_LINES}\n\ndata: {STOP}\n\ndata: [DONE]\n\n", "Hello world"),
    "comments": (
        f": C\n\n:\n\ndata: {said('Hello world')}\n: c\n\ndata: {STOP}\n\ndata: [DONE]\n\n",
        "Hello world",
    ),
    "other_fields": (
        f"event: message\nid: 7\nretry: 10\ndata: {said('Hello world')}\n\ndata: {STOP}\n\n",
        "Hello world",
    ),
    "no_final_blank_line": (
        f"data: {said('Hello world')}\n\ndata: {STOP}\n\ndata: [DONE]",
        "Hello world",
    ),
    "blank_lines_galore": (
        f"\n\n\n\ndata: {said('Hello world')}\n\n\n\n\ndata: {STOP}\n\n\ndata: [DONE]\n\n",
        "Hello world",
    ),
    "line_ends_of_unicode_in_text": (
        f"data: {said(WIDE)}\n\ndata: {STOP}\n\ndata: [DONE]\n\n",
        WIDE,
    ),
    "an_event_in_the_text": (f"data: {said(INNER)}\n\ndata: {STOP}\n\ndata: [DONE]\n\n", INNER),
    "spaces_around_done": (
        f"data: {said('Hello world')}\n\ndata: {STOP}\n\ndata:   [DONE]  \n\n",
        "Hello world",
    ),
    "half_a_pair_per_event": (
        f"data: {HALF % 'd83d'}\n\ndata: {HALF % 'de42'}\n\ndata: {STOP}\n\ndata: [DONE]\n\n",
        "🙂",
    ),
}


def read(stream: bytes, cuts: list[int]) -> tuple[bytes, int, bool]:
    """What went to the client in all, the tokens counted, whether it had ended."""
    meter = Meter(tokenizer_for("gpt-4o"), 1)
    reader = chat_reader(meter, strip_usage=False)
    edges = sorted({0, len(stream), *(cut for cut in cuts if 0 < cut < len(stream))})
    relayed = b"".join(reader.feed(stream[start:end]) for start, end in pairwise(edges))
    return relayed + reader.flush() + reader.tail, meter.output_tokens, reader.reply.is_finished


@pytest.mark.parametrize("name", DIALECTS)
def test_t27_cut_at_every_byte(name: str) -> None:
    """Wherever a stream is cut in two, and cut into single bytes, it is read alike."""
    text, content = DIALECTS[name]
    stream = text.encode()
    expected = (stream, len(tokenizer_for("gpt-4o").encoding.encode_ordinary(content)), True)

    assert read(stream, []) == expected
    assert read(stream, list(range(len(stream)))) == expected
    for cut in range(1, len(stream)):
        assert read(stream, [cut]) == expected


@pytest.mark.parametrize("name", DIALECTS)
async def test_t27_the_client_gets_the_same_bytes(
    door: RunningDoor, upstream: ScriptedUpstream, name: str
) -> None:
    """Over real sockets, in chunks of seven bytes: identical, served, counted."""
    text, content = DIALECTS[name]
    stream = text.encode()
    pieces = [chunk(stream[at : at + 7]) for at in range(0, len(stream), 7)]
    upstream.scripts = [[stream_head(), *pieces, LAST_CHUNK]]

    answer = await door.chat(stream=True)

    assert await answer.read() == stream
    event = door.events[0]
    tokens = len(tokenizer_for("gpt-4o").encoding.encode_ordinary(content))
    assert (event.status, event.counted["output_text"]) == ("success", tokens)
    assert event.usage_suspect is None


async def test_t27_done_with_a_hanging_connection(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """`[DONE]` is the end: a connection that stays open after it is not waited for."""
    text, _ = DIALECTS["crlf"]
    upstream.scripts = [[stream_head(), chunk(text.encode()), Act.HANG]]

    answer = await door.chat(stream=True)

    assert await answer.read() == text.encode()
    assert door.events[0].status == "success"


WORDS = st.sampled_from(
    [
        b"data: ",
        b"data:",
        b"[DONE]",
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b": c",
        b"\xef\xbb\xbf",
        b"\xff\x00",
        b'{"choices":[{"delta":{"content":"a b"}}]}',
        b'{"choices":[{"index":9e99,"delta":[],"finish_reason":"x"}],"usage":{"prompt_tokens":-1}}',
        b'{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"{"}},7,null]}}]}',
        b'{"error":{"message":"x"}}',
        b"[[[[[[[[",
        b'"\\ud800"',
        b"NaN",
    ]
)


@given(
    st.lists(st.one_of(WORDS, st.binary(max_size=12)), max_size=30),
    st.lists(st.integers(0, 400), max_size=8),
    st.booleans(),
)
@example([b"data: [DONE]", b"\n\n", b"x\n\n"], [14], True)
def test_t27_any_bytes_cut_anyhow(parts: list[bytes], cuts: list[int], strips: bool) -> None:
    """Arbitrary bytes never raise, and are relayed and read the same however they are cut."""
    stream = b"".join(parts)

    assert read(stream, cuts) == read(stream, [])
    reader = chat_reader(Meter(tokenizer_for("gpt-4o"), 1), strip_usage=strips)
    passed = reader.feed(stream) + reader.flush() + reader.tail
    assert len(passed) <= len(stream)
    assert strips or passed == stream


@given(
    st.lists(st.one_of(WORDS, st.binary(min_size=1, max_size=60)), max_size=30),
    st.lists(st.integers(0, 900), max_size=10),
    st.integers(1, 60),
)
def test_t27_the_bound_of_an_event_is_kept_however_it_is_cut(
    parts: list[bytes], cuts: list[int], most: int
) -> None:
    """What is too long is too long in one piece and in many, and no more than the bound is kept."""
    stream = b"".join(parts)

    def events(edges: list[int]) -> tuple[bytes, list[bytes], int]:
        decoder, got = Decoder(most), []
        for start, end in pairwise(edges):
            got += decoder.feed(stream[start:end])
            assert decoder._size <= most + 3
        rest = decoder.flush()
        got += [rest] if rest is not None else []
        read = [event.data for event in got if event.data is not None]
        opaque = sum(len(event.raw) for event in got if event.is_opaque)
        return b"".join(event.raw for event in got), read, opaque

    whole = events([0, len(stream)])
    cut = events(sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))}))

    assert cut[:2] == whole[:2]
    assert whole[0] == stream


NAMES = st.sampled_from(
    [
        *("choices", "delta", "message", "content", "reasoning", "tool_calls", "function", "index"),
        *("arguments", "finish_reason", "usage", "prompt_tokens", "completion_tokens", "error"),
        *("total_tokens", "prompt_tokens_details", "cached_tokens", "model", "service_tier"),
    ]
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.floats(), st.text(max_size=8)
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=5)),
    max_leaves=20,
)


@given(st.dictionaries(NAMES, ANYTHING, max_size=6), st.lists(ANYTHING, max_size=3))
def test_t27_any_json_in_any_place(answer: dict[str, object], choices: list[object]) -> None:
    """Whatever stands where, in a stream or a whole body: no error, and counts that can be."""
    raw = orjson.dumps({**answer, "choices": choices})
    streamed, whole = Meter(tokenizer_for("gpt-4o"), 3), Meter(tokenizer_for("gpt-4o"), 3)

    chat_reader(streamed, strip_usage=True).feed(b"data: " + raw + b"\n\n")
    assert read_reply(raw, whole) is not None

    for meter in (streamed, whole):
        assert all(type(n) is int and 0 < n <= 10**9 for n in meter.final().units.values())
