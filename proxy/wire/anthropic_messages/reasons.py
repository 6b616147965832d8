"""Why an answer ended: Anthropic's words and OpenAI's."""

from __future__ import annotations

_FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
    # a turn of server tools that was interrupted, or a context that was made shorter: what came is
    # whole, and the client says whether it goes on
    "pause_turn": "stop",
    "compaction": "stop",
}

END = "end_turn"
"""The model had said all it wanted to."""

_STOP_REASONS = {
    "stop": END,
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}


def finish_reason(stop_reason: object) -> str | None:
    """OpenAI's word for a `stop_reason`: `stop` for one that is not known; None when there is none
    yet."""
    if not isinstance(stop_reason, str) or not stop_reason:
        return None
    return _FINISH_REASONS.get(stop_reason, "stop")


def stop_reason(finish_reason: object) -> str:
    """Anthropic's word for a `finish_reason`: `end_turn` for one that is unknown, and for none."""
    return _STOP_REASONS.get(finish_reason, END) if isinstance(finish_reason, str) else END
