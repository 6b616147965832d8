"""How much a model at Bedrock is to think: in the words of its maker.

Claude has the same fields here as at Anthropic, so they are written by the same rules. Makers that
are told an effort are told that one; what an ARN stands for is not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from proxy.chat import OUTPUT_TOKENS_MAX
from proxy.errors import InvalidRequest
from proxy.thinking import effort_of
from proxy.wire.anthropic_messages.thinking import fitted, thinking_fields

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def is_claude(model: str) -> bool:
    """Whether the id says that Anthropic made the model."""
    return "anthropic." in model


def is_nova(model: str) -> bool:
    """Whether the id says that it is one of Amazon's Nova models."""
    return "amazon.nova" in model


def add_thinking(
    body: dict[str, Any], fields: dict[str, Any], chat: Mapping[str, Any], *, model: str
) -> None:
    """Write `thinking` and `reasoning_effort` of the chat into the body, whose turns and limit are
    there, and into the fields of the model."""
    thinking, effort = chat.get("thinking"), chat.get("reasoning_effort")
    if thinking is not None and not isinstance(thinking, dict):
        raise InvalidRequest("`thinking` must be an object.", param="thinking")
    if effort is not None and effort not in EFFORTS:
        known = ", ".join(EFFORTS)
        raise InvalidRequest(
            f"`reasoning_effort` must be one of {known}.", param="reasoning_effort"
        )
    limit = body.get("inferenceConfig", {}).get("maxTokens", OUTPUT_TOKENS_MAX)
    if is_claude(model):
        found = thinking_fields(
            chat,
            model=model,
            max_tokens=limit,
            is_unthinking=is_unthinking_loop(body["messages"]),
        )
        if "thinking" in found:
            fields["thinking"] = found["thinking"]
        if "effort" in found:
            _add_level(body, found["effort"])
        return
    # the field is Claude's own; what an ARN stands for is not known
    if thinking is not None and model.startswith("arn:"):
        fields.update(fitted({"thinking": thinking}, limit))
    else:
        effort = effort_of(chat)
    if effort is not None:
        _add_effort(body, fields, effort, model)


def is_unthinking_loop(turns: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the model is in the middle of calling tools and its thoughts of before were not sent
    back: then Claude must not be asked to think, with a budget."""
    if not turns or turns[-1]["role"] != "user" or "toolResult" not in turns[-1]["content"][0]:
        return False
    before = turns[-2]["content"] if len(turns) > 1 else []
    return not before or "reasoningContent" not in before[0]


def _add_effort(body: dict[str, Any], fields: dict[str, Any], effort: str, model: str) -> None:
    level = "low" if effort == "minimal" else effort
    if "openai." in model and "gpt-oss" not in model:
        fields["reasoning"] = {"effort": level}
    elif effort == "none":
        return  # the others do not reason unless they are asked to, or cannot do without
    elif "gpt-oss" in model or "moonshot" in model:
        fields["reasoning_effort"] = level
    elif is_nova(model):
        fields["reasoningConfig"] = {"type": "enabled", "maxReasoningEffort": level}
    else:
        _add_level(body, level)


def _add_level(body: dict[str, Any], level: str) -> None:
    body["outputConfig"] = {**body.get("outputConfig", {}), "effort": level}
