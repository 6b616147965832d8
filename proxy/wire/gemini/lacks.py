"""What of a chat request cannot be said to Gemini, by the names of OpenAI's fields.

A field that is not known here may matter to somebody, so it is named as well; hints, which change
nothing in an answer, are not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from proxy.chat import UNSUPPORTED
from proxy.wire.gemini.contents import lacks_in
from proxy.wire.gemini.generation import (
    CANDIDATES_MAX,
    EFFORTS,
    STOPS_MAX,
    calling_config,
)

_SEED_MAX = 2**31
_THINKING = ("enabled", "adaptive", "disabled")
_FORMATS = ("text", "json_object", "json_schema")
_USUAL_VERBOSITY = "medium"

_CARRIED = frozenset(
    {
        "model",
        "messages",
        "stream",
        "tools",
        "functions",
        "temperature",
        "top_p",
        "top_k",
        "presence_penalty",
        "frequency_penalty",
        "max_tokens",
        "max_completion_tokens",
        "logprobs",
        "top_logprobs",
    }
)
_LEFT_OUT = frozenset(
    {
        "user",
        "metadata",
        "store",
        "service_tier",
        "stream_options",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "prediction",
        "cache_control",
        UNSUPPORTED,
    }
)


def _is_small(value: Any, most: int) -> bool:
    return type(value) is not int or value <= most


_CHECKS: Mapping[str, Callable[[Any], bool]] = {
    "n": lambda value: _is_small(value, CANDIDATES_MAX),
    "seed": lambda value: type(value) is not int or -_SEED_MAX <= value < _SEED_MAX,
    "stop": lambda value: not isinstance(value, list) or len(value) <= STOPS_MAX,
    "tool_choice": lambda value: calling_config(value) is not None,
    "function_call": lambda value: calling_config(value) is not None,
    "parallel_tool_calls": lambda value: value is True,
    "verbosity": lambda value: value == _USUAL_VERBOSITY,
    "modalities": lambda value: value == ["text"],
    "reasoning_effort": lambda value: value in EFFORTS if isinstance(value, str) else False,
    "thinking": lambda value: isinstance(value, dict) and value.get("type") in _THINKING,
    "response_format": lambda value: not isinstance(value, dict) or value.get("type") in _FORMATS,
}
"""Fields of which only some values can be carried: whether this is one."""


def cannot_carry(chat: Mapping[str, Any]) -> list[str]:
    """The fields that are set to something that matters and has no place at Gemini."""
    lacking = []
    for name, value in chat.items():
        if value is None or name in _CARRIED or name in _LEFT_OUT:
            continue
        check = _CHECKS.get(name)
        if not check(value) if check else bool(value):
            lacking.append(name)
    tools = chat.get("tools")
    for at, tool in enumerate(tools if isinstance(tools, list) else ()):
        if isinstance(tool, dict) and tool.get("type", "function") != "function":
            lacking.append(f"tools[{at}]")
    return lacking + lacks_in(chat.get("messages"))
