"""The body of a Messages request, written from a chat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from proxy.changes import instructed
from proxy.chat import ChatRequest
from proxy.errors import InvalidRequest
from proxy.wire import Sending
from proxy.wire.anthropic_messages.carrying import is_tool_uncarried, uncarried
from proxy.wire.anthropic_messages.models import refuses_sampling
from proxy.wire.anthropic_messages.thinking import thinking_fields
from proxy.wire.anthropic_messages.turns import conversation, is_unthinking_loop

MAX_TOKENS = 4096
"""What is sent where neither the client nor the route has set a limit: the API wants one. It is the
default of `limits.default_output_tokens`."""

_NO_PARAMETERS: Mapping[str, Any] = {"type": "object", "properties": {}}
_SERVICE_TIERS = {"auto": "auto", "priority": "auto", "default": "standard_only"}
_USER_MAX = 256


def from_chat(request: ChatRequest, sending: Sending) -> dict[str, Any]:
    """The body for an upstream, from `request.chat`.

    InvalidRequest names what is malformed, and what cannot be carried unless the sending drops it.
    """
    chat = request.chat
    lost = uncarried(chat)
    if lost and not sending.drop_unsupported:
        raise InvalidRequest(
            f"`{lost[0]}` cannot be carried to this model's API as it is set here.", param=lost[0]
        )
    if not isinstance(chat.get("messages"), list):
        raise InvalidRequest("`messages` must be a list.", param="messages")
    if sending.instruct is not None:
        chat = instructed(chat, sending.instruct)
    system, turns = conversation(chat["messages"])
    limits = [each for each in (request.output_limit, sending.output_max) if each is not None]
    max_tokens = min(limits, default=MAX_TOKENS)
    body: dict[str, Any] = {"model": sending.model, "max_tokens": max_tokens, "messages": turns}
    if system:
        body["system"] = system
    if request.stream:
        body["stream"] = True
    body |= _sampling(chat, sending)
    body |= _tools(chat)
    thinking = thinking_fields(
        chat,
        model=sending.model,
        max_tokens=max_tokens,
        is_unthinking=is_unthinking_loop(turns),
    )
    body |= _output(chat, thinking)
    return body | _about(chat)


def _sampling(chat: Mapping[str, Any], sending: Sending) -> dict[str, Any]:
    """Temperature and its kin, and where to stop. Defaults stay behind: newer models refuse the
    fields, and both at once."""
    found: dict[str, Any] = {}
    for name, default in (("temperature", 1), ("top_p", 1), ("top_k", None)):
        value = chat.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidRequest(f"`{name}` must be a number.", param=name)
        if value == default:
            continue
        is_dropped = sending.drop_unsupported and (
            refuses_sampling(sending.model) or (name == "temperature" and value > 1)
        )
        if not is_dropped:
            found[name] = value
    stop = chat.get("stop")
    if isinstance(stop, str):
        stop = [stop]
    if stop:
        if not isinstance(stop, list) or not all(isinstance(each, str) for each in stop):
            raise InvalidRequest("`stop` must be a string or a list of strings.", param="stop")
        found["stop_sequences"] = stop
    return found


def _tools(chat: Mapping[str, Any]) -> dict[str, Any]:
    tools = chat.get("tools")
    if tools is not None and not isinstance(tools, list):
        raise InvalidRequest("`tools` must be a list.", param="tools")
    written = [
        _tool(tool, f"tools[{number}]")
        for number, tool in enumerate(tools or [])
        if not is_tool_uncarried(tool)
    ]
    choice = _tool_choice(chat.get("tool_choice"))
    if not written:
        if choice is not None and choice["type"] in ("any", "tool") and not tools:
            raise InvalidRequest("`tool_choice` needs `tools`.", param="tool_choice")
        return {}
    if chat.get("parallel_tool_calls") is False and (choice or {}).get("type") != "none":
        choice = {**(choice or {"type": "auto"}), "disable_parallel_tool_use": True}
    return {"tools": written} if choice is None else {"tools": written, "tool_choice": choice}


def _tool(tool: object, at: str) -> dict[str, Any]:
    function = tool.get("function") if isinstance(tool, Mapping) else None
    if not isinstance(tool, Mapping) or not isinstance(function, Mapping):
        raise InvalidRequest(f"`{at}.function` must be an object.", param=at)
    name, parameters = function.get("name"), function.get("parameters")
    if not isinstance(name, str) or not name:
        raise InvalidRequest(f"`{at}.function.name` must be a non-empty string.", param=at)
    if parameters is not None and not isinstance(parameters, Mapping):
        raise InvalidRequest(f"`{at}.function.parameters` must be an object.", param=at)
    written: dict[str, Any] = {"name": name, "input_schema": parameters or {**_NO_PARAMETERS}}
    if isinstance(description := function.get("description"), str):
        written["description"] = description
    if function.get("strict") is True:
        written["strict"] = True
    mark = tool.get("cache_control") or function.get("cache_control")
    return {**written, "cache_control": mark} if isinstance(mark, dict) else written


def _tool_choice(choice: object) -> dict[str, Any] | None:
    if choice is None:
        return None
    if isinstance(choice, str) and choice in ("auto", "none", "required"):
        return {"type": "any" if choice == "required" else choice}
    if isinstance(choice, Mapping):
        if choice.get("type", "function") != "function":
            return None  # it is named where it matters, and dropped here
        function = choice.get("function")
        name = function.get("name") if isinstance(function, Mapping) else None
        if isinstance(name, str) and name:
            return {"type": "tool", "name": name}
    raise InvalidRequest(
        "`tool_choice` must be auto, none, required, or the name of a function.",
        param="tool_choice",
    )


def _output(chat: Mapping[str, Any], thinking: Mapping[str, Any]) -> dict[str, Any]:
    """`thinking`, and `output_config` with the effort and the schema of the answer."""
    config: dict[str, Any] = {}
    if "effort" in thinking:
        config["effort"] = thinking["effort"]
    if (schema := _schema(chat.get("response_format"))) is not None:
        config["format"] = {"type": "json_schema", "schema": schema}
    found = {"thinking": thinking["thinking"]} if "thinking" in thinking else {}
    return {**found, "output_config": config} if config else found


def _schema(wanted: object) -> Mapping[str, Any] | None:
    if wanted is None:
        return None
    if not isinstance(wanted, Mapping):
        raise InvalidRequest("`response_format` must be an object.", param="response_format")
    if wanted.get("type") != "json_schema":
        return None
    named = wanted.get("json_schema")
    schema = named.get("schema") if isinstance(named, Mapping) else None
    if not isinstance(schema, Mapping):
        raise InvalidRequest(
            "`response_format.json_schema.schema` must be an object.", param="response_format"
        )
    return schema


def _about(chat: Mapping[str, Any]) -> dict[str, Any]:
    """Who asks, how urgent it is, and what is cached."""
    found: dict[str, Any] = {}
    names: Sequence[object] = (chat.get("user"), chat.get("safety_identifier"))
    if user := next((each for each in names if isinstance(each, str) and each), None):
        found["metadata"] = {"user_id": user[:_USER_MAX]}
    tier = chat.get("service_tier")
    if isinstance(tier, str) and tier in _SERVICE_TIERS:
        found["service_tier"] = _SERVICE_TIERS[tier]
    if isinstance(mark := chat.get("cache_control"), dict):
        found["cache_control"] = mark
    return found
