"""Usage in OpenAI's format: inclusive totals taken apart, lies not believed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.openai_chat.usage import read_usage

USAGES: dict[str, tuple[dict[str, Any], dict[str, int], dict[str, int]]] = {
    "plain": (
        {"prompt_tokens": 10, "completion_tokens": 5},
        {"input_uncached": 10},
        {"output_text": 5},
    ),
    "cached_and_reasoning": (
        {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "total_tokens": 150,
            "prompt_tokens_details": {"cached_tokens": 80, "audio_tokens": 5},
            "completion_tokens_details": {"reasoning_tokens": 30, "audio_tokens": 2},
        },
        {"input_uncached": 15, "input_cache_read": 80, "input_audio": 5},
        {"output_text": 18, "output_reasoning": 30, "output_audio": 2},
    ),
    "reasoning_beside_completion": (
        {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 45,
            "completion_tokens_details": {"reasoning_tokens": 30},
        },
        {"input_uncached": 10},
        {"output_text": 5, "output_reasoning": 30},
    ),
    "image_made": (
        {
            "prompt_tokens": 10,
            "completion_tokens": 1300,
            "completion_tokens_details": {"image_tokens": 1290, "reasoning_tokens": 4},
        },
        {"input_uncached": 10},
        {"output_text": 6, "output_reasoning": 4, "output_image": 1290},
    ),
    "null_details": (
        {"prompt_tokens": 3, "completion_tokens": 0, "prompt_tokens_details": None},
        {"input_uncached": 3},
        {},
    ),
}


@pytest.mark.parametrize("name", USAGES)
def test_usage_becomes_disjoint_classes(name: str) -> None:
    """Cached, audio and reasoning tokens are taken out of the totals that include them."""
    usage, expected_input, expected_output = USAGES[name]

    reported = read_usage(usage)

    assert {k: v for k, v in (reported.input or {}).items() if v} == expected_input
    assert {k: v for k, v in (reported.output or {}).items() if v} == expected_output
    assert reported.suspect is None


LIES = [-1, 2**53 + 1, 2**64, 1e308, 1.0, "12", True, [], {}]


@pytest.mark.parametrize("lie", LIES, ids=repr)
def test_a_lying_count_is_not_believed(lie: object) -> None:
    """T-26: a count that cannot be is left out and said to be suspect."""
    reported = read_usage({"prompt_tokens": 5, "completion_tokens": lie})

    assert reported.output is None
    assert reported.suspect is not None


counts = st.integers(0, 10**6)


@given(counts, counts, counts, counts, counts, counts, counts)
def test_classes_sum_to_the_total(
    prompt: int, cached: int, audio: int, image: int, completion: int, reasoning: int, spoken: int
) -> None:
    """Whatever the details say, the classes of a side sum to its total."""
    reported = read_usage(
        {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {
                "cached_tokens": cached,
                "audio_tokens": audio,
                "image_tokens": image,
            },
            "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": spoken},
        }
    )

    assert reported.input is not None
    assert sum(reported.input.values()) == prompt
    assert reported.output is not None
    assert sum(reported.output.values()) == completion


ODD = {
    "total_of_less": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 7},
    "total_of_more": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 9},
    "total_no_count": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": "8"},
    "details_over_total": {
        "prompt_tokens": 5,
        "completion_tokens": 3,
        "completion_tokens_details": {"reasoning_tokens": 4},
    },
}


@pytest.mark.parametrize("name", ODD)
def test_numbers_that_contradict_others_stand_and_are_doubted(name: str) -> None:
    """T-26: what is charged is believable by itself; that something does not fit is noted."""
    reported = read_usage(ODD[name])

    assert reported.suspect is None
    assert reported.doubt is not None
    assert sum((reported.input or {}).values()) == 5
    assert sum((reported.output or {}).values()) == 3
