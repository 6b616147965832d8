"""Messages as turns."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.anthropic_messages.turns import conversation

texts = st.text("ab", min_size=1, max_size=3)
messages = st.builds(
    lambda role, text: {"role": role, "content": text},
    st.sampled_from(["system", "developer", "user", "assistant"]),
    texts,
)


@given(st.lists(messages, max_size=8), texts)
def test_turns_alternate_and_nothing_is_lost(before: list[dict[str, Any]], last: str) -> None:
    """All that was said stands there in order, each side after the other."""
    every = [*before, {"role": "user", "content": last}]

    system, turns = conversation(every)

    for role in ("user", "assistant"):
        said = [
            block["text"] for turn in turns if turn["role"] == role for block in turn["content"]
        ]
        assert said == [each["content"] for each in every if each["role"] == role]
    told = [each["content"] for each in every if each["role"] in ("system", "developer")]
    assert [block["text"] for block in system] == told
    assert all(one["role"] != other["role"] for one, other in pairwise(turns))


def test_only_what_claude_signed_is_told_to_it_again() -> None:
    """A thought of another maker's model would have the whole request refused."""
    own = {"type": "thinking", "thinking": "Hm.", "signature": "EqQBCg=="}
    hidden = {"type": "redacted_thinking", "data": "x"}
    foreign = [{**own, "signature": each} for each in ("", "gemini:abc", None)]
    said = {"role": "assistant", "content": "Hi", "thinking_blocks": [*foreign, own, hidden]}

    _, turns = conversation([{"role": "user", "content": "Hi"}, said])

    assert turns[1]["content"] == [own, hidden, {"type": "text", "text": "Hi"}]


def test_a_result_says_that_its_tool_failed() -> None:
    """And one that did not fail says nothing of it."""
    results = [
        {"role": "tool", "tool_call_id": own, "content": "x", "is_error": failed}
        for own, failed in (("a", True), ("b", False))
    ]

    _, [turn] = conversation(results)

    assert [block.get("is_error") for block in turn["content"]] == [True, None]
