"""Events as bytes: named twice, and written whatever stands in them."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.openai_responses.events import event, written

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["\ud83d", "\ud83d\ude00"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


def test_an_event_is_named_in_its_data_too() -> None:
    """Libraries look at either."""
    assert event("a.b", 3, x=1) == (
        b'event: a.b\ndata: {"type":"a.b","sequence_number":3,"x":1}\n\n'
    )


@given(JSON)
def test_whatever_stands_there_is_written(value: Any) -> None:
    """One line of JSON, as strict readers have it: no NaN, no break in it."""

    def refuse(name: str) -> None:
        raise AssertionError(name)

    found = written(value)

    json.loads(found, parse_constant=refuse)
    assert b"\n" not in found


def test_two_halves_are_one_again() -> None:
    """A pair that came in pieces is a character where it stands together."""
    assert json.loads(written("\ud83d" + "\ude00")) == "😀"
    assert json.loads(written(["\ud83d"])) == ["\ud83d"]


def test_what_is_nested_beyond_reason_ends_somewhere() -> None:
    """An upstream may nest as deep as its reader allows; writing has its own bound."""
    value: Any = []
    for _ in range(900):
        value = [value]

    assert written(value).startswith(b"[[[")
