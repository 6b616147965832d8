"""How much is said in a place that nobody reads."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.unread import size_of

DEEP: list[Any] = []
for _ in range(100_000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("hello", 5),
        ({"a": "hello", "b": ["x", {"c": "yz"}]}, 8),
        ({"a": 1, "b": None, "c": True, "d": 1e300}, 0),
        ("word " * 1000, 5000),
        ("A" * 1_310_720, 5120),
        ("ä" * 2000, 2000),
        (DEEP, 0),
    ],
    ids=["text", "nested", "numbers", "long_text", "picture", "no_base64", "deep"],
)
def test_texts_weigh_what_they_have_and_media_a_token_per_thousand(value: Any, size: int) -> None:
    """Four characters are a token to the meter; a picture of 1.3 MB comes to 1280."""
    assert size_of(value) == size
