"""Requests to the Messages API: checked, bounded, counted, and said as chat completions."""

from __future__ import annotations

import math
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from message_samples import JSON, body, chunk, events, golden, load, message_request, said

from metering.tokenizer import tokenizer_for
from proxy.chat import UNSUPPORTED
from proxy.error_words import ErrorWords
from proxy.errors import InvalidRequest
from proxy.wire import client_format, client_formats
from proxy.wire.anthropic_messages import client


def raw(**fields: Any) -> bytes:
    return orjson.dumps(body(**fields))


REFUSED = {
    "not_json": (b"{", None),
    "list": (b"[]", None),
    "too_deep": (b"[" * 300, None),
    "no_model": (b'{"max_tokens": 1, "messages": []}', "model"),
    "empty_model": (raw(model=""), "model"),
    "no_messages": (b'{"model": "m", "max_tokens": 1}', "messages"),
    "message_string": (raw(messages=["hi"]), "messages.0"),
    "wrong_role": (raw(messages=[{"role": "tool", "content": "x"}]), "messages.0.role"),
    "no_content": (raw(messages=[{"role": "user"}]), "messages.0.content"),
    "no_max": (b'{"model": "m", "messages": []}', "max_tokens"),
    "zero_max": (raw(max_tokens=0), "max_tokens"),
    "bool_max": (raw(max_tokens=True), "max_tokens"),
    "float_max": (raw(max_tokens=1.5), "max_tokens"),
    "huge_max": (raw(max_tokens=10**10), "max_tokens"),
    "stream_string": (raw(stream="yes"), "stream"),
    "metadata_list": (raw(metadata=[]), "metadata"),
    "user_number": (raw(metadata={"user_id": 5}), "metadata.user_id"),
    "system_number": (raw(system=5), "system"),
    "system_block": (raw(system=[{"type": "text"}]), "system.0.text"),
    "untyped_block": (raw(messages=said({"text": "x"})), "messages.0.content.0.type"),
    "text_number": (
        raw(messages=said({"type": "text", "text": 5})),
        "messages.0.content.0.text",
    ),
    "foreign_part": (
        raw(messages=said({"type": "image_url", "image_url": {}})),
        "messages.0.content.0.type",
    ),
    "image_without_source": (
        raw(messages=said({"type": "image"})),
        "messages.0.content.0.source",
    ),
    "image_data_number": (
        raw(
            messages=said(
                {"type": "image", "source": {"type": "base64", "media_type": "a/b", "data": 1}}
            )
        ),
        "messages.0.content.0.source.data",
    ),
    "call_input_string": (
        raw(
            messages=said(
                {"type": "tool_use", "id": "a", "name": "b", "input": ""}, role="assistant"
            )
        ),
        "messages.0.content.0.input",
    ),
    "result_without_id": (
        raw(messages=said({"type": "tool_result", "content": "x"})),
        "messages.0.content.0.tool_use_id",
    ),
    "result_error_word": (
        raw(messages=said({"type": "tool_result", "tool_use_id": "a", "is_error": "no"})),
        "messages.0.content.0.is_error",
    ),
    "stops_string": (raw(stop_sequences="x"), "stop_sequences"),
    "tools_object": (raw(tools={}), "tools"),
    "tool_without_name": (raw(tools=[{"input_schema": {}}]), "tools.0.name"),
    "tool_without_schema": (raw(tools=[{"name": "x"}]), "tools.0.input_schema"),
    "openai_tool": (raw(tools=[{"type": "function", "function": {}}]), "tools.0.type"),
    "choice_string": (raw(tool_choice="auto"), "tool_choice"),
    "choice_unknown": (raw(tool_choice={"type": "function"}), "tool_choice.type"),
    "choice_without_name": (raw(tool_choice={"type": "tool"}), "tool_choice.name"),
    "parallel_word": (
        raw(tool_choice={"type": "any", "disable_parallel_tool_use": "no"}),
        "tool_choice.disable_parallel_tool_use",
    ),
    "thinking_word": (raw(thinking="enabled"), "thinking"),
    "effort_unknown": (raw(output_config={"effort": "huge"}), "output_config.effort"),
    "format_unknown": (raw(output_config={"format": {"type": "xml"}}), "output_config.format.type"),
    "schema_string": (
        raw(output_format={"type": "json_schema", "schema": ""}),
        "output_format.schema",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_request_is_refused_by_name(name: str) -> None:
    """What cannot be priced or passed on is refused, and `param` is the path to it."""
    sent, param = REFUSED[name]

    with pytest.raises(InvalidRequest) as caught:
        client.parse_request(sent)

    assert caught.value.param == param


@pytest.mark.parametrize("name", golden("request"))
def test_a_request_is_said_as_a_chat_completion(name: str) -> None:
    """Each golden request stands beside the chat completion that means the same."""
    recorded = load(name, "request")

    request = client.parse_request(orjson.dumps(recorded["messages"]))

    assert request.chat == recorded["chat"]
    assert request.body == recorded["messages"]


def test_what_is_acted_on_is_read() -> None:
    """Limits, stream, user and format stand where admission looks for them."""
    request = message_request(stream=True, max_tokens=7, metadata={"user_id": "u" * 300})

    assert (request.output_limit, request.stream, request.choices) == (7, True, 1)
    assert (request.format, request.user) == ("anthropic_messages", "u" * 256)
    assert request.wants_usage
    assert client_format(request.format) is client
    assert request.format in client_formats()


def test_no_other_field_slips_into_the_chat_completion() -> None:
    """`n` and `best_of` of another API would be generated, and billed, without being held for."""
    request = message_request(n=50, best_of=50, max_completion_tokens=9, logit_bias={"1": 1})

    assert {"n", "best_of", "max_completion_tokens", "logit_bias"}.isdisjoint(request.chat)
    assert request.chat[UNSUPPORTED] == ["best_of", "logit_bias", "max_completion_tokens", "n"]
    assert (request.choices, request.candidates) == (1, 1)


def test_a_count_needs_no_limit() -> None:
    """`count_tokens` takes the body without `max_tokens`, and passes over one that is there."""
    plain = client.parse_count(raw(max_tokens=None))
    limited = client.parse_count(raw(max_tokens="x"))

    assert plain.output_limit is limited.output_limit is None
    assert "max_tokens" not in limited.chat
    assert client.count_answer(plain, 12) == {"input_tokens": 12}


def test_the_prompt_is_counted_whole() -> None:
    """Everything that reaches the model counts: system, tools, calls, results, documents."""
    tokenizer = tokenizer_for("gpt-4o")
    long = "word " * 500

    def tokens(**fields: Any) -> int:
        request = message_request(**fields)
        return client.prompt_tokens(request, tokenizer, request.model)

    source = {"type": "text", "media_type": "text/plain", "data": long}
    cited = {"type": "document", "source": source, "citations": {"enabled": True}}
    used = {"type": "tool_use", "id": "a", "name": "b", "input": {"x": long}}
    result = {"type": "tool_result", "tool_use_id": "a", "content": [cited]}
    found = {"type": "web_search_tool_result", "tool_use_id": "a", "content": [{"text": long}]}
    schema = {"type": "object", "properties": {"x": {"type": "string", "description": long}}}
    for fields in (
        {"system": long},
        {"system": [{"type": "text", "text": long}]},
        {"messages": said(cited)},
        {"messages": said(used, role="assistant")},
        {"messages": said(result)},
        {"messages": said(found, role="assistant")},
        {"messages": said({"type": "thinking", "thinking": long}, role="assistant")},
        {"tools": [{"name": "x", "input_schema": schema}]},
        {"tools": [{"type": "web_search_20250305", "name": "x", "domains": [long]}]},
        {"output_config": {"format": {"type": "json_schema", "schema": schema}}},
    ):
        assert 500 <= tokens(**fields) <= 700, fields


def test_an_image_is_counted_by_its_size() -> None:
    """A base64 image is counted by its own size, not by its letters."""
    tokenizer = tokenizer_for("gpt-4o")
    recorded = load("vision", "request")["messages"]
    image = recorded["messages"][0]["content"][1]
    request = message_request(messages=said(image))

    assert client.prompt_tokens(request, tokenizer, "gpt-4o") < 300


def test_our_count_is_told_first() -> None:
    """The prompt as we count it stands in `message_start` until the upstream says better."""
    writer = client.writer(message_request(stream=True), prompt_tokens=17)

    first = events(writer.write(chunk({"content": "x"})))[0]

    assert first["message"]["usage"]["input_tokens"] == 17


KNOWN = st.sampled_from(
    [
        *("model", "messages", "max_tokens", "stream", "system", "metadata", "stop_sequences"),
        *("tools", "tool_choice", "thinking", "output_config", "output_format", "service_tier"),
        *("cache_control", "role", "content", "type", "text", "source", "data", "url", "title"),
        *("id", "name", "input", "tool_use_id", "is_error", "citations", "input_schema", "format"),
    ]
)
WORDS = st.sampled_from(
    [
        *("text", "image", "document", "tool_use", "tool_result", "thinking", "redacted_thinking"),
        *("base64", "url", "content", "user", "assistant", "system", "custom", "json_schema"),
        *("search_result", "web_search_20250305", "enabled", "tool", "auto"),
    ]
)
NEARLY = st.recursive(
    JSON | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KNOWN, inner, max_size=6),
    max_leaves=24,
)
"""JSON with the words and the fields of this format in it, wherever."""


@settings(max_examples=50)  # JSON is slow to make up
@given(st.dictionaries(KNOWN, NEARLY, max_size=10), NEARLY, st.booleans())
def test_nothing_but_a_refusal_is_raised(
    fields: dict[str, Any], content: Any, is_list: bool
) -> None:
    """Whatever is sent is either a request that can be counted, or refused as invalid."""
    messages = [{"role": "user", "content": content}, {"role": "assistant", "content": [content]}]
    sent = {"messages": messages if is_list else content, **body(messages=None), **fields}
    try:
        request = client.parse_request(orjson.dumps(sent))
    except InvalidRequest:
        return
    chat = orjson.loads(orjson.dumps(request.chat))

    assert chat == request.chat
    assert client.prompt_tokens(request, tokenizer_for("gpt-4o"), "m") > 0
    assert all(
        message["role"] in ("user", "assistant", "system", "tool") for message in chat["messages"]
    )


@settings(max_examples=50)  # JSON is slow to make up
@given(NEARLY)
def test_a_whole_answer_is_written_from_anything(answer: Any) -> None:
    """An upstream that says nonsense is answered with a message all the same, and JSON."""
    completion = {"choices": [{"message": answer}, answer], "id": answer, "model": answer}

    message = client.write_whole(completion, {"output_text": 1}, message_request())

    assert message["usage"]["output_tokens"] == 1
    assert isinstance(message["id"], str) and isinstance(message["model"], str)
    assert not math.isnan(len(orjson.dumps(message)))


def test_failures_have_anthropics_shape() -> None:
    """Bodies and last events of streams come from one object."""
    words = ErrorWords(429, "No.", "rate_limit_error", "rate_limit_exceeded")

    answered = orjson.loads(client.error_body(words, "req_1"))

    assert events(client.error_event(words, "req_1")) == [answered]
    assert answered["request_id"] == "req_1"
