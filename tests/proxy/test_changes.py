"""What a stage changes in a body: one more system message, nothing else."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from metering.prompt import count_prompt
from metering.tokenizer import tokenizer_for
from proxy.changes import instructed, instruction_tokens

USER = {"role": "user", "content": "hi"}
SYSTEM = {"role": "system", "content": "s"}
DEVELOPER = {"role": "developer", "content": "d"}

INSTRUCTED: dict[str, tuple[list[Any], int, str]] = {
    "first": ([USER], 0, "system"),
    "after the leading": ([SYSTEM, SYSTEM, USER, SYSTEM], 2, "system"),
    "as developer": ([DEVELOPER, USER], 1, "developer"),
    "empty": ([], 0, "system"),
    "nonsense": ([7, SYSTEM], 0, "system"),
}


@pytest.mark.parametrize("name", INSTRUCTED)
def test_an_instruction_follows_the_leading_system_messages(name: str) -> None:
    """It is one more message with their role; the rest stays as it came."""
    messages, place, role = INSTRUCTED[name]
    body = {"messages": messages, "x": 1}
    before = copy.deepcopy(body)

    made = instructed(body, "be brief")

    assert made["messages"][place] == {"role": role, "content": "be brief"}
    assert [*made["messages"][:place], *made["messages"][place + 1 :]] == messages
    assert body == before


@pytest.mark.parametrize("messages", [[USER], [SYSTEM, USER], [USER, USER]])
def test_the_instruction_is_counted(messages: list[Any]) -> None:
    """What it adds is what the prompt counts more with it."""
    tokenizer = tokenizer_for("gpt-4o")
    body = {"messages": messages}
    longer = instructed(body, "Answer in one sentence.")

    assert (
        count_prompt(tokenizer, longer) - count_prompt(tokenizer, body)
        == instruction_tokens(tokenizer, "Answer in one sentence.")
        > 0
    )
