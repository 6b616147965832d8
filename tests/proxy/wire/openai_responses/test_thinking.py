"""Thinking that travels with a client: what was packed comes back, and nothing else does."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.openai_responses.thinking import known, packed, unpacked

BLOCKS = [
    {"type": "thinking", "thinking": "I add.", "signature": "c2ln"},
    {"type": "redacted_thinking", "data": "x"},
]


def test_what_was_packed_comes_back() -> None:
    """The vendor that signed it gets it as it was."""
    assert unpacked(packed(BLOCKS)) == BLOCKS


def encoded(value: Any) -> str:
    return "weir1." + base64.b64encode(orjson.dumps(value)).decode()


FOREIGN: dict[str, Any] = {
    "none": None,
    "number": 5,
    "openais": "gAAAAABo",
    "no_base64": "weir1.%%%",
    "no_json": "weir1." + base64.b64encode(b"{").decode(),
    "no_list": encoded({}),
    "empty": encoded([]),
    "number_within": encoded([5]),
    "other_kind": encoded([{"type": "text", "text": "x"}]),
    "unsigned": encoded([{"type": "thinking", "thinking": "x"}]),
    "one_good": encoded([BLOCKS[0], 5]),
    "deep": "weir1." + base64.b64encode(b"[" * 300 + b"]" * 300).decode(),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_not_ours_is_none(name: str) -> None:
    """Clients may send anything."""
    assert unpacked(FOREIGN[name]) is None


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["type", "thinking", "signature", "data", "more"]),
            st.sampled_from(["thinking", "redacted_thinking", "\ud83d", "a"]) | st.integers(),
        )
    )
)
def test_only_known_fields_pass(blocks: list[dict[str, Any]]) -> None:
    """What is packed is what comes back, of the fields that are known."""
    found = known(blocks)

    assert unpacked(packed(found)) in (found, None)
    assert all(set(block) <= {"type", "thinking", "signature", "data"} for block in found)
