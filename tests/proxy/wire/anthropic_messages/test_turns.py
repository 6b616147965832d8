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
