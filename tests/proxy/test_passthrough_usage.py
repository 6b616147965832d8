"""Usage in OpenAI's shapes becomes disjoint units, whatever it says."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.usage import COUNT_MAX, INPUT_CLASSES, OUTPUT_CLASSES
from proxy.passthrough_usage import FlatMeter, read_usage, usage_in, usage_in_event

SHAPES: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "image": (
        {
            "input_tokens": 50,
            "output_tokens": 50,
            "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
        },
        {"input_uncached": 10, "input_image": 40, "output_text": 50},
    ),
    "image_made": (
        {
            "input_tokens": 50,
            "output_tokens": 50,
            "output_tokens_details": {"text_tokens": 3, "image_tokens": 47},
        },
        {"input_uncached": 50, "output_text": 3, "output_image": 47},
    ),
    "transcription": (
        {
            "type": "tokens",
            "input_tokens": 14,
            "input_token_details": {"text_tokens": 4, "audio_tokens": 10},
            "output_tokens": 101,
        },
        {"input_uncached": 4, "input_audio": 10, "output_text": 101},
    ),
    "duration": ({"type": "duration", "seconds": 9.01}, {"second": 10}),
    "chat": (
        {
            "prompt_tokens": 10,
            "completion_tokens": 7,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 5},
        },
        {"input_uncached": 6, "input_cache_read": 4, "output_text": 2, "output_reasoning": 5},
    ),
    "nothing": ({}, {}),
    "zero": ({"input_tokens": 0, "output_tokens": 0}, {}),
}


@pytest.mark.parametrize(("said", "units"), SHAPES.values(), ids=SHAPES)
def test_shapes(said: dict[str, Any], units: dict[str, int]) -> None:
    """Each documented shape has its classes."""
    found = read_usage(said)

    assert (found.units, found.suspect) == (units, None)


LIES: dict[str, dict[str, Any]] = {
    "negative": {"input_tokens": -1},
    "huge": {"output_tokens": 10**12},
    "text": {"input_tokens": "7"},
    "truth": {"input_tokens": True},
    "seconds_text": {"type": "duration", "seconds": "9"},
    "seconds_infinite": {"type": "duration", "seconds": float("inf")},
    "parts": {"input_tokens": 5, "input_tokens_details": {"image_tokens": 9}},
}


@pytest.mark.parametrize("said", LIES.values(), ids=LIES)
def test_lies_are_named(said: dict[str, Any]) -> None:
    """What cannot be right is not believed, or billed as the total it claims, and said so."""
    assert read_usage(said).suspect is not None


NAMES = (
    "usage",
    "input_tokens",
    "output_tokens",
    "input_token_details",
    "audio_tokens",
    "cached_tokens",
    "cached_tokens_details",
    "type",
    "seconds",
    "response",
)

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(NAMES),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(json_values)
def test_any_value_is_survived(said: Any) -> None:
    """Whatever an upstream says, units are counts and their sum is the total that it said."""
    found = read_usage(said)
    usage_in(said)

    assert all(type(count) is int and 0 < count <= COUNT_MAX for count in found.units.values())
    if isinstance(said, dict) and found.units and "second" not in found.units:
        sides = [
            sum(found.units.get(each, 0) for each in classes)
            for classes in (INPUT_CLASSES, OUTPUT_CLASSES)
        ]
        assert sides == [said.get("input_tokens") or 0, said.get("output_tokens") or 0]


@given(st.binary(max_size=60))
def test_any_event_is_survived(data: bytes) -> None:
    """What is no JSON tells nothing."""
    usage_in_event(data)
    usage_in_event(b'"usage"' + data)


def test_usage_within_a_response() -> None:
    """Events of realtime sessions and of responses carry it one level down."""
    event = orjson.dumps({"type": "response.done", "response": {"usage": {"input_tokens": 3}}})

    assert usage_in_event(event).units == {"input_uncached": 3}
    assert not usage_in_event(b'{"response":{"usage":null}}').is_told


def test_a_flat_meter_bills_the_last_word() -> None:
    """A flat price until something is told; doubts stay."""
    meter = FlatMeter({"image": 1})
    before = meter.final()
    meter.doubt("odd")
    meter.bill({"output_text": 5}, told={"output_text": 5})

    assert (before.units, before.source) == ({"image": 1}, "counted")
    after = meter.final()
    assert (after.units, after.source, after.suspect) == ({"output_text": 5}, "provider", "odd")
    assert meter.output_tokens == 5
