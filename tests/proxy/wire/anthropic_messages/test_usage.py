"""Usage of the Messages API as disjoint classes: exclusive totals, running totals, lies."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.usage import INPUT_CLASSES, input_total, output_total
from proxy.wire.anthropic_messages.usage import RunningUsage, read_usage, usage_of

counts = st.integers(0, 10**6)


@given(counts, counts, counts, counts, counts, st.integers(0, 100))
def test_the_classes_add_up_to_the_total(
    plain: int, read: int, short: int, long: int, text: int, thinking: int
) -> None:
    """The input is the sum of three exclusive fields; thinking is part of the output."""
    usage = {
        "input_tokens": plain,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": short + long,
        "cache_creation": {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long},
        "output_tokens": text + thinking,
        "output_tokens_details": {"thinking_tokens": thinking},
    }

    report = read_usage(usage)

    assert report.input is not None
    assert report.output is not None
    assert input_total(report.input) == plain + read + short + long
    assert report.input["input_cache_write_1h"] == long
    assert output_total(report.output) == text + thinking
    assert report.output["output_reasoning"] == thinking
    assert (report.suspect, report.doubt) == (None, None)


@given(st.dictionaries(st.sampled_from(INPUT_CLASSES), counts), counts, counts)
def test_what_is_told_is_what_was_billed(units: dict[str, int], text: int, thinking: int) -> None:
    """Written and read again the totals are the same; sounds and images are plain input."""
    units = {**units, "output_text": text, "output_reasoning": thinking}

    again = read_usage(usage_of(units))

    assert again.suspect is None
    assert again.input is not None
    assert again.output is not None
    assert input_total(again.input) == input_total(units)
    assert again.output == {"output_text": text, "output_reasoning": thinking}
    assert again.input["input_cache_read"] == units.get("input_cache_read", 0)


def test_writes_without_a_time_are_for_five_minutes() -> None:
    """Where it is not told how long a cache is kept, it is the API's default."""
    report = read_usage({"input_tokens": 1, "cache_creation_input_tokens": 7})

    assert report.input is not None
    assert report.input["input_cache_write_5m"] == 7


def test_parts_that_are_no_sum_are_doubted() -> None:
    """The total is billed, the dearer part as far as the total goes."""
    usage = {
        "input_tokens": 1,
        "cache_creation_input_tokens": 10,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 25},
    }

    report = read_usage(usage)

    assert report.input is not None
    assert input_total(report.input) == 11
    assert report.input["input_cache_write_1h"] == 10
    assert report.doubt == "cache_creation is not the sum of its parts"


def test_more_thinking_than_output_is_doubted() -> None:
    """The total stays what it is."""
    report = read_usage({"output_tokens": 3, "output_tokens_details": {"thinking_tokens": 9}})

    assert report.output == {"output_text": 0, "output_reasoning": 3}
    assert report.doubt is not None


def test_a_compaction_is_billed_on_top() -> None:
    """What a compaction used is not part of the totals; other iterations are."""
    usage = {
        "input_tokens": 23_000,
        "output_tokens": 1000,
        "iterations": [
            {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3500},
            {"type": "message", "input_tokens": 23_000, "output_tokens": 1000},
        ],
    }

    report = read_usage(usage)

    assert report.input is not None
    assert report.output is not None
    assert input_total(report.input) == 203_000
    assert output_total(report.output) == 4500
    assert report.doubt is None


@pytest.mark.parametrize(
    ("told", "tools"),
    [
        ({"web_search_requests": 2, "web_fetch_requests": 3}, {"web_search": 2}),
        ({"web_search_requests": 0}, {}),
        ({"web_search_requests": True}, None),
        ({"web_search_requests": -1}, None),
        ({}, None),
        (None, None),
        ("many", None),
    ],
)
def test_searches_of_the_web_are_units(told: Any, tools: dict[str, int] | None) -> None:
    """They are billed apart; to fetch a page costs no more than its tokens."""
    report = read_usage({"input_tokens": 1, "output_tokens": 1, "server_tool_use": told})

    assert report.tools == tools
    assert (report.doubt, report.suspect) == (None, None)


@pytest.mark.parametrize(
    ("fields", "doubt"),
    [
        ({"speed": "standard", "inference_geo": "global"}, None),
        (
            {"iterations": [{"type": "advisor_message", "input_tokens": 9}]},
            "iterations of type advisor_message are of another model",
        ),
    ],
)
def test_what_is_billed_at_other_prices_is_noted(fields: dict[str, Any], doubt: str | None) -> None:
    """What the provider bills beside these tokens stands with the usage, which is billed."""
    report = read_usage({"input_tokens": 1, "output_tokens": 1, **fields})

    assert report.doubt == doubt
    assert report.suspect is None


@pytest.mark.parametrize(
    ("fields", "speed", "region"),
    [
        ({}, "", None),
        ({"speed": "fast", "inference_geo": "us"}, "fast", "us"),
        ({"speed": "standard", "inference_geo": "not_available"}, "standard", None),
        ({"speed": 7, "inference_geo": ["us"]}, "", None),
        ({"inference_geo": "A secret of somebody's"}, "", None),
    ],
)
def test_how_fast_and_where_is_told(fields: dict[str, Any], speed: str, region: str | None) -> None:
    """What decides on the price stands with the usage; what is no place is none."""
    report = read_usage({"input_tokens": 1, "output_tokens": 1, **fields})

    assert (report.speed, report.region, report.doubt) == (speed, region, None)


@pytest.mark.parametrize("lie", [-1, 1.5, "7", True, float("nan"), 10**10, [], {}])
@pytest.mark.parametrize(
    "name",
    [
        "input_tokens",
        "output_tokens",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
    ],
)
def test_lies_are_suspect(name: str, lie: object) -> None:
    """What cannot be a count is named, and not billed."""
    report = read_usage({"input_tokens": 5, "output_tokens": 5, name: lie})

    assert report.suspect == f"{name} is not a believable count"


def test_null_says_nothing() -> None:
    """Zero is a number; null is a side that was not reported."""
    report = read_usage({"input_tokens": None, "output_tokens": 0})

    assert report.input is None
    assert report.output == {"output_text": 0, "output_reasoning": 0}


def taken(*reports: dict[str, Any]) -> Any:
    running = RunningUsage()
    for report in reports:
        last = running.take(report)
    return last


START = {
    "input_tokens": 10,
    "cache_read_input_tokens": 900,
    "cache_creation_input_tokens": 50,
    "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 50},
    "output_tokens": 1,
}


@pytest.mark.parametrize(
    "last",
    [
        {"output_tokens": 15},
        {"output_tokens": 15, "input_tokens": 0},
        {"output_tokens": 15, "input_tokens": 0, "cache_read_input_tokens": 0},
        {"output_tokens": 15, "input_tokens": 10, "cache_read_input_tokens": 0},
        {"output_tokens": 15, "input_tokens": None, "cache_creation": None},
        {**START, "output_tokens": 15},
    ],
)
def test_the_last_report_does_not_erase_the_input(last: dict[str, Any]) -> None:
    """Running totals replace each other and are never added; zeros do not undo the input."""
    report = taken(START, last)

    assert report.input == {
        "input_uncached": 10,
        "input_cache_read": 900,
        "input_cache_write_5m": 0,
        "input_cache_write_1h": 50,
    }
    assert report.output == {"output_text": 15, "output_reasoning": 0}
    assert report.doubt is None


def test_input_may_grow() -> None:
    """Tools that run at the provider add to the input; a cache written meanwhile is kept as long
    as the one before."""
    report = taken(START, {"input_tokens": 500, "cache_creation_input_tokens": 80})

    assert report.input == {
        "input_uncached": 500,
        "input_cache_read": 900,
        "input_cache_write_5m": 0,
        "input_cache_write_1h": 80,
    }
    assert report.doubt is None


def test_an_estimate_at_the_start_is_replaced() -> None:
    """A server that learns late what was cached moves tokens, and the total stays."""
    report = taken(
        {"input_tokens": 1000, "output_tokens": 0},
        {"input_tokens": 0, "cache_read_input_tokens": 1000, "output_tokens": 3},
    )

    assert report.input is not None
    assert report.input["input_uncached"] == 0
    assert report.input["input_cache_read"] == 1000


def test_input_that_becomes_less_is_doubted() -> None:
    """The last word is billed, and the event says that it was less."""
    report = taken(START, {"input_tokens": 7, "cache_read_input_tokens": 5, "output_tokens": 2})

    assert report.input is not None
    assert report.input["input_uncached"] == 7
    assert report.doubt is not None
    assert report.doubt.startswith("reported input became less")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *START,
                    "ephemeral_5m_input_tokens",
                    "ephemeral_1h_input_tokens",
                    "output_tokens_details",
                    "thinking_tokens",
                    "server_tool_use",
                    "web_search_requests",
                    "iterations",
                    "type",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=15,
)


@given(st.lists(st.dictionaries(st.sampled_from([*START, "iterations"]), json_values), max_size=4))
def test_hostile_usage_raises_nothing(reports: list[dict[str, Any]]) -> None:
    """Whatever stands under `usage`, what is billed is counts."""
    running = RunningUsage()

    for each in reports:
        report = running.take(each)
        for side in (report.input, report.output):
            assert all(type(count) is int and count >= 0 for count in (side or {}).values())
