"""What a chat request uses beside plain text. Pure.

Read from the body as it came: what has the wrong type asks for nothing here, and is for the
upstream to judge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from routing.abilities import NO_NEEDS, Needs

_TOOL_ROLES = ("tool", "function")


def needs_of(body: Mapping[str, Any]) -> Needs:
    """Tools that are offered or were used before, images, sound in the prompt or as the answer,
    an answer in a JSON schema, and thinking where it is asked for by name."""
    tools = bool(body.get("tools") or body.get("functions"))
    vision = False
    audio = "audio" in body and bool(body["audio"])
    for message in _mappings(body.get("messages")):
        if (
            message.get("tool_calls")
            or message.get("function_call")
            or message.get("role") in _TOOL_ROLES
        ):
            tools = True
        content = message.get("content")
        if content.__class__ is list:
            for part in _mappings(content):
                kind = str(part.get("type"))
                vision = vision or "image" in kind
                audio = audio or "audio" in kind
    wanted = body.get("response_format")
    json_schema = wanted.__class__ is dict and wanted.get("type") == "json_schema"
    reasoning = _asks_to_think(body)
    if not (tools or vision or json_schema or reasoning or audio):
        return NO_NEEDS
    return Needs(tools, vision, json_schema, reasoning, audio)


def _asks_to_think(body: Mapping[str, Any]) -> bool:
    """By OpenAI's effort or Anthropic's `thinking`; `none` and `disabled` ask for nothing."""
    effort, thinking = body.get("reasoning_effort"), body.get("thinking")
    if effort.__class__ is str and effort != "none":
        return True
    kind = thinking.get("type") if isinstance(thinking, dict) else None
    return kind.__class__ is str and kind != "disabled"


def _mappings(value: object) -> Iterable[Mapping[str, Any]]:
    if not isinstance(value, list):
        return ()
    return [each for each in value if each.__class__ is dict]
