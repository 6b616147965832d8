"""A request for a response as the body of a chat completion, as far as it can be said there.

What cannot is named under `x_unsupported`, by its path; hints without a meaning for the answer are
left out (`store`, `metadata`, `max_tool_calls`, cache keys, obfuscation). Nothing raises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from proxy.chat import UNSUPPORTED
from proxy.wire.openai_responses.items import Conversation
from proxy.wire.openai_responses.thinking import ASKED_BY as _ENCRYPTED

LOGPROBS = "message.output_text.logprobs"
"""What stands in `include` of a request that wants them."""

_SAME = ("model", "temperature", "top_p", "parallel_tool_calls", "user", "service_tier")
_HINTS = frozenset(
    {
        "background",  # refused where it is true
        "max_tool_calls",  # of the vendor's tools, which are named themselves
        "metadata",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "store",
        "stream_options",
    }
)
_MEANINGLESS = {"truncation": "disabled"}
"""What these say when they say nothing."""

_INCLUDED = frozenset({LOGPROBS, _ENCRYPTED, "message.input_image.image_url"})
_REASONING_HINTS = frozenset({"summary", "generate_summary"})
_REASONING_DEFAULTS = {"mode": "standard", "context": "auto"}
_TOOL_FIELDS = {
    "function": ("name", "description", "parameters", "strict"),
    "custom": ("name", "description"),
}
_TOOL_EXTRAS = ("defer_loading", "allowed_callers", "output_schema", "async")


class Said(NamedTuple):
    """A chat body, and the parts of the prompt that are not in it."""

    chat: dict[str, Any]
    unsaid: list[Any]


def say(body: Mapping[str, Any]) -> Said:
    """The body as a chat body."""
    talk = Conversation()
    instructions = body.get("instructions")
    talk.add(body.get("input"))
    if isinstance(instructions, str):
        talk.messages.insert(0, {"role": _leading_role(talk), "content": instructions})
    elif instructions is not None:
        talk.leave("instructions", instructions)
    chat: dict[str, Any] = {"messages": talk.messages}
    for name, value in body.items():
        if value is None or name in _HINTS or value == _MEANINGLESS.get(name):
            continue
        if name in _SAME:
            chat[name] = value
        elif (write := _FIELDS.get(name)) is not None:
            write(value, chat, talk)
        else:
            talk.name(name)
    if talk.unsupported:
        chat[UNSUPPORTED] = talk.unsupported
    return Said(chat, talk.unsaid)


def _leading_role(talk: Conversation) -> str:
    """`developer` where the conversation speaks of developers: a request must not have both."""
    first = talk.messages[0]["role"] if talk.messages else None
    return "developer" if first == "developer" else "system"


def _pass(value: Any, chat: dict[str, Any], talk: Conversation) -> None:
    """Written elsewhere."""


def _stream(value: Any, chat: dict[str, Any], talk: Conversation) -> None:
    chat["stream"] = bool(value)


def _limit(value: Any, chat: dict[str, Any], talk: Conversation) -> None:
    chat["max_completion_tokens"] = value


def _top_logprobs(value: Any, chat: dict[str, Any], talk: Conversation) -> None:
    if value:  # none of them says nothing
        chat["top_logprobs"] = value
        chat["logprobs"] = True


def _include(value: Any, chat: dict[str, Any], talk: Conversation) -> None:
    for place, name in enumerate(value if isinstance(value, list) else [value]):
        if name == LOGPROBS:
            chat["logprobs"] = True
        elif not isinstance(name, str) or name not in _INCLUDED:
            talk.name(f"include[{place}]")


def _text(value: Any, chat: dict[str, Any], talk: Conversation) -> None:
    if not isinstance(value, dict):
        talk.name("text")
        return
    wanted = value.get("format")
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if isinstance(wanted, dict) and kind == "json_schema":
        names = ("name", "description", "schema", "strict")
        schema = {name: wanted[name] for name in names if wanted.get(name) is not None}
        chat["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif kind == "json_object":
        chat["response_format"] = {"type": "json_object"}
    elif wanted is not None and kind != "text":
        talk.name("text.format")
    if value.get("verbosity") is not None:
        chat["verbosity"] = value["verbosity"]
    for name in value.keys() - {"format", "verbosity"}:
        talk.name(f"text.{name}")


def _reasoning(value: Any, chat: dict[str, Any], talk: Conversation) -> None:
    for name, wish in (value if isinstance(value, dict) else {"": value}).items():
        if wish is None or name in _REASONING_HINTS or wish == _REASONING_DEFAULTS.get(name):
            continue
        if name == "effort":
            chat["reasoning_effort"] = wish
        else:
            talk.name(f"reasoning.{name}".rstrip("."))


def _tools(value: Any, chat: dict[str, Any], talk: Conversation) -> None:
    tools = []
    for place, tool in enumerate(value if isinstance(value, list) else [value]):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind not in ("function", "custom"):
            talk.leave(f"tools[{place}].type", tool)
            continue
        inner = {name: tool[name] for name in _TOOL_FIELDS[kind] if tool.get(name) is not None}
        if kind == "custom" and (form := _form(tool.get("format"))) is not None:
            inner["format"] = form
        tools.append({"type": kind, kind: inner})
        for name in _TOOL_EXTRAS:
            if tool.get(name) and tool[name] != ["direct"]:
                talk.name(f"tools[{place}].{name}")
    if tools:
        chat["tools"] = tools


def _form(form: Any) -> Any:
    """The grammar of a custom tool's input, which chat has one level deeper."""
    if not isinstance(form, dict) or form.get("type") != "grammar":
        return form
    grammar = {name: value for name, value in form.items() if name != "type"}
    return {"type": "grammar", "grammar": grammar}


def _tool_choice(value: Any, chat: dict[str, Any], talk: Conversation) -> None:
    kind = value.get("type") if isinstance(value, dict) else None
    if isinstance(value, str):
        chat["tool_choice"] = value
    elif (named := _named(value)) is not None:
        chat["tool_choice"] = named
    elif kind == "allowed_tools" and isinstance(value.get("tools"), list):
        allowed = [_named(tool) for tool in value["tools"]]
        if None in allowed:
            talk.name("tool_choice.tools")
        tools = [tool for tool in allowed if tool is not None]
        chat["tool_choice"] = {
            "type": "allowed_tools",
            "allowed_tools": {"mode": value.get("mode"), "tools": tools},
        }
    else:
        talk.name("tool_choice")


def _named(value: Any) -> dict[str, Any] | None:
    kind = value.get("type") if isinstance(value, dict) else None
    if kind not in ("function", "custom") or not isinstance(value.get("name"), str):
        return None
    return {"type": kind, kind: {"name": value["name"]}}


_FIELDS: Mapping[str, Callable[[Any, dict[str, Any], Conversation], None]] = {
    "include": _include,
    "input": _pass,
    "instructions": _pass,
    "max_output_tokens": _limit,
    "reasoning": _reasoning,
    "stream": _stream,
    "text": _text,
    "tool_choice": _tool_choice,
    "tools": _tools,
    "top_logprobs": _top_logprobs,
}
