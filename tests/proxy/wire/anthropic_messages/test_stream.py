"""Streamed messages: as chunks for others, relayed for our own, metered in both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.meter import Meter
from metering.tokenizer import tokenizer_for
from metering.usage import input_total, output_total
from proxy.chat import ChatRequest
from proxy.passage import Passage
from proxy.redaction import NOTHING, Redaction
from proxy.stream_reader import StreamReader
from proxy.wire import client_format, upstream_format
from proxy.wire.anthropic_messages.stream import MessageSource

GOLDEN = Path(__file__).parents[1] / "golden" / "anthropic_messages" / "upstream"
CHAT = client_format("openai_chat")
MESSAGES = upstream_format("anthropic_messages")
ASKED = CHAT.parse_request(
    b'{"model": "m", "stream": true, "stream_options": {"include_usage": true},'
    b' "messages": [{"role": "user", "content": "hi"}]}'
)
NATIVE = replace(ASKED, format="anthropic_messages", as_chat=ASKED.body)
CREATED_S = 1_700_000_000
STREAMS = sorted(GOLDEN.glob("stream_*.sse"))


def meter() -> Meter:
    return Meter(tokenizer_for("claude-haiku-4-5"), 7)


def reader(used: Meter, *, relays: bool, redaction: Redaction = NOTHING) -> StreamReader:
    # relaying asks nothing of the client's side, so that any will do
    way = Passage(CHAT, MESSAGES, "anthropic_messages", is_same=relays)
    request: ChatRequest = NATIVE if relays else ASKED
    return way.reader(request, used, created_s=CREATED_S, redaction=redaction)


def objects(raw: bytes) -> list[Any]:
    """What stands in the events of a stream of chunks."""
    parts = [part.removeprefix(b"data: ") for part in raw.split(b"\n\n") if part]
    return [part.decode() if part == b"[DONE]" else orjson.loads(part) for part in parts]


def put_together(raw: bytes) -> dict[str, Any]:
    """The completion that a client makes of a stream of chunks, with its usage."""
    *chunks, done = objects(raw)
    assert done == "[DONE]"
    usage = chunks.pop()
    assert usage["choices"] == []
    message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
    choice: dict[str, Any] = {"index": 0, "logprobs": None}
    for chunk in chunks:
        [part] = chunk["choices"]
        choice |= {name: part[name] for name in ("finish_reason", "stop_sequence") if name in part}
        _add(message, part["delta"])
    if not message["content"] and "tool_calls" in message:
        message["content"] = None
    shared = {name: value for name, value in chunks[0].items() if name != "choices"}
    return {
        **shared,
        "object": "chat.completion",
        "choices": [{**choice, "message": message}],
        "usage": usage["usage"],
    }


def _add(message: dict[str, Any], delta: dict[str, Any]) -> None:
    for name in ("content", "reasoning_content"):
        if name in delta:
            message[name] = (message.get(name) or "") + delta[name]
    if "thinking_blocks" in delta:
        message["thinking_blocks"] = [
            *message.get("thinking_blocks", []),
            *delta["thinking_blocks"],
        ]
    for piece in delta.get("tool_calls", []):
        calls = message.setdefault("tool_calls", [])
        if piece["index"] == len(calls):
            calls.append({name: value for name, value in piece.items() if name != "index"})
        else:
            calls[piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.stem)
def test_a_stream_says_what_the_whole_answer_says(path: Path) -> None:
    """Put together from its chunks it is the completion of the whole answer, and billed alike."""
    name = path.name.replace("stream_", "answer_").replace(".sse", ".json")
    golden = orjson.loads(path.with_name(name).read_bytes())
    translating = reader(used := meter(), relays=False)

    told = put_together(translating.feed(path.read_bytes()) + translating.tail)

    usage = told.pop("usage")
    assert told == golden["completion"]
    assert used.final().units == golden["units"]
    assert used.final().source == "provider"
    assert used.final().suspect is None
    assert usage["prompt_tokens"] == input_total(golden["units"])
    assert usage["completion_tokens"] == output_total(golden["units"])
    assert translating.reply.is_finished
    assert translating.reply.model == golden["answer"]["model"]


@pytest.mark.parametrize("relays", [True, False], ids=["relayed", "translated"])
@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.sse")), ids=lambda path: path.stem)
def test_cut_at_every_byte_it_is_the_same(path: Path, relays: bool) -> None:
    """However the bytes come, the client gets the same, and pays the same."""
    raw = path.read_bytes()
    whole = reader(whole_meter := meter(), relays=relays)
    expected = whole.feed(raw), whole.tail

    for cut in range(1, len(raw)):
        halves = reader(used := meter(), relays=relays)
        assert (halves.feed(raw[:cut]) + halves.feed(raw[cut:]), halves.tail) == expected
        assert used.final() == whole_meter.final()


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.sse")), ids=lambda path: path.stem)
def test_relayed_bytes_are_untouched(path: Path) -> None:
    """Where the client speaks the same, nothing is changed; the last event waits for the bill."""
    raw = path.read_bytes()
    relaying = reader(meter(), relays=True)

    relayed = relaying.feed(raw)

    assert relayed + relaying.tail == raw
    assert relaying.tail in (b'event: message_stop\ndata: {"type":"message_stop"}\n\n', b"")


def test_an_error_in_the_middle_is_a_failure() -> None:
    """It ends no answer well, is told by its words, and what was said is billed by our count."""
    raw = (GOLDEN / "broken_stream.sse").read_bytes()
    translating = reader(used := meter(), relays=False)

    told = objects(translating.feed(raw))

    assert not translating.reply.is_finished
    assert translating.reply.error == {
        "message": "Overloaded",
        "type": "service_unavailable_error",
        "code": "server_is_overloaded",
    }
    assert [each["choices"][0]["delta"].get("content") for each in told] == [
        "",
        "One, two, three, four",
    ]
    final = used.final()
    assert final.units["input_uncached"] == 12
    assert final.units["output_text"] > 1
    assert final.source == "mixed"


def test_an_error_loses_our_credential_on_its_way() -> None:
    """What is no part of an answer is searched for what may not be told."""
    key = "sk-ant-canary-31337"
    relaying = reader(meter(), relays=True, redaction=Redaction([key]))
    error = b'event: error\ndata: {"type":"error","error":{"type":"x","message":"no %s"}}\n\n'
    unknown = b'data: {"type":"something_new","x":"%s"}\n\n'
    delta = b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"%s"}}'
    text = b"data: " + delta + b"\n\n"
    sent = key.encode()

    assert relaying.feed(error % sent) == error % b"***"
    assert relaying.feed(unknown % sent) == unknown % b"***"
    assert relaying.feed(text % sent) == text % sent


def test_tools_of_the_provider_are_metered_and_not_passed_on() -> None:
    """Their calls are output, and nothing that a client of another format could answer."""
    raw = (GOLDEN / "server_tools_stream.sse").read_bytes()
    translating = reader(used := meter(), relays=False)
    relaying = reader(native := meter(), relays=True)
    relaying.feed(raw)

    told = put_together(translating.feed(raw) + translating.tail)

    assert told["choices"][0]["message"]["content"] == "It is sunny."
    assert "tool_calls" not in told["choices"][0]["message"]
    assert used.final().units == {"input_uncached": 10_682, "output_text": 510, "web_search": 1}
    assert used.final().suspect is None
    assert output_total(native.final().counted) > output_total(used.final().counted)


def test_a_search_is_billed_to_whoever_leaves_before_the_end() -> None:
    """The usage that tells of it comes last; the call that began it has been seen before."""
    raw = (GOLDEN / "server_tools_stream.sse").read_bytes()
    relaying = reader(native := meter(), relays=True)

    relaying.feed(raw[: raw.index(b"event: message_delta")])

    assert native.final().units["web_search"] == 1


def test_a_stream_that_breaks_off_is_billed_by_what_was_seen() -> None:
    """The placeholder of the start is no bill for what came after it; the prompt is."""
    raw = (GOLDEN / "stream_plain.sse").read_bytes()
    relaying = reader(used := meter(), relays=True)

    relaying.feed(raw[: raw.index(b"event: message_delta")])

    assert not relaying.reply.is_finished
    final = used.final()
    assert final.units["input_uncached"] == 25
    assert final.units["output_text"] == final.counted["output_text"] > 1


def test_a_soft_end_is_a_whole_answer() -> None:
    """What is open is closed, and the model seems to have run out of tokens."""
    raw = (GOLDEN / "stream_plain.sse").read_bytes()
    relaying = reader(meter(), relays=True)
    sent = relaying.feed(raw[: raw.index(b"event: content_block_stop")])

    ended = sent + relaying.end_softly()

    again = reader(used := meter(), relays=False)
    told = put_together(again.feed(ended) + again.tail)
    assert told["choices"][0]["finish_reason"] == "length"
    assert told["choices"][0]["message"]["content"] == "Grüße, 世界 👋"
    assert used.final().units["input_uncached"] == 25
    assert used.final().units["output_text"] > 1
    assert ended.count(b"event: content_block_stop") == 1


def test_a_soft_end_before_the_start_is_one_too() -> None:
    """A client that has seen nothing yet gets a message, so that it knows what ends."""
    source = MESSAGES.source(NATIVE, created_s=CREATED_S)

    raw = source.end_softly([0], {"input_uncached": 3})

    assert [line for line in raw.decode().splitlines() if line.startswith("event")] == [
        "event: message_start",
        "event: message_delta",
        "event: message_stop",
    ]


def test_after_the_end_of_the_choice_only_the_stop_is_left() -> None:
    """The reason was told already."""
    raw = (GOLDEN / "stream_plain.sse").read_bytes()
    relaying = reader(meter(), relays=True)
    relaying.feed(raw)

    assert relaying.end_softly() == b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


def test_a_server_that_does_not_stream_arguments() -> None:
    """Some put the whole input into the start of the block."""
    source = MESSAGES.source(ASKED, created_s=CREATED_S)
    block = {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}

    source.read({"type": "content_block_start", "index": 0, "content_block": block})
    [chunk] = source.read({"type": "content_block_stop", "index": 0}).chunks

    assert chunk["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"] == '{"a":1}'


def test_endless_blocks_are_not_kept() -> None:
    """A server that opens blocks without end is given memory for some."""
    source = MessageSource(ASKED, created_s=CREATED_S)
    for index in range(5000):
        source.read(
            {"type": "content_block_start", "index": index, "content_block": {"type": "text"}}
        )

    assert source.end_softly([], {}).count(b"content_block_stop") == 2 * 32


def test_an_endless_thought_is_not_kept() -> None:
    """It goes on as it comes, and is not given out whole once more."""
    source = MessageSource(ASKED, created_s=CREATED_S)
    start = {"type": "thinking", "thinking": "", "signature": "s"}
    delta = {"type": "thinking_delta", "thinking": "x" * 600_000}
    source.read({"type": "content_block_start", "index": 0, "content_block": start})

    said = [
        source.read({"type": "content_block_delta", "index": 0, "delta": delta}) for _ in range(2)
    ]

    assert all(each.chunks for each in said)
    assert source.read({"type": "content_block_stop", "index": 0}).chunks == ()


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.sampled_from(
        [
            "text",
            "thinking",
            "tool_use",
            "server_tool_use",
            "text_delta",
            "thinking_delta",
            "signature_delta",
            "input_json_delta",
            "compaction_delta",
            "end_turn",
        ]
    ),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "text",
                    "thinking",
                    "signature",
                    "partial_json",
                    "id",
                    "name",
                    "input",
                    "stop_reason",
                    "usage",
                    "input_tokens",
                    "output_tokens",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)
KINDS = [
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
    "error",
    "ping",
    "new",
]
events = st.fixed_dictionaries(
    {"type": st.sampled_from(KINDS) | json_values},
    optional={
        "index": st.integers(0, 2) | json_values,
        "message": json_values,
        "content_block": json_values,
        "delta": json_values,
        "usage": json_values,
        "error": json_values,
    },
)


@given(st.lists(events, max_size=8), st.booleans())
def test_hostile_events_break_nothing(said: list[dict[str, Any]], relays: bool) -> None:
    """Upstreams are untrusted: whatever they say is metered and relayed, or written anew."""
    raw = b"".join(b"data: " + orjson.dumps(each) + b"\n\n" for each in said)
    reading = reader(used := meter(), relays=relays)

    told = reading.feed(raw) + reading.end_softly()

    assert all(type(tokens) is int and tokens >= 0 for tokens in used.final().units.values())
    if relays:
        assert told.endswith(b'event: message_stop\ndata: {"type":"message_stop"}\n\n')
    else:
        assert objects(told)[-1] == "[DONE]"


@pytest.mark.parametrize(
    "told",
    [
        {"type": "message_start", "message": {"content": [{"type": "text", "text": "w" * 400}]}},
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "odd_tool_result", "content": "w" * 400},
        },
        {"type": "content_block_delta", "index": 0, "delta": {"type": "odd", "said": "w" * 400}},
        {"type": "odd", "said": "w" * 400},
    ],
)
def test_what_is_relayed_and_not_known_is_not_free(told: dict[str, Any]) -> None:
    """Where the client gets it all the same; one of another format does not."""
    relayed, written = meter(), meter()
    raw = b"data: " + orjson.dumps(told) + b"\n\n"

    reader(relayed, relays=True).feed(raw)
    reader(written, relays=False).feed(raw)

    assert relayed.output_tokens in {100, 101}  # with the name of a type
    assert written.output_tokens == 0
