"""How much is thought, said in another way."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.thinking import effort_of

EFFORTS: dict[str, tuple[dict[str, Any], str | None]] = {
    "least_budget": ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "low"),
    "below_medium": ({"thinking": {"type": "enabled", "budget_tokens": 8191}}, "low"),
    "medium": ({"thinking": {"type": "enabled", "budget_tokens": 8192}}, "medium"),
    "high": ({"thinking": {"type": "enabled", "budget_tokens": 24576}}, "high"),
    "no_budget": ({"thinking": {"type": "enabled"}}, None),
    "word_budget": ({"thinking": {"type": "enabled", "budget_tokens": "9"}}, None),
    "negative_budget": ({"thinking": {"type": "enabled", "budget_tokens": -5}}, None),
    "disabled": ({"thinking": {"type": "disabled", "budget_tokens": 5}}, None),
    "adaptive": ({"thinking": {"type": "adaptive"}}, None),
    "no_object": ({"thinking": [1]}, None),
    "asked_for": (
        {"thinking": {"type": "enabled", "budget_tokens": 9}, "reasoning_effort": "max"},
        "max",
    ),
    "nothing": ({}, None),
}


@pytest.mark.parametrize("name", EFFORTS)
def test_a_budget_becomes_an_effort(name: str) -> None:
    """What was asked for goes first; else the budget says, where it is one."""
    chat, effort = EFFORTS[name]

    assert effort_of(chat) == effort
