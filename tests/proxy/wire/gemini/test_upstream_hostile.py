"""Gemini upstream against whatever may come, from clients and from upstreams."""

from __future__ import annotations

import json
from typing import Any

import orjson
from format_samples import CREATED_S, asked, way
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.meter import Meter
from metering.tokenizer import tokenizer_for
from proxy.errors import InvalidRequest
from proxy.stream_reader import StreamReader
from proxy.wire import Sending
from proxy.wire.gemini import upstream


def meter() -> Meter:
    return Meter(tokenizer_for("gpt-4o"), 99)


NAMES = [
    "candidates",
    "content",
    "parts",
    "text",
    "thought",
    "thoughtSignature",
    "functionCall",
    "name",
    "args",
    "id",
    "inlineData",
    "mimeType",
    "data",
    "finishReason",
    "finishMessage",
    "index",
    "promptFeedback",
    "blockReason",
    "usageMetadata",
    "promptTokenCount",
    "candidatesTokenCount",
    "totalTokenCount",
    "logprobsResult",
    "chosenCandidates",
    "topCandidates",
    "token",
    "logProbability",
    "modelVersion",
    "responseId",
    "error",
]
texts = st.sampled_from(["STOP", "SAFETY", "MALFORMED_FUNCTION_CALL", "image/png", "", "\ud800"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5)
    ),
    max_leaves=20,
)


def shaped(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Answers that look like Gemini's further in, so that hostility reaches every reader."""
    part = st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
    candidate = st.fixed_dictionaries(
        {"content": st.fixed_dictionaries({"parts": st.lists(part, max_size=3) | inner})},
        optional={"finishReason": texts, "index": inner, "logprobsResult": part},
    )
    return st.fixed_dictionaries(
        {"candidates": st.lists(candidate | inner, max_size=3)},
        optional={"usageMetadata": part, "promptFeedback": part, "responseId": inner},
    )


answers = st.dictionaries(st.sampled_from(NAMES), values, max_size=5) | shaped(values)


@given(st.lists(answers, max_size=4))
def test_hostile_events_are_read_and_can_be_written(events: list[dict[str, Any]]) -> None:
    """Whatever comes, the stream lives, the meter has a bill, and the chunks are JSON."""
    request, used = asked(stream=True), meter()
    source = upstream.source(request, created_s=CREATED_S)
    writer = way().client.writer(request)
    reader = StreamReader(source, upstream.decoder(), used, writer=writer)
    for each in events:
        reading = source.read(each)
        for chunk in reading.chunks:
            orjson.dumps(chunk)
    reader.feed(b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in events))

    assert used.final().counted


@given(answers)
def test_hostile_answers_are_read(answer: dict[str, Any]) -> None:
    """A whole answer is a completion that can be written, or none."""
    completion = upstream.read_whole(answer, asked(), created_s=CREATED_S)

    assert completion is None or isinstance(orjson.loads(orjson.dumps(completion)), dict)


CHAT_NAMES = [
    "role",
    "content",
    "type",
    "text",
    "image_url",
    "url",
    "tool_calls",
    "function",
    "name",
    "arguments",
    "tool_call_id",
    "id",
    "tools",
    "parameters",
    "tool_choice",
    "response_format",
    "json_schema",
    "schema",
    "stop",
    "seed",
    "top_k",
    "thinking",
    "budget_tokens",
    "reasoning_effort",
    "thinking_blocks",
    "signature",
    "extra_content",
    "google",
    "thought_signature",
    "allowed_tools",
    "mode",
    "file",
    "file_data",
    "logprobs",
    "top_logprobs",
]
FIELDS = [
    "tools",
    "functions",
    "tool_choice",
    "function_call",
    "response_format",
    "stop",
    "seed",
    "top_k",
    "temperature",
    "thinking",
    "reasoning_effort",
    "logprobs",
    "top_logprobs",
    "logit_bias",
]
words = st.sampled_from(
    [
        "user",
        "assistant",
        "tool",
        "system",
        "function",
        "text",
        "image_url",
        "file",
        "{}",
        '{"a": [1]}',
        "[" * 300,
        "data:image/png;base64,aa",
        "https://[::1",
        "https://example.com/a.png",
        "json_schema",
        "enabled",
        "high",
        "gemini:x",
        "required",
        "allowed_tools",
        "auto",
    ]
)
chat_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | words,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(CHAT_NAMES), inner, max_size=5)
    ),
    max_leaves=20,
)
part = st.dictionaries(
    st.sampled_from(["type", "text", "image_url", "input_audio", "file", "refusal"]),
    st.sampled_from(["text", "image_url", "input_audio", "file", "refusal"])
    | st.dictionaries(
        st.sampled_from(["url", "data", "format", "file_data", "filename", "file_id"]),
        chat_values | st.sampled_from(["wav", "a.pdf", "data:,", "data:a/b;base64,"]),
    )
    | chat_values,
)
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "tool", "system"])},
        optional={
            "content": st.lists(part, max_size=2) | chat_values,
            **dict.fromkeys(("tool_calls", "tool_call_id", "name"), chat_values),
        },
    )
    | chat_values,
    max_size=3,
)


@settings(max_examples=300)
@given(
    messages,
    st.dictionaries(st.sampled_from(FIELDS), chat_values, max_size=4),
    st.booleans(),
)
def test_hostile_requests_are_written_or_refused(
    said: list[Any], fields: dict[str, Any], drops: bool
) -> None:
    """Any request becomes a body that can be written, or is refused as invalid."""
    request = asked(**{**fields, "messages": said})
    sending = Sending(model="gemini-3-pro", drop_unsupported=drops)

    assert all(isinstance(name, str) for name in upstream.cannot_carry(request.chat))
    try:
        written, param = orjson.dumps(upstream.from_chat(request, sending)), None
    except InvalidRequest as refusal:
        written, param = b"", refusal.param
    assert written or param


def test_arguments_as_deep_as_a_body_may_be_can_be_written() -> None:
    """What is parsed out of a string is no deeper than the body itself may be."""
    deep = '{"a":' * 199 + "{}" + "}" * 199
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": deep}}
    said = [
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": deep},
    ]

    body = upstream.from_chat(asked(messages=said), Sending(model="m"))

    assert orjson.dumps(body).count(b'"a"') == 398


def test_no_more_is_built_than_a_request_may_have() -> None:
    """Many small objects within strings are left as the text they are."""
    result = "{" + ",".join(f'"{n}":[]' for n in range(9999)) + "}"
    calls = [
        {"id": f"c{n}", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        for n in range(30)
    ]
    said = [
        {"role": "assistant", "tool_calls": calls},
        *[{"role": "tool", "tool_call_id": f"c{n}", "content": result} for n in range(30)],
    ]

    body = upstream.from_chat(asked(messages=said), Sending(model="m"))

    results = [each["functionResponse"]["response"] for each in body["contents"][1]["parts"]]
    assert results[0] == orjson.loads(result)
    assert results[-1] == {"output": result}


def test_events_deeper_than_can_be_written_are_read() -> None:
    """Arguments too deep for one writer of JSON are written by another, or not at all."""
    args = b'{"a":' * 400 + b"{}" + b"}" * 400
    event = b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":%s}}]}}]}'
    request = asked(stream=True)
    reader = way(upstream="gemini").reader(request, meter(), created_s=CREATED_S)

    told = reader.feed(b"data: " + event % args + b"\n\n")

    assert told.startswith(b"data: {")
