"""Gemini's answers: ids of calls, usage that is not told yet, failures in mid-stream."""

from __future__ import annotations

from typing import Any

import pytest
from format_samples import CREATED_S, asked

from proxy.wire.gemini.answers import AnswerSource, call_id_seed, read_answer

PROMPT_ONLY = {"promptTokenCount": 5, "totalTokenCount": 5}


def said(*parts: Any, **fields: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"role": "model", "parts": list(parts)}}], **fields}


def source(**fields: Any) -> AnswerSource:
    return AnswerSource(asked(stream=True, **fields), CREATED_S)


def test_output_that_is_not_told_yet_is_not_zero() -> None:
    """While an answer goes on, the prompt alone says nothing of its output; a blocked prompt has
    none."""
    going = source().read(said({"text": "a"}, usageMetadata=PROMPT_ONLY))
    blocked = source().read(
        {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": PROMPT_ONLY}
    )

    assert going.usage is not None
    assert (going.usage.input or {}).get("input_uncached") == 5
    assert going.usage.output is None
    assert blocked.usage is not None
    assert sum((blocked.usage.output or {"": 1}).values()) == 0


def test_a_blocked_prompt_ends_every_choice() -> None:
    """All choices that were asked for are refused."""
    reading = source(n=3).read({"promptFeedback": {"blockReason": "SAFETY"}})

    ended = [choice for chunk in reading.chunks for choice in chunk["choices"]]
    assert [(each["index"], each["finish_reason"]) for each in ended] == [
        (index, "content_filter") for index in range(3)
    ]


@pytest.mark.parametrize("error", [{"code": 429, "status": "RESOURCE_EXHAUSTED"}, "text", 5])
def test_a_failure_in_mid_stream(error: object) -> None:
    """It is odd, and one chunk says that the answer has failed."""
    reading = source().read({"error": error})

    assert reading.is_odd
    assert reading.chunks[0]["error"]["message"]


def test_no_event_is_the_last() -> None:
    """Usage may still come after the finish reason, so nothing is taken for the end."""
    reading = source().read(
        {"candidates": [{"finishReason": "STOP"}], "usageMetadata": PROMPT_ONLY}
    )

    assert not reading.is_end


@pytest.mark.parametrize("event", [{}, {"promptFeedback": {}}, {"candidates": {}}, {"x": 1}])
def test_what_says_nothing_is_odd(event: dict[str, Any]) -> None:
    """An event that is no part of an answer gives no chunks."""
    reading = source().read(event)

    assert (reading.is_odd, list(reading.chunks), reading.usage) == (True, [], None)


def test_calls_without_an_id_get_one() -> None:
    """Unique within the answer, and short and plain enough for every vendor."""
    seed = call_id_seed("chatcmpl-" + "a/b+c=" * 20, 127)

    answer = read_answer(
        said({"functionCall": {"name": "f"}}, {"functionCall": {"name": "f"}}), asked(), CREATED_S
    )

    assert seed == "call_" + ("abc" * 8) + "_127"
    assert len(f"{seed}_999") <= 40
    assert answer is not None
    calls = answer["choices"][0]["message"]["tool_calls"]
    assert [call["id"] for call in calls] == ["call_1700000000_0_0", "call_1700000000_0_1"]
