"""Whole chat completions as messages: content, reasons, usage."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from message_samples import MODEL, golden, load, message_request

from metering.usage import INPUT_CLASSES, OUTPUT_CLASSES, TOKEN_CLASSES
from proxy.wire.anthropic_messages import client
from proxy.wire.anthropic_messages.client_answer import (
    call_id,
    message_id,
    stop_of,
    tier_of,
    usage_of,
)

UNITS = st.dictionaries(st.sampled_from(TOKEN_CLASSES), st.integers(0, 10**9))


def whole(message: Any, **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": message, "finish_reason": "stop", **fields}
    return client.write_whole({"choices": [choice]}, {}, message_request())


@pytest.mark.parametrize("name", golden("whole"))
def test_a_completion_is_written_as_a_message(name: str) -> None:
    """Each golden completion stands beside the message that means the same."""
    recorded = load(name, "whole")
    request = message_request(stop_sequences=["END"])

    message = client.write_whole(recorded["completion"], recorded["units"], request)

    assert message == recorded["message"]


@given(UNITS)
def test_the_classes_sum_to_the_totals(units: dict[str, int]) -> None:
    """Input, cache reads and cache writes are the whole prompt; output is all that was said."""
    usage = usage_of(units)

    prompt = (
        usage["input_tokens"]
        + usage["cache_read_input_tokens"]
        + usage["cache_creation_input_tokens"]
    )
    assert prompt == sum(units.get(name, 0) for name in INPUT_CLASSES)
    assert usage["output_tokens"] == sum(units.get(name, 0) for name in OUTPUT_CLASSES)
    assert usage["cache_creation_input_tokens"] == sum(usage["cache_creation"].values())
    thinking = usage.get("output_tokens_details", {"thinking_tokens": 0})["thinking_tokens"]
    assert thinking == units.get("output_reasoning", 0) <= usage["output_tokens"]


STOPS = {
    "end": ({"finish_reason": "stop"}, ("end_turn", None)),
    "length": ({"finish_reason": "length"}, ("max_tokens", None)),
    "filter": ({"finish_reason": "content_filter"}, ("refusal", None)),
    "calls": ({"finish_reason": "tool_calls"}, ("tool_use", None)),
    "older_call": ({"finish_reason": "function_call"}, ("tool_use", None)),
    "unknown": ({"finish_reason": "eos"}, ("end_turn", None)),
    "missing": ({}, ("end_turn", None)),
    "list": ({"finish_reason": []}, ("end_turn", None)),
    "stop": ({"finish_reason": "stop", "stop_sequence": "END"}, ("stop_sequence", "END")),
    "vllm_stop": ({"finish_reason": "stop", "stop_reason": "END"}, ("stop_sequence", "END")),
    "not_asked_for": ({"finish_reason": "stop", "stop_sequence": "X"}, ("end_turn", None)),
    "token": ({"finish_reason": "stop", "stop_reason": 128009}, ("end_turn", None)),
    "late_stop": ({"finish_reason": "length", "stop_sequence": "END"}, ("max_tokens", None)),
}


@pytest.mark.parametrize("name", STOPS)
def test_every_reason_has_its_word(name: str) -> None:
    """Why it ended, and which of the client's stops was met."""
    choice, expected = STOPS[name]

    assert stop_of(choice, ["END"], has_calls=False, is_refusal=False) == expected


def test_calls_and_refusals_tell_more_than_stop() -> None:
    """Servers that call tools, and models that refuse, may both end with a plain `stop`."""
    choice = {"finish_reason": "stop"}

    assert stop_of(choice, [], has_calls=True, is_refusal=False)[0] == "tool_use"
    assert stop_of(choice, [], has_calls=False, is_refusal=True)[0] == "refusal"


INPUTS = {
    "object": ('{"a": 1}', {"a": 1}),
    "empty": ("", {}),
    "blank": (" ", {}),
    "null": (None, {}),
    "parsed": ({"a": 1}, {"a": 1}),
    "cut": ('{"a": ', {"INVALID_JSON": '{"a": '}),
    "list": ("[1]", {"INVALID_JSON": "[1]"}),
    "wide": ('{"a": 99999999999999999999}', {"INVALID_JSON": '{"a": 99999999999999999999}'}),
}


@pytest.mark.parametrize("name", INPUTS)
def test_input_is_an_object_always(name: str) -> None:
    """Arguments that are no object are given as they came, under a name that says so."""
    arguments, expected = INPUTS[name]
    message = whole(
        {"tool_calls": [{"id": "a", "function": {"name": "b", "arguments": arguments}}]}
    )

    assert message["content"][0]["input"] == expected


def test_arguments_that_are_too_deep_do_no_harm() -> None:
    """What could be read and not be written again is said to be unreadable."""
    deep: Any = {}
    for _ in range(600):
        deep = {"a": deep}
    for arguments in (
        deep,
        orjson.dumps({"a": "x"}).decode() + "]",
        '{"a":' * 300 + "1" + "}" * 300,
    ):
        message = whole({"tool_calls": [{"function": {"name": "b", "arguments": arguments}}]})

        assert orjson.dumps(message)
        assert list(message["content"][0]["input"]) == ["INVALID_JSON"]


def test_an_unsigned_thought_comes_before_the_text() -> None:
    """Reasoning of other makers' models is a thinking block that nobody has signed."""
    for name in ("reasoning_content", "reasoning"):
        message = whole({"content": "391", name: "Hm."})

        assert message["content"] == [
            {"type": "thinking", "thinking": "Hm.", "signature": ""},
            {"type": "text", "text": "391"},
        ]


def test_an_answer_of_nothing_is_a_message() -> None:
    """A completion without choices is an empty message of the model that was asked."""
    message = client.write_whole({"choices": []}, {}, message_request())

    assert (message["content"], message["model"]) == ([], MODEL)
    assert message["stop_reason"] == "end_turn"


def test_ids_can_be_traced() -> None:
    """An answer keeps its id under Anthropic's first letters; a call gets one if it has none."""
    assert message_id({"id": "chatcmpl-9"}) == "msg_9"
    assert message_id({"id": "msg_01"}) == "msg_01"
    assert message_id({"id": 5}) == "msg_unnamed"
    assert call_id("call_1", "msg_9", 0) == "call_1"
    assert call_id("", "msg_a-b/ü", 1) == "toolu_msg_ab_1"


def test_tiers_are_told_in_its_words() -> None:
    """What the format has no word for is not told."""
    assert tier_of({"service_tier": "default"}) == {"service_tier": "standard"}
    assert tier_of({"service_tier": "flex"}) == tier_of({"service_tier": []}) == {}


def test_an_older_function_call_is_a_call() -> None:
    """`function_call`, which came before `tool_calls`, is told as a tool's use."""
    message = whole({"function_call": {"name": "b", "arguments": "{}"}})

    assert message["content"][0]["name"] == "b"
    assert message["stop_reason"] == "tool_use"
