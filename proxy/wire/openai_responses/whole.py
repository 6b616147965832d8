"""A whole response as a chat completion: what of it is metered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from proxy.chat import ChatRequest
from proxy.wire.openai_responses.source import ResponseSource

_TEXTS = ("content", "reasoning_content", "refusal")


def read_whole(
    answer: dict[str, Any], request: ChatRequest, *, created_s: int
) -> dict[str, Any] | None:
    """The answer as a completion; None when it is no response. It is read as a stream is that
    comes in one event."""
    if not isinstance(answer.get("output"), list):
        return None
    status = answer.get("status")
    kind = status if status in ("failed", "incomplete") else "completed"
    event = {"type": f"response.{kind}", "response": answer}
    chunks = ResponseSource(request, created_s=created_s).read(event).chunks
    completion: dict[str, Any] = {
        "id": answer.get("id"),
        "object": "chat.completion",
        "created": created_s,
        "model": answer.get("model"),
        "service_tier": answer.get("service_tier"),
    }
    choices = [choice for chunk in chunks for choice in chunk.get("choices", ())]
    last = choices[-1] if choices else {}
    message = _message(choice["delta"] for choice in choices)
    completion["choices"] = [
        {"index": 0, "message": message, "finish_reason": last.get("finish_reason")}
    ]
    for chunk in chunks:
        if error := chunk.get("error"):
            completion["error"] = error
    return completion


def _message(deltas: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The deltas put together."""
    texts: dict[str, list[str]] = {name: [] for name in _TEXTS}
    calls: dict[int, dict[str, Any]] = {}
    for delta in deltas:
        for name in _TEXTS:
            if name in delta:
                texts[name].append(delta[name])
        for call in delta.get("tool_calls", ()):
            empty = {"name": "", "arguments": ""}
            fresh = {"index": call["index"], "type": "function", "function": empty}
            kept = calls.setdefault(call["index"], fresh)
            for name, text in call["function"].items():
                kept["function"][name] += text
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts["content"]) or None}
    for name in ("reasoning_content", "refusal"):
        if texts[name]:
            message[name] = "".join(texts[name])
    if calls:
        message["tool_calls"] = list(calls.values())
    return message
