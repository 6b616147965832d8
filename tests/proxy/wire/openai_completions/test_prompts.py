"""Prompts as texts and as tokens."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from wire_samples import any_json

from metering.tokenizer import tokenizer_for
from proxy.wire.openai_completions.prompts import TOKEN_MAX, count_prompts, read_prompts, text_of

GPT_4O = tokenizer_for("gpt-4o")


@pytest.mark.parametrize(
    ("value", "prompts"),
    [
        ("a", ["a"]),
        ("", [""]),
        (["a", "b"], ["a", "b"]),
        ([1, 2], [[1, 2]]),
        ([[1], [2]], [[1], [2]]),
        ([TOKEN_MAX], [[TOKEN_MAX]]),
        ([], None),
        ([[]], None),
        ([True], None),
        ([1.0], None),
        ([1, "a"], None),
        (["a", [1]], None),
        ([[1], "a"], None),
        (None, None),
        ({"a": 1}, None),
    ],
    ids=str,
)
def test_the_four_shapes_of_a_prompt(value: Any, prompts: Any) -> None:
    """A text, tokens, or a list of either; nothing else."""
    assert read_prompts(value) == prompts


def test_texts_are_scaled_and_tokens_are_not() -> None:
    """A factor for a foreign tokenizer is for what was counted with ours, once."""
    foreign = tokenizer_for("claude-3-haiku")

    assert count_prompts(GPT_4O, ["hello world", [1, 2, 3]]) == 5
    assert count_prompts(foreign, ["hello"] * 10 + [[1, 2, 3]]) == 14


def test_tokens_are_read_where_the_encoding_is_known() -> None:
    """Unknown numbers and unknown models have no text."""
    assert text_of("a", "m") == "a"
    assert text_of([24912, 2375], "gpt-4o") == "hello world"
    assert text_of([24912, 2375], "some-model") is None
    assert text_of([TOKEN_MAX], "gpt-4o") is None
    assert text_of([250_000], "gpt-4o") is None


@given(any_json())
def test_any_value_is_read_or_not(value: Any) -> None:
    """What is read can be counted and has a text or none."""
    for prompt in read_prompts(value) or []:
        assert count_prompts(GPT_4O, [prompt]) >= 0
        text_of(prompt, "gpt-4o")
