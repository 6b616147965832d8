"""Response objects that we make ourselves: what a request asked for, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ENDED_EARLY = "max_output_tokens"
"""Why an answer is incomplete that we end: clients know it, and neither retry nor fail."""

_DEFAULTS: Mapping[str, Any] = {
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "reasoning": {"effort": None, "summary": None},
    "service_tier": None,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
"""What an answer repeats of its request, and what it says where nothing was asked for."""


def begun(
    body: Mapping[str, Any], *, response_id: str, model: str, created_s: int
) -> dict[str, Any]:
    """The response object as it stands when nothing has been said.

    `store` is false whatever was asked for: what we write is kept nowhere, so that it can neither
    be fetched nor be continued by its id. Nor does it continue another one.
    """
    asked = {
        name: default if body.get(name) is None else body[name]
        for name, default in _DEFAULTS.items()
    }
    return {
        "id": response_id,
        "object": "response",
        "created_at": created_s,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "model": model,
        "output": [],
        **asked,
        "previous_response_id": None,
        "store": False,
        "usage": None,
    }


def ended(
    response: Mapping[str, Any],
    output: list[dict[str, Any]],
    usage: Mapping[str, Any],
    *,
    incomplete: str | None = None,
) -> dict[str, Any]:
    """The same when all has been said; `incomplete` is why it is not all there could have been."""
    return {
        **response,
        "status": "completed" if incomplete is None else "incomplete",
        "incomplete_details": None if incomplete is None else {"reason": incomplete},
        "output": output,
        "usage": usage,
    }
