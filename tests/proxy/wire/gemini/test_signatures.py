"""Thought signatures: found where clients keep them, and only Gemini's own."""

from __future__ import annotations

import pytest

from proxy.wire.gemini.signatures import (
    extra_content,
    must_sign,
    signature_in,
    signature_in_blocks,
    thinking_block,
)


def test_a_signature_comes_back_from_where_it_was_put() -> None:
    """Both places of it give the same signature."""
    assert signature_in({"extra_content": extra_content("sig")}) == "sig"
    assert signature_in_blocks([thinking_block("hm", "sig")]) == "sig"


@pytest.mark.parametrize(
    "blocks",
    [
        None,
        "gemini:sig",
        [],
        ["gemini:sig"],
        [{"signature": 5}],
        [{"type": "thinking", "signature": "EqQBanthropic"}],
        [{"type": "redacted_thinking", "data": "gemini:x"}],
        [{"signature": "gemini:"}],
    ],
    ids=repr,
)
def test_a_foreign_signature_is_none(blocks: object) -> None:
    """What another vendor signed, or nobody, is not told to Gemini."""
    assert signature_in_blocks(blocks) is None


@pytest.mark.parametrize(
    "holder",
    [
        {},
        {"extra_content": "x"},
        {"extra_content": {"google": []}},
        {"extra_content": {"google": {"thought_signature": 5}}},
    ],
    ids=repr,
)
def test_a_malformed_holder_has_none(holder: dict[str, object]) -> None:
    """Wrong types hold no signature."""
    assert signature_in(holder) is None


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("gemini-2.5-flash", False),
        ("models/gemini-2.0-flash-001", False),
        ("gemini-3-pro-preview", True),
        ("gemini-3.5-flash", True),
        ("gemini-10-flash", True),
        ("gemini-flash-latest", True),
        ("gemma-3-27b-it", True),
    ],
)
def test_who_wants_signatures(model: str, expected: bool) -> None:
    """The third generation and later; a name that tells no generation is a present one."""
    assert must_sign(model) is expected
