"""Clients of every wire format, as their vendors' own libraries are: one way to ask all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import anthropic
import openai
import orjson
from fixtures_door import KEY, RunningDoor

Fields = dict[str, Any]
SCHEMA = {
    "type": "object",
    "properties": {"x": {"type": "integer"}},
    "required": ["x"],
    "additionalProperties": False,
}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
STOP = "END"


@dataclass
class Heard:
    """What a client got. `reason` is in its own words; `turn` is what it sends back of it."""

    text: str = ""
    thought: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)
    reason: str | None = None
    met: str | None = None
    tokens: tuple[int, int] | None = None
    turn: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Ears:
    """One client format. `ask` asks, streamed or not; the rest are fields of its requests."""

    ask: Callable[[RunningDoor, Fields, bool], Awaitable[Heard]]
    plain: Fields
    ends: dict[str, str]
    """Its words for `stop`, `length`, `calls` and `stop_sequence`."""
    refused: Fields
    """What no upstream of another format can be told."""
    param: str
    """How that is named."""
    tools: Fields = field(default_factory=dict)
    vision: Fields = field(default_factory=dict)
    schema: Fields = field(default_factory=dict)
    stop: Fields = field(default_factory=dict)
    thinking: Fields = field(default_factory=dict)
    result: Callable[[list[Any], str], Fields] | None = None
    """The next request, after an answer with one call and the result of that."""


def openai_of(door: RunningDoor) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key=KEY, base_url=f"{door.url}/v1", max_retries=0)


def anthropic_of(door: RunningDoor) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(api_key=KEY, base_url=door.url, max_retries=0)


# -- chat completions -----------------------------------------------------------------------------


async def _ask_chat(door: RunningDoor, fields: Fields, stream: bool) -> Heard:
    async with openai_of(door) as sdk:
        if not stream:
            made = await sdk.chat.completions.create(model="m", **fields)
            choice, told = made.choices[0], made.usage
            message = choice.message.model_dump(exclude_none=True)
            return _heard_chat(message, choice.finish_reason, told)
        chunks = await sdk.chat.completions.create(
            model="m", stream=True, stream_options={"include_usage": True}, **fields
        )
        message, reason, told = {"role": "assistant", "content": ""}, None, None
        async for each in chunks:
            told = each.usage or told
            for part in each.choices:
                reason = part.finish_reason or reason
                _add(message, part.delta.model_dump(exclude_none=True))
        return _heard_chat(message, reason, told)


def _add(message: Fields, delta: Fields) -> None:
    for name in ("content", "reasoning_content"):
        if name in delta:
            message[name] = message.get(name, "") + delta[name]
    message.setdefault("thinking_blocks", []).extend(delta.get("thinking_blocks", []))
    calls = message.setdefault("tool_calls", [])
    for piece in delta.get("tool_calls", []):
        if piece["index"] == len(calls):
            begun = {name: value for name, value in piece.items() if name != "index"}
            calls.append({**begun, "function": {**piece["function"]}})
            calls[-1]["function"].setdefault("arguments", "")
        else:
            said = piece["function"].get("arguments", "")
            calls[piece["index"]]["function"]["arguments"] += said


def _heard_chat(message: Fields, reason: str | None, told: Any) -> Heard:
    turn = {name: value for name, value in message.items() if value or name == "content"}
    return Heard(
        text=message.get("content") or "",
        thought=message.get("reasoning_content") or "",
        calls=[
            (call["function"]["name"], orjson.loads(call["function"]["arguments"]))
            for call in message.get("tool_calls") or []
        ],
        reason=reason,
        tokens=(told.prompt_tokens, told.completion_tokens) if told else None,
        turn=[turn],
    )


def _chat_result(turn: list[Any], result: str) -> Fields:
    own = turn[0]["tool_calls"][0]["id"]
    results = [{"role": "tool", "tool_call_id": own, "content": result}]
    return {"messages": [{"role": "user", "content": "Weather?"}, *turn, *results]}


_FUNCTION = {"name": "weather", "description": "Tells it.", "parameters": PARAMETERS}
_HI = [{"role": "user", "content": "hi"}]

CHAT = Ears(
    _ask_chat,
    {"messages": _HI},
    {"stop": "stop", "length": "length", "calls": "tool_calls", "stop_sequence": "stop"},
    {"logit_bias": {"5": 1}},
    "logit_bias",
    tools={"tools": [{"type": "function", "function": _FUNCTION}]},
    vision={
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is it?"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
                ],
            }
        ]
    },
    schema={
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "point", "schema": SCHEMA, "strict": True},
        }
    },
    stop={"stop": [STOP]},
    thinking={"reasoning_effort": "high"},
    result=_chat_result,
)

# -- completions ----------------------------------------------------------------------------------


async def _ask_completions(door: RunningDoor, fields: Fields, stream: bool) -> Heard:
    async with openai_of(door) as sdk:
        if not stream:
            made = await sdk.completions.create(model="m", **fields)
            told, choice = made.usage, made.choices[0]
            assert told is not None
            tokens = (told.prompt_tokens, told.completion_tokens)
            return Heard(text=choice.text, reason=choice.finish_reason, tokens=tokens)
        chunks = await sdk.completions.create(
            model="m", stream=True, stream_options={"include_usage": True}, **fields
        )
        heard = Heard()
        async for each in chunks:
            if each.usage:
                heard.tokens = (each.usage.prompt_tokens, each.usage.completion_tokens)
            for part in each.choices:
                heard.text += part.text
                heard.reason = part.finish_reason or heard.reason
        return heard


COMPLETIONS = Ears(
    _ask_completions,
    {"prompt": "hi", "max_tokens": 1000},
    {"stop": "stop", "length": "length", "calls": "stop", "stop_sequence": "stop"},
    {"suffix": "bye"},
    "suffix",
    stop={"stop": [STOP]},
)

# -- responses ------------------------------------------------------------------------------------


async def _ask_responses(door: RunningDoor, fields: Fields, stream: bool) -> Heard:
    async with openai_of(door) as sdk:
        if not stream:
            return _heard_response(await sdk.responses.create(model="m", **fields))
        done = None
        async for each in await sdk.responses.create(model="m", stream=True, **fields):
            if each.type in ("response.completed", "response.incomplete"):
                done = each.response
        return _heard_response(done)


def _heard_response(response: Any) -> Heard:
    heard = Heard(text=response.output_text)
    for item in response.output:
        if item.type == "function_call":
            heard.calls.append((item.name, orjson.loads(item.arguments)))
        if item.type == "reasoning":
            heard.thought += "".join(part.text for part in item.summary)
    heard.reason = response.status
    if response.incomplete_details is not None:
        heard.reason = response.incomplete_details.reason
    heard.tokens = (response.usage.input_tokens, response.usage.output_tokens)
    heard.turn = [item.model_dump(exclude_none=True) for item in response.output]
    return heard


def _response_result(turn: list[Any], result: str) -> Fields:
    own = next(item["call_id"] for item in turn if item["type"] == "function_call")
    output = {"type": "function_call_output", "call_id": own, "output": result}
    return {"input": [{"role": "user", "content": "Weather?"}, *turn, output]}


RESPONSES = Ears(
    _ask_responses,
    {"input": "hi"},
    {
        "stop": "completed",
        "length": "max_output_tokens",
        "calls": "completed",
        "stop_sequence": "completed",
    },
    {"tools": [{"type": "web_search"}]},
    "tools[0].type",
    tools={"tools": [{"type": "function", **_FUNCTION, "strict": False}]},
    vision={
        "input": [
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "What is it?"},
                    {
                        "type": "input_image",
                        "detail": "auto",
                        "image_url": f"data:image/png;base64,{PIXEL}",
                    },
                ],
            }
        ]
    },
    schema={
        "text": {
            "format": {"type": "json_schema", "name": "point", "schema": SCHEMA, "strict": True}
        }
    },
    thinking={"reasoning": {"effort": "high"}, "include": ["reasoning.encrypted_content"]},
    result=_response_result,
)

# -- messages -------------------------------------------------------------------------------------


async def _ask_messages(door: RunningDoor, fields: Fields, stream: bool) -> Heard:
    async with anthropic_of(door) as sdk:
        if not stream:
            return _heard_message(await sdk.messages.create(model="m", **fields))
        async with sdk.messages.stream(model="m", **fields) as events:
            return _heard_message(await events.get_final_message())


def _heard_message(message: anthropic.types.Message) -> Heard:
    heard = Heard(reason=message.stop_reason, met=message.stop_sequence)
    for block in message.content:
        if block.type == "text":
            heard.text += block.text
        elif block.type == "thinking":
            heard.thought += block.thinking
        elif block.type == "tool_use":
            heard.calls.append((block.name, block.input))
    heard.tokens = (message.usage.input_tokens, message.usage.output_tokens)
    content = [block.model_dump(exclude_none=True) for block in message.content]
    for block in content:
        block.pop("parsed_output", None)
    heard.turn = [{"role": "assistant", "content": content}]
    return heard


def _message_result(turn: list[Any], result: str) -> Fields:
    own = next(block["id"] for block in turn[0]["content"] if block["type"] == "tool_use")
    told = {"type": "tool_result", "tool_use_id": own, "content": result, "is_error": True}
    return {
        "max_tokens": 4096,
        "messages": [
            {"role": "user", "content": "Weather?"},
            *turn,
            {"role": "user", "content": [told]},
        ],
    }


MESSAGES = Ears(
    _ask_messages,
    {"messages": _HI, "max_tokens": 4096},
    {
        "stop": "end_turn",
        "length": "max_tokens",
        "calls": "tool_use",
        "stop_sequence": "stop_sequence",
    },
    {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
    "tools.0",
    tools={"tools": [{"name": "weather", "description": "Tells it.", "input_schema": PARAMETERS}]},
    vision={
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is it?"},
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
                    },
                ],
            }
        ]
    },
    schema={"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
    stop={"stop_sequences": [STOP]},
    thinking={"thinking": {"type": "enabled", "budget_tokens": 2048}},
    result=_message_result,
)

EARS: dict[str, Ears] = {
    "openai_chat": CHAT,
    "openai_completions": COMPLETIONS,
    "openai_responses": RESPONSES,
    "anthropic_messages": MESSAGES,
}
