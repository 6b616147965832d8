"""OpenAI chat completions as clients speak them: their requests, and what they are answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from metering.prompt import count_prompt
from metering.tokenizer import Tokenizer
from proxy import json_bounds
from proxy.chat import CHOICES_MAX, OUTPUT_TOKENS_MAX, ChatRequest
from proxy.error_words import ErrorWords
from proxy.errors import InvalidRequest
from proxy.wire import StreamWriter
from proxy.wire.openai_chat.endings import shared_fields, soft_end, usage_of

PATH = "/v1/chat/completions"
TRANSLATES = True
REQUEST_ID = "x-request-id"
FIELD_NAMES: Mapping[str, str] = {}
PASSES: tuple[str, ...] = ()
KEEPS_MODEL = False

_LIMIT_FIELDS = ("max_tokens", "max_completion_tokens")
_TEXT_MAX = 256


def parse_request(raw: bytes) -> ChatRequest:
    """The request behind a body; InvalidRequest names the field that is wrong."""
    if (fault := json_bounds.fault_in(raw)) is not None:
        raise InvalidRequest(fault)
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.") from None
    if not isinstance(body, dict):
        raise InvalidRequest("The body must be a JSON object.")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest("`model` must be a non-empty string.", param="model")
    if not isinstance(body.get("messages"), list):
        raise InvalidRequest("`messages` must be a list.", param="messages")
    stream = body.get("stream")
    if stream is not None and type(stream) is not bool:
        raise InvalidRequest("`stream` must be true or false.", param="stream")
    options = body.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise InvalidRequest("`stream_options` must be an object.", param="stream_options")
    user = body.get("user")
    if user is not None and not isinstance(user, str):
        raise InvalidRequest("`user` must be a string.", param="user")
    return ChatRequest(
        model=model,
        body=body,
        stream=bool(stream),
        wants_usage=bool(options and options.get("include_usage")),
        output_limit=_output_limit(body),
        choices=_choices(body, "n"),
        candidates=max(_choices(body, "n"), _choices(body, "best_of")),
        user=user[:_TEXT_MAX] if user else None,
    )


def prompt_tokens(request: ChatRequest, tokenizer: Tokenizer, model: str) -> int:
    """The prompt as this model counts it, estimated."""
    return count_prompt(tokenizer, {**request.chat, "model": model})


def _output_limit(body: Mapping[str, Any]) -> int | None:
    limits = []
    for name in _LIMIT_FIELDS:
        value = body.get(name)
        if value is None:
            continue
        if type(value) is not int or not 1 <= value <= OUTPUT_TOKENS_MAX:
            raise InvalidRequest(
                f"`{name}` must be a whole number from 1 to {OUTPUT_TOKENS_MAX}.", param=name
            )
        limits.append(value)
    return max(limits, default=None)


def _choices(body: Mapping[str, Any], name: str) -> int:
    value = body.get(name)
    if value is None:
        return 1
    if type(value) is not int or not 1 <= value <= CHOICES_MAX:
        raise InvalidRequest(
            f"`{name}` must be a whole number from 1 to {CHOICES_MAX}.", param=name
        )
    return value


def writer(request: ChatRequest) -> StreamWriter:
    """What writes the chunks that answer this request."""
    return ChunkWriter(wants_usage=request.wants_usage)


def write_whole(
    completion: dict[str, Any], units: Mapping[str, int], request: ChatRequest
) -> dict[str, Any]:
    """The completion itself, with its usage."""
    return {**completion, "usage": usage_of(units)}


def error_body(words: ErrorWords, request_id: str) -> bytes:
    """The refusal in OpenAI's shape."""
    return words.openai_body()


def error_event(words: ErrorWords, request_id: str) -> bytes:
    """The same as an event, for a stream whose status has long been sent."""
    return b"data: " + words.openai_body() + b"\n\n"


class ChunkWriter:
    """A stream of chat completion chunks."""

    def __init__(self, *, wants_usage: bool) -> None:
        self._wants_usage = wants_usage
        self._shared: dict[str, Any] = {}

    def write(self, chunk: dict[str, Any]) -> bytes:
        """The chunk as an event."""
        if chunk.get("error"):
            return b""
        self._shared = self._shared or shared_fields(chunk)
        return b"data: " + orjson.dumps(chunk) + b"\n\n"

    def end(self, units: Mapping[str, int]) -> bytes:
        """The usage chunk where it was asked for, and `[DONE]`."""
        told = units if self._wants_usage else None
        return soft_end(self._shared, choices=(), units=told)
