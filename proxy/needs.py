"""What a chat request uses beside plain text. Pure.

Read from the body as it came: what has the wrong type asks for nothing here, and is for the
upstream to judge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from routing.abilities import Needs

_TOOL_ROLES = ("tool", "function")
_NO_NEEDS = Needs()


def needs_of(body: Mapping[str, Any]) -> Needs:
    """Tools that are offered or were used before, images, and an answer in a JSON schema."""
    tools = bool(body.get("tools") or body.get("functions"))
    vision = False
    for message in _mappings(body.get("messages")):
        if (
            message.get("tool_calls")
            or message.get("function_call")
            or message.get("role") in _TOOL_ROLES
        ):
            tools = True
        content = message.get("content")
        if content.__class__ is list and not vision:
            vision = any("image" in str(part.get("type")) for part in _mappings(content))
    wanted = body.get("response_format")
    json_schema = wanted.__class__ is dict and wanted.get("type") == "json_schema"
    if not (tools or vision or json_schema):
        return _NO_NEEDS
    return Needs(tools=tools, vision=vision, json_schema=json_schema)


def _mappings(value: object) -> Iterable[Mapping[str, Any]]:
    if not isinstance(value, list):
        return ()
    return [each for each in value if each.__class__ is dict]
