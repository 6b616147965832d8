"""Bedrock's answers as chat completions: golden streams cut at every byte, and whole ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from bedrock_frames import frame, packed
from botocore.parsers import create_parser
from botocore.session import Session
from format_samples import CREATED_S, asked
from hypothesis import given
from hypothesis import strategies as st

from metering.meter import Meter
from metering.tokenizer import tokenizer_for
from proxy.reply import Reply, read_object
from proxy.stream_reader import StreamReader
from proxy.wire.bedrock_converse.answers import finish_reason, read_whole, source
from proxy.wire.bedrock_converse.frames import FrameDecoder
from proxy.wire.bedrock_converse.usage import read_usage
from proxy.wire.openai_chat.client import writer

GOLDEN = Path(__file__).parents[1] / "golden" / "bedrock_converse"
STREAMS = sorted((GOLDEN / "streams").glob("*.json"))
ANSWERS = sorted((GOLDEN / "answers").glob("*.json"))
REQUEST = asked(stream=True, stream_options={"include_usage": True})


def meter() -> Meter:
    return Meter(tokenizer_for("gpt-4o"), 7)


def relayed(pieces: list[bytes]) -> tuple[StreamReader, bytes, Meter]:
    """A stream read in these pieces, as an OpenAI client gets it."""
    counted = meter()
    reader = StreamReader(
        source(REQUEST, created_s=CREATED_S), FrameDecoder(), counted, writer=writer(REQUEST)
    )
    told = b"".join([reader.feed(piece) for piece in pieces])
    told += reader.flush()
    return reader, told + reader.tail, counted


def merged(told: bytes) -> dict[str, Any]:
    """What a client puts together from chunks, as OpenAI's SDK does; usage apart."""
    found: dict[str, Any] = {}
    for line in told.split(b"\n\n"):
        if not line or line == b"data: [DONE]":
            continue
        chunk = orjson.loads(line.removeprefix(b"data: "))
        assert chunk["object"] == "chat.completion.chunk"
        if chunk.get("service_tier"):
            found["service_tier"] = chunk["service_tier"]
        for choice in chunk["choices"]:
            _merge(found, choice)
    return found


def _merge(found: dict[str, Any], choice: dict[str, Any]) -> None:
    for name in ("finish_reason", "stop_sequence"):
        if choice.get(name):
            found[name] = choice[name]
    for name, value in choice["delta"].items():
        if name in {"content", "reasoning_content"}:
            found[name] = found.get(name, "") + value
        elif name == "thinking_blocks":
            found[name] = [*found.get(name, []), *value]
        elif name == "tool_calls":
            calls = found.setdefault(name, [])
            for call in value:
                if call["index"] == len(calls):
                    calls.append({name: each for name, each in call.items() if name != "index"})
                else:
                    calls[call["index"]]["function"]["arguments"] += call["function"]["arguments"]


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.stem)
def test_a_stream_becomes_chunks(path: Path) -> None:
    """Each golden stream is told as its golden answer, with the usage it reported, wherever it is
    cut: in single bytes, and in two at every byte."""
    case = orjson.loads(path.read_bytes())
    stream = packed(case["events"])
    reader, whole, counted = relayed([stream])

    assert merged(whole) == case["told"]
    assert (reader.reply.error or None) == case.get("error")
    if case["units"] is not None:
        assert dict(counted.final().units) == case["units"]
        assert counted.final().source == "provider"
        assert reader.reply.is_done
    for at in range(1, len(stream)):
        assert relayed([stream[:at], stream[at:]])[1] == whole
    single = relayed([stream[at : at + 1] for at in range(len(stream))])
    assert single[1] == whole
    assert single[2].final() == counted.final()


def test_golden_streams_are_as_aws_describes_them() -> None:
    """Every event of theirs has a type and fields that the API's description knows, but for the
    padding that AWS adds and for what is made up on purpose."""
    shape = Session().get_service_model("bedrock-runtime").operation_model("ConverseStream")
    known = shape.output_shape.members["stream"].members
    made_up = {"p", "somethingNew", "initial-response", "exception", "serverToolUsage"}

    for path in STREAMS:
        for each in orjson.loads(path.read_bytes())["events"]:
            for kind, said in each.items():
                if kind not in made_up:
                    assert set(said) - made_up <= set(known[kind].members), path.stem


@pytest.mark.parametrize("path", ANSWERS, ids=lambda path: path.stem)
def test_a_whole_answer_becomes_a_completion(path: Path) -> None:
    """Each golden answer is told as its golden message, and botocore reads the same in it."""
    case = orjson.loads(path.read_bytes())
    raw = orjson.dumps(case["converse"])

    completion = read_whole(orjson.loads(raw), REQUEST, created_s=CREATED_S)

    assert completion is not None
    (choice,) = completion["choices"]
    assert choice["message"] == case["message"]
    assert choice["finish_reason"] == case["finish_reason"]
    assert choice.get("stop_sequence") == case.get("stop_sequence")
    assert completion.get("service_tier") == case.get("service_tier")
    counted = meter()
    counted.report(read_usage(case["converse"]["usage"]))
    assert dict(counted.final().units) == case["units"]
    shape = Session().get_service_model("bedrock-runtime").operation_model("Converse")
    parsed = create_parser("rest-json").parse(
        {"status_code": 200, "headers": {}, "body": raw}, shape.output_shape
    )
    assert parsed["stopReason"] == case["converse"]["stopReason"]
    assert len(parsed["output"]["message"]["content"]) == len(
        case["converse"]["output"]["message"]["content"]
    )


def test_an_answer_names_model_and_time() -> None:
    """The model as the client asked for it, an id that says nothing, the time that was given."""
    answer = {"output": {"message": {"content": [{"text": "x"}]}}}

    one = read_whole(answer, REQUEST, created_s=1)
    two = read_whole(answer, REQUEST, created_s=2)

    assert one is not None
    assert two is not None
    assert (one["model"], one["created"], one["object"]) == ("m", 1, "chat.completion")
    assert one["id"].startswith("chatcmpl-")
    assert one["id"] != two["id"]


@pytest.mark.parametrize(
    "answer",
    [{}, {"output": None}, {"output": {}}, {"output": {"message": {}}}, {"choices": []}],
)
def test_what_is_no_answer(answer: dict[str, Any]) -> None:
    """Without a message there is nothing to serve."""
    assert read_whole(answer, REQUEST, created_s=1) is None


def test_every_stop_reason_of_aws_has_a_word() -> None:
    """What the API's description lists today is mapped on purpose, not by default."""
    model = Session().get_service_model("bedrock-runtime")
    words = {each: finish_reason(each) for each in model.shape_for("StopReason").enum}

    assert words == {
        "end_turn": "stop",
        "tool_use": "tool_calls",
        "max_tokens": "length",
        "stop_sequence": "stop",
        "guardrail_intervened": "content_filter",
        "content_filtered": "content_filter",
        "malformed_model_output": "length",
        "malformed_tool_use": "length",
        "model_context_window_exceeded": "length",
    }
    assert finish_reason("something_new") == finish_reason(None) == "stop"


def test_a_stream_that_breaks_off_is_metered() -> None:
    """Without the metadata at its end, what was said is counted, and it has not finished."""
    case = orjson.loads((GOLDEN / "streams" / "thinking.json").read_bytes())
    stream = packed(case["events"][:4])

    reader, _, counted = relayed([stream])

    usage = counted.final()
    assert not reader.reply.is_finished
    assert usage.source == "counted"
    assert sum(usage.counted.values()) > 7


def test_a_stream_that_breaks_off_before_its_usage_has_finished() -> None:
    """The stop reason is the end of what is said; the usage is counted then."""
    case = orjson.loads((GOLDEN / "streams" / "plain.json").read_bytes())

    reader, told, counted = relayed([packed(case["events"][:-1])])

    assert reader.reply.is_finished
    assert told.endswith(b"data: [DONE]\n\n")
    assert counted.final().source == "counted"


def test_nothing_comes_after_the_metadata() -> None:
    """Only that event ends a stream: the stop reason comes before the usage."""
    case = orjson.loads((GOLDEN / "streams" / "plain.json").read_bytes())
    read = source(REQUEST, created_s=1).read

    assert [read(each).is_end for each in case["events"]] == [False] * 5 + [True]


def test_thinking_past_its_bound_is_told_without_its_seal() -> None:
    """The text goes on to the client; a signature over a part of it would be refused later."""
    found = source(REQUEST, created_s=1)

    def delta(**thought: str) -> dict[str, Any]:
        return {"contentBlockDelta": {"delta": {"reasoningContent": thought}}}

    told = [found.read(delta(text="x" * 1_000_000)).chunks for _ in range(5)]

    assert all(chunks for chunks in told)
    assert found.read(delta(signature="sig")).chunks == ()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    [
        *("messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop"),
        *("messageStop", "metadata", "exception", "contentBlockIndex", "start", "delta"),
        *("toolUse", "toolUseId", "name", "input", "text", "reasoningContent", "signature"),
        *("redactedContent", "stopReason", "usage", "serviceTier", "type", "message"),
        *("output", "content", "additionalModelResponseFields", "stop_sequence"),
        *("inputTokens", "outputTokens", "cacheDetails", "reasoningText", "citationsContent"),
    ]
)
EVENT = st.recursive(
    JSON,
    lambda inner: st.dictionaries(FIELDS, inner, max_size=4) | st.lists(inner, max_size=3),
    max_leaves=12,
)


@given(st.lists(st.dictionaries(FIELDS, EVENT, max_size=2), max_size=8))
def test_no_event_breaks_the_source(events: list[dict[str, Any]]) -> None:
    """Whatever JSON comes, what is read of it are chunks, and the meter takes them."""
    found, counted, reply, told = source(REQUEST, created_s=1), meter(), Reply(), writer(REQUEST)

    for each in events:
        for chunk in found.read(each).chunks:
            read_object(chunk, reply, counted, "delta")
            assert told.write(chunk) or chunk.get("error")
    assert told.end(counted.final().units)


def test_half_a_letter_is_replaced() -> None:
    """Half a surrogate pair, which some JSON has, cannot be written; the answer goes on."""
    half = event_bytes("contentBlockDelta", b'{"delta": {"text": "a\\ud83db"}}')
    calls = event_bytes("contentBlockDelta", b'{"delta": {"toolUse": {"input": "\\ude00"}}}')

    _, told, _ = relayed([half, calls, packed([{"messageStop": {"stopReason": "end_turn"}}])])

    assert merged(told)["content"] == "a\ufffdb"
    assert merged(told)["finish_reason"] == "stop"


def event_bytes(kind: str, payload: bytes) -> bytes:
    return frame(payload, {":message-type": "event", ":event-type": kind})


def test_a_call_that_is_too_deep_for_json_is_told_as_text() -> None:
    """Arguments travel as text, which may be deeper than the JSON around it."""
    deep = orjson.loads('{"a":' * 400 + "1" + "}" * 400)
    content = [{"toolUse": {"toolUseId": "t", "name": "f", "input": deep}}]

    answer = {"output": {"message": {"content": content}}}

    found = read_whole(answer, REQUEST, created_s=1)

    assert found is not None
    call = found["choices"][0]["message"]["tool_calls"][0]
    assert orjson.loads(call["function"]["arguments"]) == deep


@given(EVENT, EVENT, EVENT)
def test_no_answer_breaks_the_reader(content: Any, usage: Any, reason: Any) -> None:
    """Whatever stands in an answer, it is a completion that can be written, or none."""
    answer = {"output": {"message": {"content": content}}, "usage": usage, "stopReason": reason}
    try:
        answer = orjson.loads(orjson.dumps(answer))  # as it comes: what JSON can say
    except (TypeError, orjson.JSONEncodeError):
        return

    completion = read_whole(answer, REQUEST, created_s=1)

    assert (completion is None) is not isinstance(content, list)
    assert completion is None or orjson.dumps(completion)
