"""Candidates as choices: why they ended, what their parts say, what cannot be written."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from proxy.wire.gemini.candidates import (
    Candidate,
    block_reason,
    clean,
    failure_of,
    listed,
    logprobs_of,
)


def deltas(*parts: Any) -> list[dict[str, Any]]:
    return list(Candidate("call_x_0").deltas(list(parts)))


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("BLOCKLIST", "content_filter"),
        ("SPII", "content_filter"),
        ("LANGUAGE", "content_filter"),
        ("IMAGE_SAFETY", "content_filter"),
        ("OTHER", "content_filter"),
        ("SOMETHING_NEW", "content_filter"),
    ],
)
def test_why_it_ended(reason: str, expected: str) -> None:
    """A natural end and a full answer have words of their own; all else withholds something."""
    assert Candidate("x").finish_reason(reason) == expected


def test_an_end_after_calls() -> None:
    """A natural end is OpenAI's `tool_calls` where functions are called, a cut stays one."""
    candidate = Candidate("x", calls=1)

    assert candidate.finish_reason("STOP") == "tool_calls"
    assert candidate.finish_reason("MAX_TOKENS") == "length"


def test_a_failure_is_told_with_its_reason() -> None:
    """Gemini's word and message stand in it; a safe end is no failure."""
    told = failure_of({"finishReason": "MALFORMED_FUNCTION_CALL", "finishMessage": "Bad: f("})

    assert told is not None
    assert told["code"] == "malformed_function_call"
    assert "MALFORMED_FUNCTION_CALL" in told["message"]
    assert "Bad: f(" in told["message"]
    assert failure_of({"finishReason": "SAFETY"}) is None


def test_signatures_of_calls_are_for_clients_of_both_kinds() -> None:
    """Beside the call, and as a thinking block where there was thinking and nothing else yet."""
    thought = {"text": "hm", "thought": True}
    call = {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "s"}

    after_thought = deltas(thought, call)[-1]
    after_text = deltas(thought, {"text": "so"}, call)[-1]
    alone = deltas(call)[-1]

    block = {"type": "thinking", "thinking": "hm", "signature": "gemini:s"}
    assert after_thought["thinking_blocks"] == [block]
    assert "thinking_blocks" not in after_text
    assert "thinking_blocks" not in alone
    for each in (after_thought, after_text, alone):
        google = each["tool_calls"][0]["extra_content"]["google"]
        assert google == {"thought_signature": "s"}


def test_images_are_shown() -> None:
    """A picture in an answer is told as a data URL."""
    told = deltas({"inlineData": {"mimeType": "image/png", "data": "AA"}})

    assert told == [
        {"images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]}
    ]


@pytest.mark.parametrize(
    "part",
    [
        5,
        {},
        {"text": ""},
        {"text": 5},
        {"functionCall": {}},
        {"functionCall": {"name": 5}},
        {"executableCode": {"code": "1"}},
        {"inlineData": {"mimeType": "audio/wav", "data": "AA"}},
    ],
    ids=repr,
)
def test_parts_that_say_nothing(part: object) -> None:
    """Unknown and malformed parts are passed over."""
    assert deltas(part) == []


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({"a": "\ud800"}, '{"a": "\\ud800"}'),
        ({"a": 2**70}, f'{{"a": {2**70}}}'),
        ("x", "{}"),
        (None, "{}"),
    ],
)
def test_arguments_that_are_hard_to_write(args: object, expected: str) -> None:
    """What one writer of JSON refuses another one writes; no arguments are an empty object."""
    told = deltas({"functionCall": {"name": "f", "args": args}})

    assert told[0]["tool_calls"][0]["function"]["arguments"] == expected


def test_half_a_character_can_be_written() -> None:
    """Halves of surrogate pairs become the sign for what cannot be read; pairs are joined."""
    assert clean("a\ud83d") == "a\ufffd"
    assert clean("\ud83d\udc4b") == "👋"
    assert orjson.dumps(clean("\udc4bx\ud800"))


def test_candidates_are_told_apart_by_index() -> None:
    """One without an index, or with none that can be, has its place in the list."""
    told = [{}, {"index": 5}, {"index": -1}, {"index": 10**9}, {"index": True}, "x"]

    assert [index for index, _ in listed({"candidates": told})] == [0, 5, 2, 3, 4]


def test_a_prompt_is_blocked_only_without_candidates() -> None:
    """Feedback beside an answer blocks nothing."""
    feedback = {"promptFeedback": {"blockReason": "SAFETY"}}

    assert block_reason(feedback) == "SAFETY"
    assert block_reason({**feedback, "candidates": [{}]}) is None
    assert block_reason({"promptFeedback": {"safetyRatings": []}}) is None


def test_logprobs_that_are_no_numbers() -> None:
    """A probability of none is OpenAI's least; what is missing is passed over."""
    told = logprobs_of(
        {
            "logprobsResult": {
                "chosenCandidates": [{"token": "a", "logProbability": float("-inf")}, 5],
                "topCandidates": [{"candidates": [{"token": "b"}, {}]}],
            }
        }
    )

    assert told is not None
    first, second = told["content"]
    assert first["logprob"] == -9999.0
    assert [each["token"] for each in first["top_logprobs"]] == ["b"]
    assert second == {"token": "", "logprob": 0.0, "bytes": [], "top_logprobs": []}
