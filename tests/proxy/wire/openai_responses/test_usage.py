"""Usage of responses: normalised, disbelieved where it cannot be, told back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.usage import COUNT_MAX, TOKEN_CLASSES, input_total, output_total
from proxy.wire.openai_responses.usage import read_response_usage, read_tools, read_usage, usage_of

COUNTS = st.integers(0, 10**6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


def usage(**fields: Any) -> dict[str, Any]:
    return {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30},
        "output_tokens": 50,
        "output_tokens_details": {"reasoning_tokens": 40},
        "total_tokens": 150,
        **fields,
    }


def test_inclusive_totals_become_disjoint_classes() -> None:
    """What was cached is a part of the input, what was thought a part of the output."""
    found = read_usage(usage())

    assert found.input == {
        "input_cache_read": 60,
        "input_cache_write_5m": 30,
        "input_uncached": 10,
    }
    assert found.output == {"output_text": 10, "output_reasoning": 40, "output_image": 0}
    assert (found.suspect, found.doubt) == (None, None)


@given(st.data())
def test_classes_sum_to_the_vendors_total(data: st.DataObject) -> None:
    """Nothing is lost and nothing counted twice."""
    given_, made = data.draw(COUNTS), data.draw(COUNTS)
    cached = data.draw(st.integers(0, given_))
    details = {
        "cached_tokens": cached,
        "cache_write_tokens": data.draw(st.integers(0, given_ - cached)),
    }
    reasoning = data.draw(st.integers(0, made))
    found = read_usage(
        usage(
            input_tokens=given_,
            input_tokens_details=details,
            output_tokens=made,
            output_tokens_details={"reasoning_tokens": reasoning},
            total_tokens=given_ + made,
        )
    )

    assert input_total(found.input or {}) == given_
    assert output_total(found.output or {}) == made
    assert (found.suspect, found.doubt) == (None, None)


def test_reasoning_beside_the_output_is_seen_in_the_total() -> None:
    """A server that leaves it out of `output_tokens` is billed for it all the same."""
    found = read_usage(usage(output_tokens=10, total_tokens=150))

    assert found.output == {"output_text": 10, "output_reasoning": 40, "output_image": 0}
    assert found.doubt is None


LIES: dict[str, dict[str, Any]] = {
    "negative": {"input_tokens": -1},
    "huge": {"output_tokens": COUNT_MAX + 1},
    "nan": {"input_tokens": float("nan")},
    "text": {"output_tokens": "50"},
    "bool": {"input_tokens": True},
    "more_cached": {"input_tokens_details": {"cached_tokens": 101}},
    "more_written": {"input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 41}},
    "cached_text": {"input_tokens_details": {"cached_tokens": "60"}},
}


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_suspect(name: str) -> None:
    """Numbers that cannot be are not believed."""
    assert read_usage(usage(**LIES[name])).suspect


ODD: dict[str, dict[str, Any]] = {
    "total": {"total_tokens": 151},
    "total_text": {"total_tokens": "150"},
    "more_reasoning": {"output_tokens_details": {"reasoning_tokens": 51}},
    "reasoning_text": {"output_tokens_details": {"reasoning_tokens": "4"}},
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_odd_is_billed_and_flagged(name: str) -> None:
    """The totals stand, and somebody is told."""
    found = read_usage(usage(**ODD[name]))

    assert found.doubt
    assert found.suspect is None
    assert output_total(found.output or {}) == 50


def test_a_side_that_is_missing_is_not_zero() -> None:
    """What was not reported is counted by us."""
    found = read_usage({"output_tokens": 5})

    assert (found.input, output_total(found.output or {})) == (None, 5)


def test_tools_of_the_vendor_are_units() -> None:
    """Web searches and images are billed beside tokens: the usage does not hold them."""
    tools = {"web_search": {"num_requests": 2}, "image_gen": {"total_tokens": 900}}
    found = read_response_usage({"usage": usage(), "tool_usage": tools})

    assert found is not None
    assert found.tools == {"web_search": 2, "image": 1}
    assert found.doubt is None


_SEARCH = {"type": "web_search_call", "action": {"type": "search", "query": "x"}}
_PAGE = {"type": "web_search_call", "action": {"type": "open_page", "url": "https://x"}}
_FILES = {"type": "file_search_call", "queries": ["a", "b"]}
_CODE = {"type": "code_interpreter_call", "container_id": "cntr_1"}
_IMAGE = {"type": "image_generation_call", "result": "aGk="}

CALLS: dict[str, tuple[list[Any], dict[str, int] | None]] = {
    "nothing": ([{"type": "message"}], None),
    "searches": ([_SEARCH, _PAGE, _SEARCH], {"web_search": 2}),
    "a search that says not what it did": ([{"type": "web_search_call"}], {"web_search": 1}),
    "a failed one": ([{**_SEARCH, "status": "failed"}], None),
    "files": ([_FILES, _FILES], {"file_search": 2}),
    "one sandbox twice": ([_CODE, _CODE], {"code_session": 1}),
    "two sandboxes": ([_CODE, {**_CODE, "container_id": "cntr_2"}], {"code_session": 2}),
    "an image": ([_IMAGE], {"image": 1}),
    "what is no item": (["x", None, {"type": 5}], None),
}


@pytest.mark.parametrize(("output", "tools"), CALLS.values(), ids=CALLS)
def test_calls_of_tools_are_counted(output: list[Any], tools: dict[str, int] | None) -> None:
    """Where no number is told, each call that is billed is one use."""
    assert read_tools({"output": output}) == tools


@given(JSON, JSON)
def test_nothing_raises(value: Any, other: Any) -> None:
    """Whatever stands there is read."""
    fields = usage(input_tokens=value, output_tokens_details=other, total_tokens=value)
    read_usage(fields)
    read_response_usage({"usage": fields, "tool_usage": value})
    read_response_usage({"usage": usage(), "tool_usage": {"web_search": other, "image_gen": value}})


@given(st.dictionaries(st.sampled_from(TOKEN_CLASSES), COUNTS))
def test_what_is_told_can_be_read_again(units: dict[str, int]) -> None:
    """Told in this format's words and read back, the totals are the same."""
    found = read_usage(usage_of(units))

    assert input_total(found.input or {}) == input_total(units)
    assert output_total(found.output or {}) == output_total(units)
    assert (found.suspect, found.doubt) == (None, None)
