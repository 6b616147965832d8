"""A whole chat completion as a message, and what the two formats call the same thing.

Usage is exclusive here: `input_tokens` has neither what was read from a cache nor what was written
to one. `output_tokens` is inclusive, and thinking is told beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from metering.usage import (
    INPUT_AUDIO,
    INPUT_CACHE_READ,
    INPUT_CACHE_WRITE_1H,
    INPUT_CACHE_WRITE_5M,
    INPUT_IMAGE,
    INPUT_UNCACHED,
    OUTPUT_REASONING,
    output_total,
)
from proxy import json_bounds
from proxy.wire.anthropic_messages.reasons import END, stop_reason

_TIERS = {"default": "standard", "priority": "priority", "batch": "batch"}

UNREADABLE = "INVALID_JSON"
"""Under this name stands what a model gave a tool that is no JSON object: the shape in which
Anthropic's guide to fine-grained tool streaming gives such input back to a model."""


def usage_of(units: Mapping[str, int]) -> dict[str, Any]:
    """Token classes as this format tells usage. It knows no classes for media."""
    written_5m = units.get(INPUT_CACHE_WRITE_5M, 0)
    written_1h = units.get(INPUT_CACHE_WRITE_1H, 0)
    plain = (INPUT_UNCACHED, INPUT_AUDIO, INPUT_IMAGE)
    usage: dict[str, Any] = {
        "input_tokens": sum(units.get(name, 0) for name in plain),
        "cache_creation_input_tokens": written_5m + written_1h,
        "cache_read_input_tokens": units.get(INPUT_CACHE_READ, 0),
        "cache_creation": {
            "ephemeral_5m_input_tokens": written_5m,
            "ephemeral_1h_input_tokens": written_1h,
        },
        "output_tokens": output_total(units),
    }
    if thinking := units.get(OUTPUT_REASONING, 0):
        usage["output_tokens_details"] = {"thinking_tokens": thinking}
    return usage


def tier_of(answer: Mapping[str, Any]) -> dict[str, str]:
    """The service tier as a field of usage; nothing where this format has no word for it."""
    tier = answer.get("service_tier")
    return {"service_tier": _TIERS[tier]} if isinstance(tier, str) and tier in _TIERS else {}


def stop_of(
    choice: Mapping[str, Any], stops: Sequence[str], *, has_calls: bool, is_refusal: bool
) -> tuple[str, str | None]:
    """Why the answer ended, and the stop sequence that was met.

    A server that calls tools and says `stop` means `tool_calls`. One may say which stop it met in
    `stop_reason`, as vLLM does.
    """
    found = stop_reason(choice.get("finish_reason"))
    if found != END:
        return found, None
    if has_calls:
        return "tool_use", None
    met = choice.get("stop_sequence") or choice.get("stop_reason")
    if isinstance(met, str) and met in stops:
        return "stop_sequence", met
    return "refusal" if is_refusal else END, None


def message_id(answer: Mapping[str, Any]) -> str:
    """The answer's own id under the usual first letters, so that it can be traced."""
    own = answer.get("id")
    if not isinstance(own, str) or not own:
        return "msg_unnamed"
    return own if own.startswith("msg_") else f"msg_{own.removeprefix('chatcmpl-')}"


def call_id(given: str, message: str, position: int) -> str:
    """The id of a tool call; one is made where the server gave none, since results name it."""
    if given:
        return given
    plain = "".join(each for each in message if each.isascii() and (each.isalnum() or each == "_"))
    return f"toolu_{plain}_{position}"


def message_of(
    completion: Mapping[str, Any],
    units: Mapping[str, int],
    *,
    model: str,
    stops: Sequence[str],
) -> dict[str, Any]:
    """The message; `model` is what was asked for, told where the answer does not say."""
    choice = _first(completion.get("choices"))
    said = choice.get("message")
    said = said if isinstance(said, dict) else {}
    own_id, own_model = message_id(completion), completion.get("model")
    calls = _calls(said, own_id)
    refusal = said.get("refusal")
    content = [*_thinking(said), *_texts(said), *calls]
    reason, met = stop_of(
        choice, stops, has_calls=bool(calls), is_refusal=bool(refusal and isinstance(refusal, str))
    )
    return {
        "id": own_id,
        "type": "message",
        "role": "assistant",
        "model": own_model if isinstance(own_model, str) and own_model else model,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": met,
        "usage": {**usage_of(units), **tier_of(completion)},
    }


def thought_of(said: Mapping[str, Any]) -> str:
    """The text of the thinking; servers that have both names send the same under each."""
    thought = said.get("reasoning_content") or said.get("reasoning")
    return thought if isinstance(thought, str) else ""


def blocks_of(said: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The thinking blocks that an upstream wants back as they were, as far as they are ones."""
    blocks = said.get("thinking_blocks")
    found: list[dict[str, Any]] = []
    for block in blocks if isinstance(blocks, list) else ():
        if not isinstance(block, dict):
            continue
        if block.get("type") == "redacted_thinking" and isinstance(block.get("data"), str):
            found.append({"type": "redacted_thinking", "data": block["data"]})
        elif block.get("type") == "thinking":
            thinking, signature = block.get("thinking"), block.get("signature")
            found.append(
                {
                    "type": "thinking",
                    "thinking": thinking if isinstance(thinking, str) else "",
                    "signature": signature if isinstance(signature, str) else "",
                }
            )
    return found


def _thinking(said: Mapping[str, Any]) -> list[dict[str, Any]]:
    blocks, thought = blocks_of(said), thought_of(said)
    if thought and not any(block.get("thinking") for block in blocks):
        return [{"type": "thinking", "thinking": thought, "signature": ""}, *blocks]
    return blocks


def _texts(said: Mapping[str, Any]) -> list[dict[str, Any]]:
    texts = [said.get("content"), said.get("refusal")]
    return [{"type": "text", "text": each} for each in texts if each and isinstance(each, str)]


def _calls(said: Mapping[str, Any], message: str) -> list[dict[str, Any]]:
    given = said.get("tool_calls")
    calls = [each for each in given if isinstance(each, dict)] if isinstance(given, list) else []
    if isinstance(said.get("function_call"), dict):
        calls.append({"function": said["function_call"]})
    found = []
    for at, call in enumerate(calls):
        function, own = call.get("function"), call.get("id")
        function = function if isinstance(function, dict) else {}
        name = function.get("name")
        found.append(
            {
                "type": "tool_use",
                "id": call_id(own if isinstance(own, str) else "", message, at),
                "name": name if isinstance(name, str) else "",
                "input": _input(function.get("arguments")),
            }
        )
    return found


def _input(arguments: object) -> dict[str, Any]:
    """The arguments as the object that a tool's input is here; as they came if they are none."""
    if isinstance(arguments, dict):  # as some servers have it; how deep it is, nobody has looked
        try:
            arguments = orjson.dumps(arguments).decode()
        except orjson.JSONEncodeError:
            return {UNREADABLE: "nested too deeply"}
    if not isinstance(arguments, str) or not arguments.strip():
        return {}
    raw = arguments.encode("utf-8", "surrogatepass")
    if json_bounds.fault_in(raw) is None:
        try:
            found = orjson.loads(raw)
        except orjson.JSONDecodeError:
            found = None
        if isinstance(found, dict):
            return found
    return {UNREADABLE: arguments}


def _first(choices: object) -> Mapping[str, Any]:
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}
