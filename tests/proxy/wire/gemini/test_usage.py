"""Usage in Gemini's format: disjoint classes, whatever includes what; lies not believed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.usage import COUNT_MAX, INPUT_CLASSES, OUTPUT_CLASSES
from proxy.wire.gemini.usage import read_usage


def details(**counts: int) -> list[dict[str, Any]]:
    return [{"modality": name, "tokenCount": count} for name, count in counts.items()]


USAGES: dict[str, tuple[dict[str, Any], dict[str, int], dict[str, int]]] = {
    "plain": (
        {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15},
        {"input_uncached": 10},
        {"output_text": 5},
    ),
    "thoughts_are_beside_the_candidates": (
        {
            "promptTokenCount": 10,
            "candidatesTokenCount": 5,
            "thoughtsTokenCount": 30,
            "totalTokenCount": 45,
        },
        {"input_uncached": 10},
        {"output_text": 5, "output_reasoning": 30},
    ),
    "thoughts_within_the_candidates": (
        {
            "promptTokenCount": 10,
            "candidatesTokenCount": 35,
            "thoughtsTokenCount": 30,
            "totalTokenCount": 45,
        },
        {"input_uncached": 10},
        {"output_text": 5, "output_reasoning": 30},
    ),
    "thoughts_only": (
        {"promptTokenCount": 10, "thoughtsTokenCount": 30, "totalTokenCount": 40},
        {"input_uncached": 10},
        {"output_reasoning": 30},
    ),
    "cached_is_within_and_tool_use_beside_the_prompt": (
        {
            "promptTokenCount": 100,
            "cachedContentTokenCount": 80,
            "toolUsePromptTokenCount": 7,
            "candidatesTokenCount": 1,
            "totalTokenCount": 108,
        },
        {"input_uncached": 27, "input_cache_read": 80},
        {"output_text": 1},
    ),
    "modalities": (
        {
            "promptTokenCount": 1000,
            "cachedContentTokenCount": 300,
            "candidatesTokenCount": 50,
            "totalTokenCount": 1050,
            "promptTokensDetails": details(TEXT=100, IMAGE=500, AUDIO=150, VIDEO=250),
            "cacheTokensDetails": details(TEXT=50, IMAGE=200, AUDIO=50),
            "candidatesTokensDetails": details(TEXT=10, AUDIO=25, IMAGE=15),
        },
        {"input_uncached": 300, "input_cache_read": 300, "input_audio": 100, "input_image": 300},
        {"output_text": 10, "output_audio": 25, "output_image": 15},
    ),
    "modalities_of_tool_use": (
        {
            "promptTokenCount": 10,
            "toolUsePromptTokenCount": 260,
            "candidatesTokenCount": 1,
            "totalTokenCount": 271,
            "toolUsePromptTokensDetails": details(IMAGE=258, TEXT=2),
        },
        {"input_uncached": 12, "input_image": 258},
        {"output_text": 1},
    ),
    "nothing_was_said": (
        {"promptTokenCount": 10, "totalTokenCount": 10},
        {"input_uncached": 10},
        {},
    ),
}


@pytest.mark.parametrize("name", USAGES)
def test_usage_becomes_disjoint_classes(name: str) -> None:
    """What is cached, heard, seen and thought is told once, and sums to Gemini's total."""
    usage, expected_input, expected_output = USAGES[name]

    reported = read_usage(usage)

    assert {k: v for k, v in (reported.input or {}).items() if v} == expected_input
    assert {k: v for k, v in (reported.output or {}).items() if v} == expected_output
    assert (reported.suspect, reported.doubt) == (None, None)


def test_output_that_is_not_told_is_unknown() -> None:
    """No count of candidates is none of them only where the total says so."""
    assert read_usage({"promptTokenCount": 10}).output is None
    assert read_usage({"promptTokenCount": 10, "totalTokenCount": 25}).output is None
    assert read_usage({"candidatesTokenCount": 3}).input is None


LIES = [-1, 2**53 + 1, 2**64, 1e308, 1.0, "12", True, [], {}, float("nan")]


@pytest.mark.parametrize("lie", LIES, ids=repr)
@pytest.mark.parametrize(
    "name",
    [
        "promptTokenCount",
        "candidatesTokenCount",
        "thoughtsTokenCount",
        "totalTokenCount",
        "cachedContentTokenCount",
        "toolUsePromptTokenCount",
    ],
)
def test_a_lie_is_suspected_by_name(name: str, lie: object) -> None:
    """What is no believable number of tokens is not billed, and says which field it was."""
    usage = {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15, name: lie}

    assert name in (read_usage(usage).suspect or "")


def test_more_cached_than_sent_is_suspected() -> None:
    """A cache cannot give more than the prompt has."""
    reported = read_usage({"promptTokenCount": 10, "cachedContentTokenCount": 11})

    assert "cachedContentTokenCount" in (reported.suspect or "")


ODD = {
    "total": {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 99},
    "audio_heard": {
        "promptTokenCount": 1,
        "promptTokensDetails": details(AUDIO=2),
    },
    "audio_cached": {
        "promptTokenCount": 9,
        "cachedContentTokenCount": 5,
        "cacheTokensDetails": details(AUDIO=5),
    },
    "audio_said": {"candidatesTokenCount": 1, "candidatesTokensDetails": details(AUDIO=2)},
    "image_said": {"candidatesTokenCount": 2, "candidatesTokensDetails": details(IMAGE=3)},
    "both_said": {"candidatesTokenCount": 3, "candidatesTokensDetails": details(IMAGE=2, AUDIO=2)},
}


@pytest.mark.parametrize("name", ODD)
def test_odd_numbers_are_billed_and_doubted(name: str) -> None:
    """Details that do not add up change no total, and are told."""
    reported = read_usage(ODD[name])

    assert reported.doubt
    assert reported.suspect is None
    for side, total in (
        (reported.input, "promptTokenCount"),
        (reported.output, "candidatesTokenCount"),
    ):
        assert side is None or sum(side.values()) == ODD[name][total]


counts = st.integers(0, 10_000)


@given(counts, counts, counts, counts, counts, st.data())
def test_the_classes_sum_to_the_total(
    prompt: int, tool_use: int, said: int, thought: int, cached: int, data: st.DataObject
) -> None:
    """Disjoint classes, whose sum is `totalTokenCount`, whatever the modalities."""
    cached = min(cached, prompt)
    audio, shown = data.draw(st.integers(0, prompt)), data.draw(st.integers(0, said))
    usage = {
        "promptTokenCount": prompt,
        "toolUsePromptTokenCount": tool_use,
        "candidatesTokenCount": said,
        "thoughtsTokenCount": thought,
        "cachedContentTokenCount": cached,
        "totalTokenCount": prompt + tool_use + said + thought,
        "promptTokensDetails": details(AUDIO=audio, TEXT=prompt - audio),
        "candidatesTokensDetails": details(IMAGE=shown, TEXT=said - shown),
    }

    reported = read_usage(usage)

    assert reported.input is not None
    assert reported.output is not None
    assert sum(reported.input.values()) == prompt + tool_use
    assert sum(reported.output.values()) == said + thought
    assert reported.output["output_reasoning"] == thought
    assert reported.output["output_image"] == shown
    assert min([*reported.input.values(), *reported.output.values()]) >= 0


NAMES = [
    "promptTokenCount",
    "candidatesTokenCount",
    "thoughtsTokenCount",
    "totalTokenCount",
    "cachedContentTokenCount",
    "toolUsePromptTokenCount",
    "promptTokensDetails",
    "cacheTokensDetails",
    "candidatesTokensDetails",
    "modality",
    "tokenCount",
]
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["AUDIO", "IMAGE"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(NAMES), values))
def test_any_object_is_read(usage: dict[str, Any]) -> None:
    """Whatever stands there, each side is unknown or made of believable counts."""
    reported = read_usage(usage)

    for side, classes in ((reported.input, INPUT_CLASSES), (reported.output, OUTPUT_CLASSES)):
        for name, tokens in (side or {}).items():
            assert name in classes
            assert type(tokens) is int
            assert 0 <= tokens <= 2 * COUNT_MAX
