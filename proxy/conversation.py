"""What every format asks of a conversation before it writes one: whether its names tell speakers
apart, and whether the JSON that stands in its strings may be built. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from proxy import json_bounds
from proxy.errors import InvalidRequest

_NAMED_ROLES = ("system", "developer", "user", "assistant")


def told_apart(messages: object) -> int | None:
    """The first message whose `name` is another than one before it in the same role had; None where
    names say nothing: one and the same for all of a role tells nobody apart."""
    names: dict[str, str] = {}
    for place, message in _mappings(messages):
        role, name = message.get("role"), message.get("name")
        if role in _NAMED_ROLES and isinstance(name, str) and names.setdefault(role, name) != name:
            return place
    return None


def check_arguments(messages: object) -> None:
    """The bounds of `proxy.json_bounds`, for the arguments of tool calls: there they were not
    weighed when the request came, and a format that has them as objects builds and writes them.

    All are weighed as one, so that an argument that hides those after it is malformed by itself.
    """
    written = [arguments.encode("utf-8", "replace") for arguments in _arguments(messages)]
    if written and (fault := json_bounds.fault_in(b",".join(written))) is not None:
        raise InvalidRequest(
            fault.replace("The body", "The arguments of all tool calls", 1), param="messages"
        )


def _arguments(messages: object) -> Iterator[str]:
    for _, message in _mappings(messages):
        functions: list[Any] = [message.get("function_call")]
        functions += [call.get("function") for _, call in _mappings(message.get("tool_calls"))]
        for function in functions:
            arguments = function.get("arguments") if isinstance(function, dict) else None
            if isinstance(arguments, str):
                yield arguments


def _mappings(values: object) -> Iterator[tuple[int, dict[str, Any]]]:
    for place, value in enumerate(values if isinstance(values, list) else ()):
        if isinstance(value, dict):
            yield place, value
