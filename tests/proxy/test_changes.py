"""What a stage changes in a body: a bound, one more system message, nothing else."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from metering.prompt import count_prompt
from metering.tokenizer import tokenizer_for
from proxy.changes import changed, instruction_tokens
from routing.degrade import NO_CHANGES, Changes

USER = {"role": "user", "content": "hi"}
SYSTEM = {"role": "system", "content": "s"}
DEVELOPER = {"role": "developer", "content": "d"}

BOUNDS: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "unset": ({}, "gpt-4o", {"max_tokens": 5}),
    "unset, reasoning": ({}, "openai/o3-mini", {"max_completion_tokens": 5}),
    "unset, gpt-5": ({}, "gpt-5.2", {"max_completion_tokens": 5}),
    "old field": ({"max_tokens": 9}, "o1", {"max_tokens": 5}),
    "new field": ({"max_completion_tokens": 9}, "m", {"max_completion_tokens": 5}),
    "both": (
        {"max_tokens": 3, "max_completion_tokens": 9},
        "m",
        {"max_tokens": 3, "max_completion_tokens": 5},
    ),
    "null": ({"max_tokens": None}, "m", {"max_tokens": 5}),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_the_bound_goes_into_the_field_in_use(name: str) -> None:
    """The client's own field is lowered, never raised; else the one that the model knows is set."""
    body, model, bounds = BOUNDS[name]

    assert changed(body, Changes(5), model=model) == {**body, **bounds}


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

    made = changed(body, Changes(instruct="be brief"), model="m")

    assert made["messages"][place] == {"role": role, "content": "be brief"}
    assert [*made["messages"][:place], *made["messages"][place + 1 :]] == messages
    assert body == before


def test_no_changes_leave_the_very_body() -> None:
    """Nothing is copied where nothing changes."""
    body = {"messages": [USER]}

    assert changed(body, NO_CHANGES, model="m") is body


@pytest.mark.parametrize("messages", [[USER], [SYSTEM, USER], [USER, USER]])
def test_the_instruction_is_counted(messages: list[Any]) -> None:
    """What it adds is what the prompt counts more with it."""
    tokenizer = tokenizer_for("gpt-4o")
    body = {"messages": messages}
    longer = changed(body, Changes(instruct="Answer in one sentence."), model="gpt-4o")

    assert (
        count_prompt(tokenizer, longer) - count_prompt(tokenizer, body)
        == instruction_tokens(tokenizer, "Answer in one sentence.")
        > 0
    )
