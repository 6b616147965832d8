"""The tools of a chat request as Converse has them.

`tool_choice: none` has no word here: the tools are left out. Bedrock refuses a conversation in
which tools were called when none is defined, so a stand-in is defined then that says of itself that
it cannot be called.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxy.errors import InvalidRequest
from proxy.wire.bedrock_converse.messages import Block, cache_point

_NO_PARAMETERS = {"type": "object", "properties": {}}

STAND_IN = {
    "toolSpec": {
        "name": "no_tool",
        "description": "There are no tools at present. Never call this; answer in words.",
        "inputSchema": {"json": _NO_PARAMETERS},
    }
}


def tool_config(
    chat: Mapping[str, Any], lacks: list[str], *, were_called: bool
) -> dict[str, Any] | None:
    """The `toolConfig`; None where there is none."""
    choice = _choice(chat, lacks)
    tools = [] if choice is None else _tools(chat.get("tools"), lacks)
    if not tools:
        return {"tools": [STAND_IN]} if were_called else None
    return {"tools": tools, **({"toolChoice": choice} if choice else {})}


def _choice(chat: Mapping[str, Any], lacks: list[str]) -> dict[str, Any] | None:
    """Which tool is to be called; `{}` where the model may choose, None for no tool at all."""
    choice = chat.get("tool_choice")
    if choice in (None, "auto"):
        return {}
    if choice == "none":
        return None
    if choice == "required":
        return {"any": {}}
    function = choice.get("function") if isinstance(choice, dict) else None
    if isinstance(function, dict) and isinstance(name := function.get("name"), str):
        return {"tool": {"name": name}}
    if isinstance(choice, dict) and isinstance(choice.get("type"), str) and function is None:
        lacks.append("tool_choice")  # a choice among some, or of a tool that is no function
        return {}
    raise InvalidRequest(
        "`tool_choice` must be none, auto, required, or name a function.", param="tool_choice"
    )


def _tools(tools: Any, lacks: list[str]) -> list[Block]:
    if tools is None:
        return []
    if not isinstance(tools, list):
        raise InvalidRequest("`tools` must be a list.", param="tools")
    written: list[Block] = []
    for place, tool in enumerate(tools):
        path = f"tools[{place}]"
        kind = tool.get("type") if isinstance(tool, dict) else None
        if not isinstance(kind, str):
            raise InvalidRequest(f"`{path}` must be an object with a type.", param=path)
        if kind != "function":
            lacks.append(path)
            continue
        written += [_spec(tool.get("function"), f"{path}.function"), *cache_point(tool)]
    return written


def _spec(function: Any, path: str) -> Block:
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or not name:
        raise InvalidRequest(f"`{path}` must have a name.", param=path)
    schema = function.get("parameters")
    if schema is not None and not isinstance(schema, dict):
        path = f"{path}.parameters"
        raise InvalidRequest(f"`{path}` must be an object.", param=path)
    spec: dict[str, Any] = {"name": name}
    if isinstance(about := function.get("description"), str) and about.strip():
        spec["description"] = about
    spec["inputSchema"] = {"json": schema or _NO_PARAMETERS}
    if function.get("strict") is True:
        spec["strict"] = True
    return {"toolSpec": spec}
