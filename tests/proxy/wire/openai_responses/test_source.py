"""Streamed responses: metered as they come, relayed untouched, ended so that clients hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.meter import Meter
from metering.tokenizer import tokenizer_for
from proxy.redaction import Redaction
from proxy.stream_reader import StreamReader
from proxy.wire import upstream_format
from proxy.wire.openai_responses.client import parse_request
from proxy.wire.openai_responses.source import ResponseSource

GOLDEN = Path(__file__).parents[1] / "golden" / "openai_responses"
STREAMS = sorted(path.stem for path in GOLDEN.glob("*.sse") if not path.stem.startswith("write_"))
TOKENIZER = tokenizer_for("gpt-4o")
REQUEST = parse_request(orjson.dumps({"model": "m", "input": "hi", "stream": True}))
PROMPT_TOKENS = 7
FAILED = ("failed", "error_nested", "error_flat")


def golden(name: str) -> tuple[bytes, dict[str, Any]]:
    expected = orjson.loads((GOLDEN / f"{name}.expected.json").read_bytes())
    return (GOLDEN / f"{name}.sse").read_bytes(), expected


def reader(meter: Meter, redaction: Redaction | None = None) -> StreamReader:
    spoken = upstream_format("openai_responses")
    return StreamReader(
        spoken.source(REQUEST, created_s=1),
        spoken.decoder(),
        meter,
        redaction=redaction or Redaction(()),
    )


def relayed(stream: bytes, size: int, redaction: Redaction | None = None) -> dict[str, Any]:
    """All that can be observed of a stream that comes in pieces of this size."""
    meter = Meter(TOKENIZER, PROMPT_TOKENS)
    read = reader(meter, redaction)
    out = [read.feed(stream[at : at + size]) for at in range(0, len(stream), size)]
    out += [read.flush(), read.tail]
    reply, usage = read.reply, meter.final()
    return {
        "bytes": b"".join(out),
        "units": dict(usage.units),
        "counted": dict(usage.counted),
        "suspect": usage.suspect,
        "finish_reason": reply.finish_reason,
        "model": reply.model,
        "tier": reply.service_tier,
        "error": reply.error,
        "finished": reply.is_finished,
    }


def visible(text: str) -> int:
    return len(TOKENIZER.encoding.encode(text))


def objects(stream: bytes) -> list[dict[str, Any]]:
    events = stream.decode().split("\n\n")
    return [orjson.loads(event.split("data: ", 1)[1]) for event in events if event]


@pytest.mark.parametrize("name", STREAMS)
def test_a_recorded_stream_is_metered(name: str) -> None:
    """Units, ending and our own count are what the stream says; its bytes pass untouched."""
    stream, expected = golden(name)

    found = relayed(stream, len(stream))

    assert found["bytes"] == stream
    assert found["finish_reason"] == expected.get("finish_reason")
    assert found["suspect"] == expected.get("suspect")
    assert found["finished"] == (name not in FAILED)
    if "units" in expected:
        assert found["units"] == expected["units"]
    if "error" in expected:
        assert found["error"]["code"] == expected["error"]
        assert found["error"]["message"]
    if "counted_output" in expected:
        assert sum(found["counted"].values()) - PROMPT_TOKENS == visible(expected["counted_output"])


@pytest.mark.parametrize("name", STREAMS)
def test_it_is_the_same_however_it_is_cut(name: str) -> None:
    """Pieces of one byte and of any other size give what the whole gives."""
    stream, _ = golden(name)
    whole = relayed(stream, len(stream))

    for size in (1, 2, 7, 64, 1000):
        assert relayed(stream, size) == whole


@pytest.mark.parametrize("name", ["custom_tool", "refusal", "error_nested"])
def test_it_is_the_same_wherever_it_is_cut_in_two(name: str) -> None:
    """Two pieces, cut at every byte, give what the whole gives."""
    stream, _ = golden(name)
    meter = Meter(TOKENIZER, PROMPT_TOKENS)
    whole = reader(meter)
    out = whole.feed(stream) + whole.tail
    counted = meter.final()

    for cut in range(1, len(stream)):
        meter = Meter(TOKENIZER, PROMPT_TOKENS)
        read = reader(meter)
        assert read.feed(stream[:cut]) + read.feed(stream[cut:]) + read.tail == out
        assert meter.final() == counted


@pytest.mark.parametrize("name", FAILED)
def test_a_credential_in_a_failure_is_hidden(name: str) -> None:
    """A failed response and an error event are no answers: our key may stand in them."""
    stream, _ = golden(name)

    found = relayed(stream, len(stream), Redaction(("sk-upstream-secret",)))

    assert b"sk-upstream-secret" not in found["bytes"]
    assert b"Half" in found["bytes"]


def test_the_end_waits_for_the_commit() -> None:
    """The event with the usage is withheld until the usage is recorded."""
    stream, _ = golden("plain")
    read = reader(Meter(TOKENIZER, PROMPT_TOKENS))

    passed = read.feed(stream)

    assert b"response.completed" not in passed
    assert read.tail.startswith(b"event: response.completed\n")


def test_labels_are_read() -> None:
    """The model is known from the first event, the tier is the one that served."""
    found = relayed(golden("plain")[0], 1 << 20)

    assert (found["model"], found["tier"]) == ("gpt-4.1-2025-04-14", "default")


def test_the_id_is_told_with_the_first_event() -> None:
    """Whoever keeps whose responses are kept knows it before the client can ask for it."""
    source = ResponseSource(REQUEST, created_s=1)

    read = source.read({"type": "response.created", "response": {"id": "resp_1", "model": "x"}})

    assert list(read.chunks) == [{"id": "resp_1", "model": "x", "choices": []}]


def test_what_breaks_off_is_counted() -> None:
    """A stream without its end is metered by the text that came."""
    stream, _ = golden("plain")
    cut = stream[: stream.index(b"event: response.output_text.done")]

    found = relayed(cut, 100)

    assert found["units"] == {
        "input_uncached": 7,
        "output_text": visible("Hello there, “world” 🙂."),
    }
    assert not found["finished"]


def test_thinking_counts_as_reasoning() -> None:
    """Summaries and raw thinking that broke off are reasoning, the answer is text."""
    for name in ("reasoning", "reasoning_text"):
        stream, _ = golden(name)
        counted = relayed(stream, 1 << 20)["counted"]
        assert counted["output_reasoning"] > 0
        assert counted["output_text"] == 1


@pytest.mark.parametrize("name", ["tools", "custom_tool", "reasoning", "refusal", "plain"])
def test_nothing_is_counted_twice(name: str) -> None:
    """What comes whole once more counts as much as the deltas alone."""
    stream, _ = golden(name)
    events = [b"event: " + each for each in stream.split(b"event: ")[1:]]
    again = (b".done\n", b"content_part.added", b"response.completed")
    deltas = b"".join(each for each in events if not any(mark in each for mark in again))

    assert relayed(deltas, 1 << 20)["counted"] == relayed(stream, 1 << 20)["counted"]


@pytest.mark.parametrize("name", ["tools", "custom_tool", "reasoning", "refusal", "plain"])
def test_what_never_came_in_deltas_counts_once(name: str) -> None:
    """A server that sends texts only when they are whole is metered as one that streams them."""
    stream, _ = golden(name)
    events = [b"event: " + each for each in stream.split(b"event: ")[1:]]
    wholes = b"".join(each for each in events if b".delta" not in each)

    assert relayed(wholes, 1 << 20)["counted"] == relayed(stream, 1 << 20)["counted"]


def test_an_empty_report_at_the_start_is_no_report() -> None:
    """Zeros in the first event would make a stream that breaks off there cost nothing."""
    source = ResponseSource(REQUEST, created_s=1)
    zeros = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}

    read = source.read({"type": "response.created", "response": {"id": "r", "usage": zeros}})

    assert read.usage is None


def test_a_soft_end_closes_what_is_open() -> None:
    """Ended in the midst of a text, the stream has every event that ends its items."""
    stream, _ = golden("plain")
    cut = stream[: stream.index(b"event: response.output_text.done")]
    read = reader(Meter(TOKENIZER, PROMPT_TOKENS))
    read.feed(cut)

    ends = objects(read.end_softly())

    assert [each["type"] for each in ends] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.incomplete",
    ]
    assert [each["sequence_number"] for each in ends] == [8, 9, 10, 11]
    last = ends[-1]["response"]
    assert last["id"] == objects(cut)[0]["response"]["id"]
    assert last["status"] == "incomplete"
    assert last["incomplete_details"] == {"reason": "max_output_tokens"}
    assert last["output"][0]["content"][0]["text"] == "Hello there, “world” 🙂."
    assert last["usage"]["total_tokens"] == 7 + visible("Hello there, “world” 🙂.")


@pytest.mark.parametrize("name", STREAMS)
def test_a_soft_end_is_whole_after_every_event(name: str) -> None:
    """Wherever it is ended, every item that began is ended once, and each number comes once."""
    events = [b"event: " + each for each in golden(name)[0].split(b"event: ")[1:]]
    if name in FAILED:
        events.pop()

    for count in range(len(events)):
        read = reader(Meter(TOKENIZER, PROMPT_TOKENS))
        passed = b"".join(read.feed(each) for each in events[:count])
        seen = objects(passed + read.end_softly())
        started = [each["output_index"] for each in seen if each["type"].endswith("item.added")]
        ended = [each["output_index"] for each in seen if each["type"].endswith("item.done")]
        assert sorted(started) == sorted(ended)
        assert [each["sequence_number"] for each in seen] == list(range(len(seen)))
        assert seen[0]["type"] == "response.created"
        assert seen[-1]["type"] == "response.incomplete"
        output = seen[-1]["response"]["output"]
        assert [item["id"] for item in output] == [
            each["item"]["id"] for each in seen if each["type"].endswith("item.done")
        ]


def test_after_its_end_there_is_nothing_to_end() -> None:
    """A stream that has told its end is not ended twice."""
    source = ResponseSource(REQUEST, created_s=1)
    source.read({"type": "response.completed", "response": {}})

    assert source.end_softly([0], {}) == b""


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
HALVES = st.sampled_from(["\ud83d", "\ude00", "a"])
TYPES = st.sampled_from(
    [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.refusal.delta",
        "response.content_part.done",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_part.done",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.custom_tool_call_input.delta",
        "response.audio.delta",
        "response.unheard_of.delta",
        "response.output_item.done",
        "error",
    ]
)
PART = st.fixed_dictionaries(
    {"type": st.sampled_from(["output_text", "refusal", "summary_text", "x"]) | JSON},
    optional={"text": JSON, "refusal": JSON, "annotations": JSON, "logprobs": JSON},
)
ITEM = st.fixed_dictionaries(
    {"type": st.sampled_from(["message", "reasoning", "function_call", "x"]) | JSON},
    optional={
        "id": JSON,
        "content": st.lists(PART, max_size=2) | JSON,
        "summary": JSON,
        "arguments": JSON,
        "action": JSON,
        "name": JSON,
    },
)
INDEX = st.integers(-1, 3) | JSON
EVENTS = st.fixed_dictionaries(
    {"type": TYPES | JSON},
    optional={
        "output_index": INDEX,
        "content_index": INDEX,
        "summary_index": INDEX,
        "sequence_number": JSON,
        "delta": HALVES | st.text(max_size=5) | JSON,
        "text": JSON,
        "arguments": JSON,
        "part": PART | JSON,
        "item": ITEM | JSON,
        "response": st.dictionaries(
            st.sampled_from(["id", "output", "usage", "error", "model", "incomplete_details"]), JSON
        )
        | JSON,
        "error": JSON,
        "message": JSON,
    },
)


@settings(max_examples=40)
@given(st.lists(EVENTS, max_size=6), st.sampled_from(["completed", "incomplete", "failed"]), JSON)
def test_nothing_an_upstream_sends_raises(
    events: list[dict[str, Any]], ending: str, response: Any
) -> None:
    """Whatever stands in the events, they are read, and the stream can be ended."""
    for end in (None, {"type": f"response.{ending}", "response": response}):
        meter = Meter(TOKENIZER, PROMPT_TOKENS)
        read = reader(meter)
        source = ResponseSource(REQUEST, created_s=1)
        for event in events if end is None else [*events, end]:
            source.read(event)
            read.feed(b"data: " + json.dumps(event).encode() + b"\n\n")
        ends = source.end_softly([0], {"output_text": 3})

        assert (ends == b"") == (end is not None)
        assert meter.final().units.get("output_text", 0) >= 0
