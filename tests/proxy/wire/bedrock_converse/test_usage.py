"""Usage of Converse: four exclusive numbers, taken apart by how long the cache keeps them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.usage import COUNT_MAX, TOKEN_CLASSES, is_count
from proxy.wire.bedrock_converse.usage import read_usage

COUNTS = st.integers(0, 10**6)


@given(COUNTS, COUNTS, COUNTS, COUNTS, st.integers(0, 10**6))
def test_the_classes_sum_to_the_total(
    fresh: int, read: int, long: int, short: int, output: int
) -> None:
    """Nothing is billed twice and nothing is lost, with the cache and without."""
    total = fresh + read + long + short + output
    usage = {
        "inputTokens": fresh,
        "outputTokens": output,
        "cacheReadInputTokens": read,
        "cacheWriteInputTokens": long + short,
        "cacheDetails": [{"ttl": "1h", "inputTokens": long}, {"ttl": "5m", "inputTokens": short}],
        "totalTokens": total,
    }

    found = read_usage(usage)

    assert found.input is not None
    assert found.output is not None
    assert sum(found.input.values()) + sum(found.output.values()) == total
    assert found.input["input_cache_write_1h"] == long
    assert found.input["input_cache_write_5m"] == short
    assert (found.suspect, found.doubt) == (None, None)


def test_a_write_without_details_is_kept_five_minutes() -> None:
    """That is what is written where nothing else was asked for."""
    found = read_usage({"inputTokens": 1, "outputTokens": 2, "cacheWriteInputTokens": 7})

    assert found.input is not None
    assert found.input["input_cache_write_5m"] == 7


def test_details_without_a_sum_are_the_sum() -> None:
    """What was written is billed, in whichever field it stands."""
    details = [{"ttl": "1h", "inputTokens": 5}, {"ttl": "5m", "inputTokens": 2}]

    found = read_usage({"inputTokens": 1, "outputTokens": 2, "cacheDetails": details})

    assert found.input is not None
    assert found.input["input_cache_write_1h"] == 5
    assert found.input["input_cache_write_5m"] == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"totalTokens": 4},
        {"totalTokens": "3"},
        {"totalTokens": 3, "cacheReadInputTokens": 9},
        {"cacheWriteInputTokens": 3, "cacheDetails": [{"ttl": "1h", "inputTokens": 9}]},
    ],
)
def test_numbers_that_do_not_add_up_are_doubted(fields: dict[str, Any]) -> None:
    """They are billed as the documentation says, and what is odd about them is noted."""
    found = read_usage({"inputTokens": 1, "outputTokens": 2, **fields})

    assert found.suspect is None
    assert found.doubt is not None
    assert found.input is not None
    assert found.input["input_cache_write_1h"] in {0, 3}


@pytest.mark.parametrize(
    "name", ["inputTokens", "outputTokens", "cacheReadInputTokens", "cacheWriteInputTokens"]
)
@pytest.mark.parametrize("lie", [-1, COUNT_MAX + 1, 1.5, float("nan"), "7", True, [], {}])
def test_a_number_that_cannot_be_is_not_believed(name: str, lie: object) -> None:
    """Negative, huge, broken, text: the report is suspect, and says which number."""
    found = read_usage({"inputTokens": 1, "outputTokens": 2, name: lie})

    assert found.suspect is not None
    assert name in found.suspect


def test_a_side_that_is_missing_is_missing() -> None:
    """Zero is a number, and nothing is not zero."""
    assert read_usage({"outputTokens": 0}).input is None
    assert read_usage({"outputTokens": 0}).output == {"output_text": 0}
    assert read_usage({"inputTokens": 0}).output is None
    assert read_usage({}).suspect is None


NAMES = st.sampled_from(
    [
        *("inputTokens", "outputTokens", "totalTokens", "cacheReadInputTokens"),
        *("cacheWriteInputTokens", "cacheDetails", "ttl"),
    ]
)
VALUES = st.recursive(
    st.none() | st.integers() | st.floats() | st.text() | st.booleans() | st.just("1h"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(NAMES, VALUES))
def test_whatever_is_reported_the_classes_are_counts(usage: dict[str, Any]) -> None:
    """No report makes a class negative, and none is of another kind."""
    found = read_usage(usage)

    for side in (found.input, found.output):
        for name, count in (side or {}).items():
            assert name in TOKEN_CLASSES
            assert count >= 0
            assert type(count) is int
            assert is_count(count) or found.doubt or name.startswith("input_cache_write")
