"""A whole message as a chat completion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxy import json_bounds
from proxy.chat import ChatRequest
from proxy.wire.anthropic_messages.reasons import finish_reason

FORMAT = "anthropic_messages"
SERVER_TOOLS = ("server_tool_use", "mcp_tool_use")
"""Calls of tools that run at the provider. The model's words all the same, so they are metered; but
a client of another format has not asked for them, and could not answer them."""

_READ = ("text", "thinking", "redacted_thinking", "tool_use", *SERVER_TOOLS)
"""Blocks of which more is told than their size; a client of this format gets the others, too."""

_SERVICE_TIERS = {"standard": "default"}


def read_whole(
    answer: dict[str, Any], request: ChatRequest, *, created_s: int
) -> dict[str, Any] | None:
    """A whole answer as a chat completion, without usage; None when it is no message."""
    blocks = answer.get("content")
    if answer.get("type", "message") != "message" or not isinstance(blocks, list):
        return None
    said = [block for block in blocks if isinstance(block, dict)]
    choice: dict[str, Any] = {
        "index": 0,
        "message": _message(said, relays=request.format == FORMAT),
        "logprobs": None,
        "finish_reason": finish_reason(answer.get("stop_reason")) or "stop",
    }
    if isinstance(stop := answer.get("stop_sequence"), str):
        choice["stop_sequence"] = stop
    return {
        **shared_fields(answer, created_s=created_s),
        "object": "chat.completion",
        "choices": [choice],
    }


def shared_fields(message: Mapping[str, Any], *, created_s: int) -> dict[str, Any]:
    """What stands in a completion and in every chunk of one: whose it is, and which."""
    usage = message.get("usage")
    tier = usage.get("service_tier") if isinstance(usage, Mapping) else None
    shared = {
        "id": _text(message.get("id")),
        "object": "chat.completion.chunk",
        "created": created_s,
        "model": _text(message.get("model")),
    }
    if isinstance(tier, str):
        shared["service_tier"] = _SERVICE_TIERS.get(tier, tier)
    return shared


def arguments_of(value: object) -> str:
    """The input of a tool as OpenAI has it: as text."""
    return json_bounds.text_of(value if isinstance(value, dict) else {})


def _message(blocks: list[dict[str, Any]], *, relays: bool) -> dict[str, Any]:
    spoken = {"text": "text", "compaction": "content"} if relays else {"text": "text"}
    text = "".join(
        _text(block.get(spoken[kind]))
        for block in blocks
        if isinstance(kind := block.get("type"), str) and kind in spoken
    )
    thought = "".join(
        _text(block.get("thinking")) for block in blocks if block.get("type") == "thinking"
    )
    kinds = ("tool_use", *SERVER_TOOLS) if relays else ("tool_use",)
    calls = [tool_call(block) for block in blocks if block.get("type") in kinds]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": text if text or not calls else None,
        "refusal": None,
    }
    if thought:
        message["reasoning_content"] = thought
    if kept := [kept_of(block) for block in blocks if is_kept(block)]:
        message["thinking_blocks"] = kept
    if calls:
        message["tool_calls"] = calls
    if relays and (rest := [block for block in blocks if block.get("type") not in _READ]):
        message["parts"] = [{**block, "type": None, "tool_use_id": None} for block in rest]
    return message


def is_kept(block: Mapping[str, Any]) -> bool:
    """Whether the model wants this block back as it is: its thinking, where it is signed."""
    if block.get("type") == "redacted_thinking":
        return isinstance(block.get("data"), str)
    return block.get("type") == "thinking" and bool(_text(block.get("signature")))


def kept_of(block: Mapping[str, Any]) -> dict[str, Any]:
    """Such a block with the fields that belong to one: what else a server puts there may be too
    deep to be written, and none of it is wanted back."""
    if block["type"] == "redacted_thinking":
        return {"type": "redacted_thinking", "data": block["data"]}
    thinking, signature = _text(block.get("thinking")), block["signature"]
    return {"type": "thinking", "thinking": thinking, "signature": signature}


def tool_call(block: Mapping[str, Any]) -> dict[str, Any]:
    """A block that calls a tool as OpenAI has calls."""
    function = {"name": _text(block.get("name")), "arguments": arguments_of(block.get("input"))}
    return {"id": _text(block.get("id")), "type": "function", "function": function}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
