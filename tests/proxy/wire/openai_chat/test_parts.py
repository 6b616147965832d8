"""Content in parts, made plain."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.openai_chat.parts import plain

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "text", "thinking", "content", "reasoning", "delta"]),
            inner | st.sampled_from(["text", "thinking", "image_url"]),
            max_size=4,
        )
    ),
    max_leaves=12,
)


def test_texts_and_thoughts_are_told_apart() -> None:
    """As Mistral's thinking models say them; pictures go where all formats look for them."""
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    picture = {"type": "image_url", "image_url": {"url": "data:,"}}
    said = {"content": [thought, {"type": "text", "text": "a"}, picture, "b", {"type": "odd"}]}

    made = plain({"id": "x", "choices": [{"index": 0, "delta": said}]}, "delta")

    assert made == {
        "id": "x",
        "choices": [
            {
                "index": 0,
                "delta": {
                    "content": "ab",
                    "reasoning_content": "hm",
                    "images": [picture],
                    "parts": [{"type": "odd"}],
                },
            }
        ],
    }


def test_what_is_plain_is_not_touched() -> None:
    """Nearly every chunk is the same object before and after."""
    chunk = {"choices": [{"index": 0, "delta": {"content": "a"}}]}

    assert plain(chunk, "delta") is chunk


@given(st.lists(JSON, max_size=3))
def test_any_json_is_made_plain(choices: list[Any]) -> None:
    """Nothing in it can be trusted, and no content is a list afterwards."""
    made = plain({"choices": choices}, "delta")

    for choice in made["choices"]:
        said = choice.get("delta") if isinstance(choice, dict) else None
        assert not isinstance(said, dict) or not isinstance(said.get("content"), list)
