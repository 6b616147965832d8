"""The Messages API as clients speak it: their requests, and what they are answered.

`POST /v1/messages/count_tokens` takes the same body without `max_tokens`; the count is our own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metering.prompt import count_prompt
from metering.tokenizer import Tokenizer
from proxy import request_fields
from proxy.chat import OUTPUT_TOKENS_MAX, ChatRequest
from proxy.errors import InvalidRequest
from proxy.wire import Begun, StreamWriter
from proxy.wire.anthropic_messages.client_answer import message_of
from proxy.wire.anthropic_messages.client_chat import (
    chat_of,
    stops_of,
    user_of,
)
from proxy.wire.anthropic_messages.client_errors import error_body, error_event
from proxy.wire.anthropic_messages.client_stream import MessageWriter

__all__ = ["error_body", "error_event"]

PATH = "/v1/messages"
COUNT_PATH = "/v1/messages/count_tokens"
TRANSLATES = True
REQUEST_ID = "request-id"
FIELD_NAMES: Mapping[str, str] = {
    "messages": "messages",
    "is_error": "tool_result.is_error",
    "stop": "stop_sequences",
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
    "response_format": "output_config.format",
    "reasoning_effort": "output_config.effort",
    "user": "metadata.user_id",
}
PASSES = ("anthropic-beta",)
KEEPS_MODEL = False

FORMAT = "anthropic_messages"
_TEXT_MAX = 256


def parse_request(raw: bytes) -> ChatRequest:
    """The request behind a body; InvalidRequest names the field that is wrong."""
    body = request_fields.load_object(raw)
    limit = body.get("max_tokens")
    if type(limit) is not int or not 1 <= limit <= OUTPUT_TOKENS_MAX:
        raise InvalidRequest(
            f"`max_tokens` must be a whole number from 1 to {OUTPUT_TOKENS_MAX}; Anthropic's API "
            "has no default for it.",
            param="max_tokens",
        )
    return _request(body, limit)


def parse_count(raw: bytes) -> ChatRequest:
    """The same for a body whose tokens are to be counted, which needs no `max_tokens`."""
    body = request_fields.load_object(raw)
    return _request({name: value for name, value in body.items() if name != "max_tokens"}, None)


def count_answer(request: ChatRequest, tokens: int) -> dict[str, Any]:
    """The answer to a request to count; `tokens` is `prompt_tokens` for the model it names."""
    return {"input_tokens": tokens}


def prompt_tokens(request: ChatRequest, tokenizer: Tokenizer, model: str) -> int:
    """The prompt as this model counts it, estimated.

    A tool of Anthropic's is counted by all that is in it: its name alone would be nearly nothing.
    """
    body = {**request.chat, "model": model}
    if isinstance(tools := body.get("tools"), list):
        body["tools"] = [
            tool if tool.get("type") == "function" else {"native": tool} for tool in tools
        ]
    return count_prompt(tokenizer, body)


def writer(request: ChatRequest, *, prompt_tokens: int = 0) -> StreamWriter:
    """What writes the events that answer this request.

    `prompt_tokens` is told in `message_start`, before the upstream has said what it is.
    """
    return MessageWriter(
        model=request.model, stops=stops_of(request.body), prompt_tokens=prompt_tokens
    )


def resumed(request: ChatRequest, begun: Begun) -> StreamWriter:
    """What writes the rest of a message: its blocks are numbered on."""
    made = MessageWriter(model=request.model, stops=stops_of(request.body))
    made.resume(begun.message_id, index=begun.block_index, kind=begun.block)
    return made


def write_whole(
    completion: dict[str, Any], units: Mapping[str, int], request: ChatRequest
) -> dict[str, Any]:
    """The completion as a message."""
    return message_of(completion, units, model=request.model, stops=stops_of(request.body))


def _request(body: dict[str, Any], limit: int | None) -> ChatRequest:
    model = request_fields.model(body)
    stream = body.get("stream")
    if stream is not None and type(stream) is not bool:
        raise InvalidRequest("`stream` must be true or false.", param="stream")
    user = user_of(body)
    return ChatRequest(
        model=model,
        body=body,
        stream=bool(stream),
        wants_usage=True,
        output_limit=limit,
        choices=1,
        candidates=1,
        user=user[:_TEXT_MAX] if user else None,
        format=FORMAT,
        as_chat=chat_of(body),
    )
