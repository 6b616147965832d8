"""Requests for responses: checked, said as chat where they can be, counted whole."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.tokenizer import tokenizer_for
from proxy.error_words import ErrorWords
from proxy.errors import InvalidRequest
from proxy.wire import client_format
from proxy.wire.openai_responses.client import (
    CONTEXT_TOKENS_ASSUMED,
    ITEM_TOKENS_ASSUMED,
    PATH,
    TOOL_TOKENS_ASSUMED,
    error_body,
    error_event,
    parse_request,
    prompt_tokens,
    write_whole,
)

TOKENIZER = tokenizer_for("gpt-4o")
WORDS = ErrorWords(429, "No money.", "insufficient_quota", "insufficient_quota", None, {"a": 1})


def request(**fields: Any) -> bytes:
    return orjson.dumps({"model": "m", "input": "hi", **fields})


def tokens(**fields: Any) -> int:
    return prompt_tokens(parse_request(request(**fields)), TOKENIZER, "gpt-4o")


REFUSED = {
    "not_json": (b"{", None),
    "list": (b"[]", None),
    "deep": (b"[" * 300, None),
    "no_model": (b'{"input": "hi"}', "model"),
    "model_number": (request(model=5), "model"),
    "no_input": (b'{"model": "m"}', "input"),
    "input_number": (request(input=5), "input"),
    "input_object": (request(input={}), "input"),
    "instructions_list": (request(instructions=[]), "instructions"),
    "stream_string": (request(stream="yes"), "stream"),
    "stream_number": (request(stream=1), "stream"),
    "options_list": (request(stream_options=[]), "stream_options"),
    "zero_max": (request(max_output_tokens=0), "max_output_tokens"),
    "float_max": (request(max_output_tokens=1.5), "max_output_tokens"),
    "bool_max": (request(max_output_tokens=True), "max_output_tokens"),
    "huge_max": (request(max_output_tokens=10**10), "max_output_tokens"),
    "previous_number": (request(previous_response_id=5), "previous_response_id"),
    "conversation_number": (request(conversation=5), "conversation"),
    "prompt_string": (request(prompt="p"), "prompt"),
    "tools_object": (request(tools={}), "tools"),
    "text_string": (request(text="json"), "text"),
    "reasoning_string": (request(reasoning="high"), "reasoning"),
    "include_string": (request(include="x"), "include"),
    "user_number": (request(user=5), "user"),
    "background": (request(background=True), "background"),
    "background_stream": (request(background=True, stream=True), "background"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_request_is_refused_by_name(name: str) -> None:
    """What cannot be metered is refused, and `param` names the field."""
    raw, param = REFUSED[name]

    with pytest.raises(InvalidRequest) as caught:
        parse_request(raw)

    assert caught.value.param == param


def test_what_admission_needs_is_read() -> None:
    """Limits, choices and the user are known before anything is sent."""
    found = parse_request(
        request(stream=True, max_output_tokens=50, safety_identifier="x" * 300, tools=[])
    )

    assert (found.model, found.stream, found.output_limit) == ("m", True, 50)
    assert (found.choices, found.candidates, found.wants_usage) == (1, 1, True)
    assert found.user == "x" * 256
    assert found.format == "openai_responses"


def test_a_stored_context_needs_no_input() -> None:
    """What the vendor keeps may be all there is."""
    raw = orjson.dumps({"model": "m", "prompt": {"id": "pmpt_1"}})

    assert parse_request(raw).chat["messages"] == []


def test_the_format_is_found_by_its_name() -> None:
    """The registry knows it, at its own path."""
    assert client_format("openai_responses").PATH == PATH == "/v1/responses"


def test_the_prompt_counts_as_the_same_chat_does() -> None:
    """A request that chat can say costs what it costs there."""
    found = tokens(instructions="Be brief.", input=[{"role": "user", "content": "Hello there"}])

    assert found == 3 + (3 + 1 + 3) + (3 + 1 + 2)  # priming; frame, role, text of each


CONTEXTS: dict[str, tuple[dict[str, Any], int]] = {
    "previous": ({"previous_response_id": "resp_1"}, CONTEXT_TOKENS_ASSUMED),
    "conversation": ({"conversation": {"id": "conv_1"}}, CONTEXT_TOKENS_ASSUMED),
    "template": ({"prompt": {"id": "pmpt_1"}}, CONTEXT_TOKENS_ASSUMED),
    "two_tools": ({"tools": [{"type": "web_search"}] * 2}, 2 * TOOL_TOKENS_ASSUMED),
    "references": (
        {"input": [{"type": "item_reference", "id": "a"}, {"id": "b"}]},
        2 * ITEM_TOKENS_ASSUMED,
    ),
    "encrypted": (
        {"input": [{"type": "reasoning", "id": "a", "summary": [], "encrypted_content": "g" * 99}]},
        24,
    ),
}


@pytest.mark.parametrize("name", CONTEXTS)
def test_what_the_vendor_keeps_is_assumed(name: str) -> None:
    """The hold covers input that is billed and is not in the request."""
    fields, least = CONTEXTS[name]

    assert least <= tokens(**fields) <= least + 60


UNSAID = {
    "search_results": {"type": "file_search_call", "results": [{"text": "word " * 400}]},
    "tool_output": {"type": "mcp_call", "arguments": "{}", "output": "word " * 400},
    "file_by_url": {
        "role": "user",
        "content": [{"type": "input_file", "file_url": "https://example.com/a.pdf"}],
    },
    "image_by_id": {"role": "user", "content": [{"type": "input_image", "file_id": "file_1"}]},
}


@pytest.mark.parametrize("name", UNSAID)
def test_what_chat_cannot_say_is_counted_all_the_same(name: str) -> None:
    """The prompt of a relayed request is all of it."""
    assert tokens(input=[UNSAID[name]]) > 400


def test_an_error_has_openais_shape() -> None:
    """The body is the one that every OpenAI library reads."""
    assert orjson.loads(error_body(WORDS, "req_1"))["error"]["code"] == "insufficient_quota"


def test_an_error_event_is_found_where_it_is_looked_for() -> None:
    """Documented beside the type, sent under `error`: it stands in both places."""
    sent = error_event(WORDS, "req_1")
    name, data = sent.removesuffix(b"\n\n").split(b"\ndata: ")
    found = orjson.loads(data)

    assert name == b"event: error"
    assert found["type"] == "error"
    assert (found["code"], found["message"], found["param"]) == (WORDS.code, WORDS.message, None)
    assert type(found["sequence_number"]) is int
    assert found["error"]["type"] == WORDS.type
    assert found["error"]["metadata"] == {"a": 1}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
NAMES = st.sampled_from(
    [
        "input",
        "instructions",
        "tools",
        "tool_choice",
        "text",
        "reasoning",
        "include",
        "user",
        "conversation",
        "prompt",
        "top_logprobs",
        "max_output_tokens",
        "stream",
        "truncation",
    ]
)
KINDS = st.sampled_from(
    [
        "message",
        "reasoning",
        "function_call",
        "function_call_output",
        "custom_tool_call",
        "input_text",
        "input_image",
        "input_file",
        "refusal",
        "item_reference",
        "image_thing",
        "function",
        "custom",
        "allowed_tools",
        "json_schema",
        "web_search",
    ]
)
KEYS = st.sampled_from(
    [
        "type",
        "role",
        "content",
        "text",
        "call_id",
        "name",
        "arguments",
        "output",
        "summary",
        "encrypted_content",
        "image_url",
        "file_id",
        "format",
        "tools",
        "input",
        "effort",
        "id",
    ]
)
ROLES = st.sampled_from(["user", "assistant", "system", "developer"])
SHAPED = st.recursive(
    JSON | KINDS | ROLES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(KEYS, inner, max_size=5)
        | st.builds(lambda kind, more: {**more, "type": kind}, KINDS, st.dictionaries(KEYS, inner))
    ),
    max_leaves=10,
)


@settings(max_examples=40)
@given(st.dictionaries(NAMES | st.text(max_size=4), SHAPED, max_size=6), st.lists(SHAPED))
def test_whatever_is_sent_is_refused_or_counted(fields: dict[str, Any], items: list[Any]) -> None:
    """Nothing in a request raises anything but a refusal."""
    raw = orjson.dumps({"input": items, **fields, "model": "m"})
    try:
        found = parse_request(raw)
    except InvalidRequest:
        return

    assert prompt_tokens(found, TOKENIZER, "gpt-4o") > 0
    assert isinstance(found.chat["messages"], list)
    assert orjson.loads(raw) == found.body


@settings(max_examples=40)
@given(JSON | SHAPED)
def test_whatever_completed_is_written(message: Any) -> None:
    """A completion with anything in it becomes a response."""
    found = parse_request(request())
    choices: Any = [{"index": 0, "message": message, "logprobs": message}]

    for completion in ({"choices": choices}, {"choices": message}, {"id": message}):
        written = write_whole(completion, {"output_text": 1}, found)
        assert written["status"] == "completed"
        assert written["usage"]["total_tokens"] == 1
