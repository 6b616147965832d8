"""What a chat request asks of an answer, as Gemini's `generationConfig`, `tools` and `toolConfig`.

Schemas go out as the JSON schemas they are (`parametersJsonSchema`, `responseJsonSchema`): Gemini's
own dialect would refuse a tool for one keyword that it has no field for. `lacking` are fields that
are left out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from proxy.chat import ChatRequest
from proxy.errors import InvalidRequest
from proxy.wire import Sending
from proxy.wire.gemini.signatures import generation

STOPS_MAX = 5
"""Stop sequences that Gemini takes (API reference, `GenerationConfig`)."""

CANDIDATES_MAX = 8

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")

_LEVELS_SINCE = 3
"""The first generation whose thinking is set by level; those before it have a budget."""

_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 8192}
_BUDGET_MAX = 24_576
"""As Google's own OpenAI-compatible API maps `reasoning_effort`; more than this some models do not
take."""

_BUDGET_MIN = 512
"""The least that all models with a budget take, but for none at all (Flash-Lite's)."""

_NUMBERS = {
    "temperature": "temperature",
    "top_p": "topP",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}
_WHOLE_NUMBERS = {"top_k": "topK", "seed": "seed", "n": "candidateCount"}


def generation_config(
    request: ChatRequest, sending: Sending, lacking: Collection[str]
) -> dict[str, Any]:
    """`generationConfig`; empty where nothing is asked for."""
    chat = request.chat
    config: dict[str, Any] = {}
    for name, field in {**_NUMBERS, **_WHOLE_NUMBERS}.items():
        value = chat.get(name)
        # too many choices are Gemini's to refuse: fewer than were asked for would never be complete
        if value is not None and (name not in lacking or name == "n"):
            config[field] = _number(value, name, is_whole=name in _WHOLE_NUMBERS)
    if config.get("candidateCount") == 1:
        del config["candidateCount"]  # some models know no such field
    limits = [each for each in (request.output_limit, sending.output_max) if each is not None]
    if limits:
        config["maxOutputTokens"] = min(limits)
    if stops := _stops(chat.get("stop")):
        config["stopSequences"] = stops[:STOPS_MAX]
    if chat.get("logprobs"):
        config["responseLogprobs"] = True
        if chat.get("top_logprobs"):
            config["logprobs"] = _number(chat["top_logprobs"], "top_logprobs", is_whole=True)
    if "response_format" not in lacking:
        config.update(_response_format(chat.get("response_format")))
    if thinking := _thinking(chat, sending.model, lacking):
        config["thinkingConfig"] = _fitted(thinking, config.get("maxOutputTokens"))
    return config


def _number(value: object, name: str, *, is_whole: bool) -> int | float:
    if type(value) is int or (type(value) is float and not is_whole):
        return value
    kind = "a whole number" if is_whole else "a number"
    raise InvalidRequest(f"`{name}` must be {kind}.", param=name)


def _stops(stop: object) -> list[str]:
    stops = [stop] if isinstance(stop, str) else stop
    if stops is None:
        return []
    if not isinstance(stops, list) or not all(isinstance(each, str) for each in stops):
        raise InvalidRequest("`stop` must be a string or a list of strings.", param="stop")
    return [each for each in stops if each]


def _response_format(wanted: object) -> dict[str, Any]:
    if wanted is None:
        return {}
    if not isinstance(wanted, dict):
        raise InvalidRequest("`response_format` must be an object.", param="response_format")
    kind = wanted.get("type")
    if kind == "text":
        return {}
    config: dict[str, Any] = {"responseMimeType": "application/json"}
    if kind == "json_schema":
        held = wanted.get("json_schema")
        schema = held.get("schema") if isinstance(held, dict) else None
        if not isinstance(schema, dict):
            where = "response_format.json_schema.schema"
            raise InvalidRequest("A JSON schema must be an object.", param=where)
        config["responseJsonSchema"] = schema
    return config


def _thinking(chat: Mapping[str, Any], model: str, lacking: Collection[str]) -> dict[str, Any]:
    """How much is thought, and that the client sees it: by a number of tokens where there is one
    (`thinking`), else by effort. Gemini refuses a request with both."""
    thinking = None if "thinking" in lacking else chat.get("thinking")
    effort = None if "reasoning_effort" in lacking else chat.get("reasoning_effort")
    kind = thinking.get("type") if isinstance(thinking, dict) else None
    if kind == "disabled":
        return {"thinkingBudget": 0}
    budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
    if kind == "enabled" and budget is not None:
        where = "thinking.budget_tokens"
        return {"thinkingBudget": _number(budget, where, is_whole=True), "includeThoughts": True}
    if effort == "none":
        return {"thinkingBudget": 0}
    if effort is None:
        return {"includeThoughts": True} if kind else {}
    if generation(model) < _LEVELS_SINCE:
        return {"thinkingBudget": _BUDGETS.get(effort, _BUDGET_MAX), "includeThoughts": True}
    if effort == "minimal" and "pro" in model:
        effort = "low"  # the least that the larger models know, and what Google maps it to
    level = "XHIGH" if effort == "max" else effort.upper()
    return {"thinkingLevel": level, "includeThoughts": True}


def _fitted(thinking: dict[str, Any], limit: int | None) -> dict[str, Any]:
    """A budget that would take up all that may be said leaves half of it to the answer; it is not
    cut below what every model takes."""
    budget = thinking.get("thinkingBudget")
    if limit is None or budget is None or budget < limit:
        return thinking
    return {**thinking, "thinkingBudget": min(budget, max(_BUDGET_MIN, limit // 2))}


def tool_fields(chat: Mapping[str, Any], lacking: Collection[str]) -> dict[str, Any]:
    """`tools` and `toolConfig`; empty without tools."""
    declared = [
        _declaration(tool, f"tools[{at}]")
        for at, tool in enumerate(_items(chat, "tools"))
        if f"tools[{at}]" not in lacking
    ]
    declared += [
        _declaration({"function": function}, f"functions[{at}]")
        for at, function in enumerate(_items(chat, "functions"))
    ]
    if not declared:
        return {}
    fields: dict[str, Any] = {"tools": [{"functionDeclarations": declared}]}
    for name in ("tool_choice", "function_call"):
        if (choice := chat.get(name)) is not None and name not in lacking:
            fields["toolConfig"] = {"functionCallingConfig": _calling(choice, name)}
            break
    return fields


def _items(chat: Mapping[str, Any], name: str) -> list[Any]:
    found = chat.get(name)
    if found is not None and not isinstance(found, list):
        raise InvalidRequest(f"`{name}` must be a list.", param=name)
    return found or []


def _declaration(tool: object, at: str) -> dict[str, Any]:
    function = tool.get("function") if isinstance(tool, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(name, str) or not name:
        raise InvalidRequest("A tool must have a `function` with a name.", param=at)
    declared: dict[str, Any] = {"name": name}
    if isinstance(about := function.get("description"), str):
        declared["description"] = about
    parameters = function.get("parameters")
    if parameters is not None:
        if not isinstance(parameters, dict):
            where = f"{at}.function.parameters"
            raise InvalidRequest("`parameters` must be a JSON schema.", param=where)
        declared["parametersJsonSchema"] = parameters
    return declared


def _calling(choice: object, name: str) -> dict[str, Any]:
    config = calling_config(choice)
    if config is None:
        raise InvalidRequest(f"`{name}` is not one that is known.", param=name)
    return config


_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY"}


def calling_config(choice: object) -> dict[str, Any] | None:
    """`functionCallingConfig` for a `tool_choice` or `function_call`; None for what has none."""
    if isinstance(choice, str):
        return {"mode": _MODES[choice]} if choice in _MODES else None
    if not isinstance(choice, dict):
        return None
    if choice.get("type") == "allowed_tools":
        return _allowed(choice.get("allowed_tools"))
    if choice.get("type", "function") != "function":
        return None
    named = choice.get("function", choice)
    name = named.get("name") if isinstance(named, dict) else None
    return {"mode": "ANY", "allowedFunctionNames": [name]} if isinstance(name, str) else None


def _allowed(allowed: object) -> dict[str, Any] | None:
    tools = allowed.get("tools") if isinstance(allowed, dict) else None
    if not isinstance(allowed, dict) or not isinstance(tools, list):
        return None
    functions = [tool.get("function") if isinstance(tool, dict) else None for tool in tools]
    names = [each.get("name") if isinstance(each, dict) else None for each in functions]
    if not names or not all(isinstance(name, str) for name in names):
        return None
    # VALIDATED is AUTO with a choice of functions, which AUTO itself does not take
    mode = {"auto": "VALIDATED", "required": "ANY"}.get(str(allowed.get("mode")))
    return {"mode": mode, "allowedFunctionNames": names} if mode else None
