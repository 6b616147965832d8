"""Streams of Anthropic's events, written from chat completion chunks."""

from __future__ import annotations

import itertools
import json
from typing import Any

import orjson
import pytest
from format_samples import CREATED_S
from hypothesis import given, settings
from hypothesis import strategies as st
from message_samples import (
    GOLDEN,
    JSON,
    accumulated,
    call,
    chunk,
    events,
    golden,
    load,
    message_request,
    written,
)

from metering.meter import Meter
from metering.tokenizer import tokenizer_for
from proxy.passage import passage
from proxy.said import Said
from proxy.stream_reader import StreamReader
from proxy.wire.anthropic_messages import client

UNITS = {"input_uncached": 20, "output_text": 5}
STOP = ["END"]


@pytest.mark.parametrize("name", golden("chunks"))
def test_chunks_are_written_as_events(name: str) -> None:
    """Each golden list of chunks stands beside the stream that means the same."""
    recorded = load(name, "chunks")

    raw = written(recorded["chunks"], recorded["units"], stop_sequences=STOP)

    assert raw == (GOLDEN / f"{name}.sse").read_bytes()
    assert accumulated(raw)["usage"]["output_tokens"] == sum(
        count for unit, count in recorded["units"].items() if unit.startswith("output")
    )


def _reader(**fields: Any) -> StreamReader:
    found = passage("anthropic_messages", ("openai_chat",))
    assert found is not None
    request = message_request(stream=True, stop_sequences=STOP, **fields)
    return found.reader(request, Meter(tokenizer_for("gpt-4o"), 7), created_s=CREATED_S)


@pytest.mark.parametrize("name", golden("chunks"))
def test_any_cut_of_the_bytes_gives_the_same_stream(name: str) -> None:
    """From an OpenAI stream cut at every byte, and from one that comes byte by byte."""
    sent = b"".join(
        b"data: " + orjson.dumps(each) + b"\n\n" for each in load(name, "chunks")["chunks"]
    )
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    sent += b"data: " + orjson.dumps({"choices": [], "usage": usage}) + b"\n\ndata: [DONE]\n\n"
    whole = _reader()
    expected = whole.feed(sent) + whole.tail

    assert accumulated(expected)["usage"]["input_tokens"] == 7
    for cuts in [[at] for at in range(len(sent))] + [list(range(len(sent)))]:
        reader = _reader()
        edges = [0, *cuts, len(sent)]
        passed = [reader.feed(sent[a:b]) for a, b in itertools.pairwise(edges)]
        assert b"".join([*passed, reader.tail]) == expected


def test_the_end_is_withheld() -> None:
    """Nothing that says the answer is whole goes out before its usage is recorded."""
    reader = _reader()

    passed = reader.feed(
        b"data: " + orjson.dumps(chunk({"content": "Hi"}, "stop")) + b"\n\ndata: [DONE]\n\n"
    )

    assert [each["type"] for each in events(passed)][-1] == "content_block_stop"
    assert [each["type"] for each in events(reader.tail)] == ["message_delta", "message_stop"]


def test_a_stream_that_we_end_is_whole() -> None:
    """Where a cap ends it the client sees `max_tokens`, and the usage that is billed."""
    reader = _reader()
    passed = reader.feed(b"data: " + orjson.dumps(chunk({"content": "One two"})) + b"\n\n")

    message = accumulated(passed + reader.end_softly())

    assert message["stop_reason"] == "max_tokens"
    assert message["content"] == [{"type": "text", "text": "One two"}]
    assert message["usage"]["output_tokens"] == 2


def test_a_stream_of_nothing_is_a_message() -> None:
    """An answer that ended before its first chunk has a start all the same."""
    assert accumulated(written([], UNITS))["content"] == []


def test_a_failed_answer_is_not_ended() -> None:
    """What an upstream says of its failure is told by the error event, which others write."""
    writer = client.writer(message_request(stream=True))

    assert writer.write({"error": {"message": "no", "type": "api_error"}}) == b""


def test_each_chunk_goes_out_at_once() -> None:
    """Text, thinking and arguments are told with the chunk that brought them."""
    writer = client.writer(message_request(stream=True))
    told = [
        [each["type"] for each in events(writer.write(part))]
        for part in (
            chunk({"role": "assistant"}),
            chunk({"content": "x"}),
            chunk({"content": "y"}),
            chunk(call(0, "{", id="a", name="f")),
            chunk(call(0, "}")),
            chunk(call(1, "{}", id="b", name="f")),
        )
    ]

    start, delta, stop = [f"content_block_{each}" for each in ("start", "delta", "stop")]
    assert told == [
        ["message_start"],
        [start, delta],
        [delta],
        [stop, start, delta],
        [delta],
        [stop, start, delta],
    ]


def test_text_after_calls_comes_after_them() -> None:
    """Calls that wait are told before the text that came after them."""
    raw = written(
        [
            chunk(call(0, "{", id="a", name="f")),
            chunk(call(1, "{}", id="b", name="g")),
            chunk({"content": "Done."}),
            chunk(finish="tool_calls"),
        ],
        UNITS,
    )

    begun = [each["content_block"] for each in events(raw) if "content_block" in each]
    assert [block.get("name", "text") for block in begun] == ["f", "g", "text"]


def test_words_amid_a_call_follow_it() -> None:
    """A block that has ended cannot go on, so what is said between the pieces of a call waits."""
    raw = written(
        [
            chunk(call(0, "{", id="a", name="f")),
            chunk({"content": "x"}),
            chunk({"reasoning_content": "y"}),
            chunk({"content": "z", **call(0, "}")}),
            chunk(finish="tool_calls"),
        ],
        UNITS,
    )

    told = accumulated(raw)["content"]
    assert [block["type"] for block in told] == ["tool_use", "text", "thinking", "text"]
    assert told[0]["input"] == {}
    assert [told[1]["text"], told[3]["text"]] == ["x", "z"]
    opened: set[int] = set()
    for each in events(raw):
        if each["type"] == "content_block_start":
            opened.add(each["index"])
        if each["type"] == "content_block_delta":
            assert each["index"] in opened
        if each["type"] == "content_block_stop":
            opened.remove(each["index"])


def test_other_choices_are_no_part_of_a_message() -> None:
    """A message is one answer: a second choice of a server is not mixed into it."""
    second = {"choices": [{"index": 1, "delta": {"content": "no"}, "finish_reason": "length"}]}

    message = accumulated(written([chunk({"content": "yes"}), second, chunk(finish="stop")], UNITS))

    assert message["content"] == [{"type": "text", "text": "yes"}]
    assert message["stop_reason"] == "end_turn"


THOUGHTS = {
    "with_the_text": [
        {"reasoning_content": "Hm.", "thinking_blocks": [{"type": "thinking", "thinking": "Hm."}]},
        {"thinking_blocks": [{"type": "thinking", "signature": "s"}]},
    ],
    "repeated_whole": [
        {"reasoning_content": "H"},
        {"reasoning_content": "m."},
        {"thinking_blocks": [{"type": "thinking", "thinking": "Hm.", "signature": "s"}]},
    ],
    "blocks_only": [
        {"thinking_blocks": [{"type": "thinking", "thinking": "H"}]},
        {"thinking_blocks": [{"type": "thinking", "thinking": "m.", "signature": "s"}]},
    ],
}


@pytest.mark.parametrize("name", THOUGHTS)
def test_a_thought_is_told_once(name: str) -> None:
    """However a source tells it: as text, as pieces of blocks, or as text and then the block."""
    message = accumulated(written([chunk(delta) for delta in THOUGHTS[name]], UNITS))

    assert message["content"] == [{"type": "thinking", "thinking": "Hm.", "signature": "s"}]


@pytest.mark.parametrize("name", golden("whole"))
def test_a_whole_answer_may_come_as_one_chunk(name: str) -> None:
    """For an upstream that knows no streams; each thought keeps the signature that is its own."""
    recorded = load(name, "whole")
    answer = orjson.dumps(recorded["completion"])
    found = passage("anthropic_messages", ("openai_chat",))
    assert found is not None

    request = message_request(stream=True, stop_sequences=STOP)
    meter = Meter(tokenizer_for("gpt-4o"), 7)
    made = found.read_reply(answer, request, meter, created_s=CREATED_S)

    assert made is not None
    assert accumulated(made.body + made.tail)["content"] == recorded["message"]["content"]


def test_each_thought_keeps_its_own_signature() -> None:
    """Two signed thoughts in one chunk are two blocks, whatever their text is joined to beside."""
    blocks = [{"type": "thinking", "thinking": each, "signature": each * 2} for each in "ab"]

    message = accumulated(
        written([chunk({"reasoning_content": "ab", "thinking_blocks": blocks})], UNITS)
    )

    assert message["content"] == blocks


def test_half_a_pair_is_told() -> None:
    """Text cut between the halves of a surrogate pair ends no stream."""
    raw = written([chunk({"content": "\ud83d"})], UNITS)

    found = json.loads(raw.split(b"data: ")[3].partition(b"\n")[0])
    assert found["delta"]["text"] == "\ud83d"


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@st.composite
def _answers(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A message of a chat completion, and its deltas, cut wherever."""

    def cut(text: str) -> list[str]:
        at = sorted(draw(st.lists(st.integers(0, len(text)), max_size=3)))
        return [text[a:b] for a, b in zip([0, *at], [*at, len(text)], strict=True)]

    message: dict[str, Any] = {}
    deltas: list[dict[str, Any]] = []
    for name in ("reasoning_content", "content"):
        message[name] = draw(WORDS)
        deltas += [{name: part} for part in cut(message[name])]
    calls = []
    pieces: list[list[dict[str, Any]]] = []
    for at in range(draw(st.integers(0, 3))):
        arguments = json.dumps(draw(st.dictionaries(WORDS, WORDS, max_size=2)))
        function = {"name": f"f{at}", "arguments": arguments}
        calls.append({"id": f"c{at}", "type": "function", "function": function})
        first = call(at, id=f"c{at}", name=f"f{at}")
        pieces.append([first, *[call(at, part) for part in cut(arguments)]])
    while any(pieces):  # in turns, one after the other, or anything between
        deltas.append(draw(st.sampled_from([each for each in pieces if each])).pop(0))
    return {**message, "tool_calls": calls}, deltas


@given(_answers())
def test_a_stream_tells_what_the_whole_tells(
    answer: tuple[dict[str, Any], list[dict[str, Any]]],
) -> None:
    """However an answer is cut into chunks, the message that clients put together is the same."""
    message, deltas = answer
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    completion = {"id": "chatcmpl-1", "model": "gpt-4o", "choices": [choice]}

    streamed = accumulated(written([*map(chunk, deltas), chunk(finish="stop")], UNITS))

    # calls begin in the order in which their first pieces come
    whole = client.write_whole(completion, UNITS, message_request())
    by_id = sorted(streamed["content"], key=lambda block: block.get("id", ""))
    assert {**streamed, "content": by_id} == whole


@settings(max_examples=50)  # JSON is slow to make up
@given(st.lists(JSON | st.dictionaries(st.sampled_from(["choices", "id", "model", "error"]), JSON)))
def test_chunks_of_anything_make_a_stream(found: list[Any]) -> None:
    """Whatever stands in a chunk, what goes out is events that a client can put together."""
    chunks = [each if isinstance(each, dict) else chunk(each) for each in found]

    assert accumulated(written(chunks, UNITS))["usage"]["input_tokens"] == 20


FIELDS = st.sampled_from(
    ["content", "refusal", "reasoning_content", "thinking_blocks", "tool_calls", "function_call"]
)
INNER = st.dictionaries(
    st.sampled_from(["type", "thinking", "signature", "data", "index", "id", "function"]),
    JSON | st.just("thinking") | st.just("redacted_thinking") | st.just({"name": "f"}),
)


@settings(max_examples=50)  # JSON is slow to make up
@given(st.lists(st.dictionaries(FIELDS, JSON | INNER | st.lists(INNER, max_size=2)), max_size=5))
def test_deltas_of_anything_make_a_stream(deltas: list[Any]) -> None:
    """The same for what stands in the fields that are read."""
    raw = written([chunk(each) for each in deltas], UNITS)

    kinds = [each["type"] for each in events(raw)]
    assert kinds.count("content_block_start") == kinds.count("content_block_stop")
    assert kinds[0] == "message_start" and kinds[-2:] == ["message_delta", "message_stop"]


def test_a_message_that_was_begun_elsewhere() -> None:
    """Its block goes on where it is open; the next one has the next number."""
    request = client.parse_request(
        b'{"model":"m","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"hi"}]}'
    )
    begun = Said()
    begun.message_id, begun.block_index, begun.block = "msg_1", 2, "thinking"
    writer = client.resumed(request, begun)

    raw = writer.write({"choices": [{"index": 0, "delta": {"content": "Hello"}}]})

    events = [orjson.loads(line[6:]) for line in raw.split(b"\n") if line.startswith(b"data: ")]
    assert [(each["type"], each["index"]) for each in events] == [
        ("content_block_stop", 2),
        ("content_block_start", 3),
        ("content_block_delta", 3),
    ]
