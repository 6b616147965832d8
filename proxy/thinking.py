"""How much a model is to think, for those that are told so by an effort and not in tokens. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_BUDGETS = ((24_576, "high"), (8_192, "medium"), (1, "low"))
"""From so many tokens on, which effort: Google's table for its OpenAI-compatible endpoint, the only
published one between the two scales."""


def effort_of(chat: Mapping[str, Any]) -> Any:
    """The effort of a request: what it says itself, else what the budget of its `thinking` comes
    to; None where it leaves that to the model."""
    effort, thinking = chat.get("reasoning_effort"), chat.get("thinking")
    if effort is not None or not isinstance(thinking, Mapping):
        return effort
    budget = thinking.get("budget_tokens")
    if thinking.get("type") != "enabled" or type(budget) is not int or budget <= 0:
        return None
    return next(word for least, word in _BUDGETS if budget >= least)
