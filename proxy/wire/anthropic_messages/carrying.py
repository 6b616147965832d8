"""What of a chat request has no place in the Messages API.

Everything is looked at from the other side: what is not known to be carried, and not known to be a
hint that changes no answer, is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from proxy.chat import UNSUPPORTED
from proxy.conversation import told_apart

_CARRIED = frozenset(
    {
        "model",
        "messages",
        "stream",
        "max_tokens",
        "max_completion_tokens",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "stop",
        "temperature",
        "top_p",
        "top_k",
        "response_format",
        "reasoning_effort",
        "thinking",
        "user",
        "safety_identifier",
        "service_tier",
        "cache_control",
    }
)
_HINTS = frozenset(
    {
        "stream_options",
        "store",
        "metadata",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
    }
)
"""What makes an answer come sooner, cheaper or be found again, and says nothing of its text."""

_DEFAULTS: Mapping[str, Any] = {
    "n": 1,
    "modalities": ["text"],
    "verbosity": "medium",
    "function_call": "none",
}
_ALWAYS_MATTER = frozenset({"seed", "web_search_options"})
"""Where zero, or nothing in the object, is a wish as well."""

_MESSAGE_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
_TEMPERATURE_MAX = 1


def uncarried(chat: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of all that is set and cannot be carried, in the order of the request."""
    return tuple(dict.fromkeys([*_fields(chat), *_nested(chat)]))


def is_part_uncarried(part: object) -> bool:
    """Whether a part of a content is of a kind that has no place: sounds, videos, files that lie at
    another vendor."""
    if not isinstance(part, Mapping):
        return False  # malformed, and refused as such where it is read
    kind = part.get("type")
    if kind == "file":
        file = part.get("file")
        return isinstance(file, Mapping) and not (file.get("file_data") or file.get("file_url"))
    return kind not in ("text", "refusal", "image_url")


def is_tool_uncarried(tool: object) -> bool:
    """Whether a tool is of another kind than functions."""
    return isinstance(tool, Mapping) and tool.get("type", "function") != "function"


def is_message_uncarried(message: object) -> bool:
    """Whether a message is of the older kind of function calls, a spoken one, or one with parts or
    calls that have no place."""
    if not isinstance(message, Mapping):
        return False
    role = message.get("role")
    if isinstance(role, str) and role not in _MESSAGE_ROLES:
        return True
    return bool(message.get("function_call") or message.get("audio"))


def _fields(chat: Mapping[str, Any]) -> Iterator[str]:
    for name, value in chat.items():
        if name in _CARRIED or name in _HINTS or name == UNSUPPORTED or value is None:
            continue
        if name in _ALWAYS_MATTER:
            yield name
        elif name == "function_call" and not chat.get("functions"):
            continue
        elif value and value != _DEFAULTS.get(name):
            yield name


def _nested(chat: Mapping[str, Any]) -> Iterator[str]:
    temperature = chat.get("temperature")
    if isinstance(temperature, int | float) and temperature > _TEMPERATURE_MAX:
        yield "temperature"
    if _is_format_uncarried(chat.get("response_format")):
        yield "response_format"
    if any(map(is_tool_uncarried, _items(chat.get("tools")))):
        yield "tools"
    choice = chat.get("tool_choice")
    if isinstance(choice, Mapping) and choice.get("type", "function") != "function":
        yield "tool_choice"
    if _are_messages_uncarried(_items(chat.get("messages"))):
        yield "messages"


def _is_format_uncarried(wanted: object) -> bool:
    return isinstance(wanted, Mapping) and wanted.get("type") not in ("text", "json_schema", None)


def _are_messages_uncarried(messages: list[Any]) -> bool:
    for message in messages:
        if not isinstance(message, Mapping):
            continue
        if is_message_uncarried(message):
            return True
        if any(map(is_part_uncarried, _items(message.get("content")))):
            return True
        if any(map(is_tool_uncarried, _items(message.get("tool_calls")))):
            return True
    return told_apart(messages) is not None


def _items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
