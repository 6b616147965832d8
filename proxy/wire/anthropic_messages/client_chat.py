"""A request to the Messages API as the body of a chat completion.

Only what is named here is taken over: a field of another API in the body (`n`, `best_of`) must not
slip into a request that is priced without it. What chat completions have no place for is listed
under `UNSUPPORTED`, so that it is refused by name where it would have to be translated; tools and
content of that kind stay in the body all the same, for their tokens count.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxy.chat import UNSUPPORTED
from proxy.wire.anthropic_messages.client_content import (
    chat_messages,
    has_native_part,
    marked,
    system_message,
    wants_citations,
    with_cache_control,
)
from proxy.wire.anthropic_messages.client_values import (
    mapping,
    mapping_or_none,
    mappings,
    text,
    text_or_none,
    wrong,
)

_AS_THEY_ARE = ("temperature", "top_p", "top_k")
_SAID = {
    *("model", "messages", "max_tokens", "stream", "system", "metadata", "stop_sequences"),
    *("tools", "tool_choice", "thinking", "output_config", "output_format", "service_tier"),
    *("cache_control", *_AS_THEY_ARE),
}
_HINTS = {"diagnostics", "user_profile_id"}
"""What changes nothing in the answer."""
_NAMES_MAX = 16
_NAME_MAX = 64

_TIERS = {"auto": "auto", "standard_only": "default"}
_EFFORTS = ("low", "medium", "high", "xhigh", "max")

_TOOL_EXTRAS = ("input_examples", "defer_loading", "allowed_callers")
"""Fields of a tool that have a meaning for the answer and no name in chat completions."""


def chat_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """The same as a chat completion; InvalidRequest names what has the wrong type."""
    messages = []
    if body.get("system") is not None:
        messages.append(system_message(body["system"]))
    for at, message in enumerate(mappings(body.get("messages"), "messages")):
        messages += chat_messages(message, f"messages.{at}")
    chat: dict[str, Any] = {
        "model": body["model"],
        "messages": with_cache_control(messages, body.get("cache_control")),
    }
    if body.get("stream"):
        chat["stream"] = True
    for name in ("max_tokens", *_AS_THEY_ARE):
        if body.get(name) is not None:
            chat[name] = body[name]
    if stops := stops_of(body):
        chat["stop"] = stops
    if user := user_of(body):
        chat["user"] = user
    tier = text_or_none(body, "service_tier")
    if tier in _TIERS:
        chat["service_tier"] = _TIERS[tier]
    chat = {**chat, **_tools(body), **_reasoning(body), **_response_format(body)}
    if foreign := _foreign(body, chat):
        chat[UNSUPPORTED] = foreign
    return chat


def _foreign(body: Mapping[str, Any], chat: Mapping[str, Any]) -> list[str]:
    """What is set and has no place in chat completions: fields, tools and parts by their paths."""
    names = [name for name in body if name not in _SAID and name not in _HINTS]
    found = [
        name
        for name in names
        if body[name] is not None and (name, body[name]) != ("speed", "standard")
    ]
    config = mapping_or_none(body, "output_config") or {}
    found += [f"output_config.{name}" for name in config if name not in ("effort", "format")]
    found += [
        f"tools.{at}"
        for at, tool in enumerate(chat.get("tools", ()))
        if tool["type"] != "function" or any(name in tool for name in _TOOL_EXTRAS)
    ]
    if any(map(has_native_part, chat["messages"])) or any(map(wants_citations, body["messages"])):
        found.append("messages")
    return [name[:_NAME_MAX] for name in sorted(found)[:_NAMES_MAX]]


def stops_of(body: Mapping[str, Any]) -> list[str]:
    """The stop sequences."""
    stops = body.get("stop_sequences")
    if stops is None:
        return []
    if not isinstance(stops, list) or not all(isinstance(each, str) for each in stops):
        raise wrong("stop_sequences", "a list of strings")
    return stops


def user_of(body: Mapping[str, Any]) -> str | None:
    """Whom the client says this is for."""
    metadata = mapping_or_none(body, "metadata")
    return None if metadata is None else text_or_none(metadata, "user_id", "metadata")


def _tools(body: Mapping[str, Any]) -> dict[str, Any]:
    chat: dict[str, Any] = {}
    if body.get("tools") is not None:
        tools = mappings(body["tools"], "tools")
        chat["tools"] = [_tool(tool, f"tools.{at}") for at, tool in enumerate(tools)]
    choice = mapping_or_none(body, "tool_choice")
    if choice is None:
        return chat
    match choice.get("type"):
        case "auto" | "none" as kind:
            chat["tool_choice"] = kind
        case "any":
            chat["tool_choice"] = "required"
        case "tool":
            function = {"name": text(choice, "name", "tool_choice")}
            chat["tool_choice"] = {"type": "function", "function": function}
        case _:
            raise wrong("tool_choice.type", "`auto`, `any`, `tool` or `none`")
    is_single = choice.get("disable_parallel_tool_use")
    if is_single is not None and type(is_single) is not bool:
        raise wrong("tool_choice.disable_parallel_tool_use", "true or false")
    if is_single:
        chat["parallel_tool_calls"] = False
    return chat


def _tool(tool: dict[str, Any], where: str) -> dict[str, Any]:
    """A tool of the client's as a function; one of Anthropic's as it is, under its own type."""
    if tool.get("type") not in (None, "custom"):
        if text(tool, "type", where) == "function":
            raise wrong(f"{where}.type", "`custom`, or the type of one of Anthropic's tools")
        return tool
    function: dict[str, Any] = {"name": text(tool, "name", where)}
    if (about := text_or_none(tool, "description", where)) is not None:
        function["description"] = about
    function["parameters"] = mapping(tool.get("input_schema"), f"{where}.input_schema")
    if tool.get("strict") is not None:
        function["strict"] = tool["strict"]
    extras = {name: tool[name] for name in _TOOL_EXTRAS if tool.get(name)}
    if extras.get("allowed_callers") == ["direct"]:
        del extras["allowed_callers"]
    return marked({"type": "function", "function": function, **extras}, tool)


def _reasoning(body: Mapping[str, Any]) -> dict[str, Any]:
    """The effort that was asked for, and `thinking` as it is: what a budget comes to as an effort
    is for those to say who know no budgets."""
    chat: dict[str, Any] = {}
    config = mapping_or_none(body, "output_config") or {}
    thinking = mapping_or_none(body, "thinking")
    if thinking is not None:
        chat["thinking"] = thinking
    effort = text_or_none(config, "effort", "output_config")
    if effort is not None:
        if effort not in _EFFORTS:
            raise wrong("output_config.effort", "one of " + ", ".join(_EFFORTS))
        chat["reasoning_effort"] = effort
    return chat


def _response_format(body: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of the answer, which Anthropic guarantees: so it is strict elsewhere, too."""
    config = mapping_or_none(body, "output_config") or {}
    where, wanted = "output_config.format", mapping_or_none(config, "format", "output_config")
    if wanted is None:  # the name that it had while it was in beta
        where, wanted = "output_format", mapping_or_none(body, "output_format")
    if wanted is None:
        return {}
    if wanted.get("type") != "json_schema":
        raise wrong(f"{where}.type", "`json_schema`")
    schema = mapping(wanted.get("schema"), f"{where}.schema")
    form = {"name": "answer", "schema": schema, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": form}}
