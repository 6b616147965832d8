"""How much a model is to think: OpenAI's effort in the two ways that Claude models have for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxy.errors import InvalidRequest
from proxy.wire.anthropic_messages.models import always_thinks, thinks_adaptively

_EFFORTS = {
    "none": "low",  # of a model that cannot be told not to think
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "max",
}
_BUDGETS = {
    "minimal": 1024,
    "low": 1024,
    "medium": 2048,
    "high": 4096,
    "xhigh": 8192,
    "max": 16_384,
}
"""Tokens to think with, for models that want a number. They are part of `max_tokens`."""

_BUDGET_MIN = 1024


def thinking_fields(
    chat: Mapping[str, Any], *, model: str, max_tokens: int, is_unthinking: bool
) -> dict[str, Any]:
    """The fields `thinking` and `effort` for a request; those that are not needed are left out.

    `thinking` of the request goes first: it is Anthropic's own. A budget is made to fit below
    `max_tokens`, and where less than the least is left there is none. `is_unthinking` is whether
    the model is in the middle of calling tools without its thoughts of before.
    """
    effort, own = chat.get("reasoning_effort"), chat.get("thinking")
    if effort is not None and _EFFORTS.get(_word(effort)) is None:
        known = ", ".join(_EFFORTS)
        raise InvalidRequest(
            f"`reasoning_effort` must be one of: {known}.", param="reasoning_effort"
        )
    if own is not None and not isinstance(own, dict):
        raise InvalidRequest("`thinking` must be an object.", param="thinking")
    if own is not None:
        is_late = own.get("type") == "enabled" and is_unthinking
        fields = {} if is_late else fitted({"thinking": own}, max_tokens)
        return {**fields, **({} if effort == "none" else _effort(effort))}
    if effort is None:
        return {}
    if thinks_adaptively(model):
        if effort == "none" and not always_thinks(model):
            return {"thinking": {"type": "disabled"}}
        return {"thinking": {"type": "adaptive"}, **_effort(effort)}
    if effort == "none" or is_unthinking:
        return {}
    budget = _BUDGETS[effort]
    return fitted({"thinking": {"type": "enabled", "budget_tokens": budget}}, max_tokens)


def fitted(body: dict[str, Any], max_tokens: int) -> dict[str, Any]:
    """The body with a budget that is less than `max_tokens`, as the API wants it; without thinking
    where that would be less than the least there is."""
    thinking = body.get("thinking")
    budget = thinking.get("budget_tokens") if isinstance(thinking, Mapping) else None
    if not isinstance(thinking, Mapping) or type(budget) is not int or budget < max_tokens:
        return body
    if max_tokens <= _BUDGET_MIN:
        return {name: value for name, value in body.items() if name != "thinking"}
    return {**body, "thinking": {**thinking, "budget_tokens": max_tokens - 1}}


def _effort(effort: object) -> dict[str, str]:
    found = _EFFORTS.get(_word(effort))
    return {} if found is None else {"effort": found}


def _word(value: object) -> str:
    return value if isinstance(value, str) else ""
