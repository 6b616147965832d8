"""OpenAI chat completions as clients speak them: their requests, and what they are answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from metering.prompt import count_prompt
from metering.tokenizer import Tokenizer
from proxy import request_fields
from proxy.chat import CHOICES_MAX, OUTPUT_TOKENS_MAX, ChatRequest
from proxy.error_words import ErrorWords
from proxy.errors import InvalidRequest
from proxy.wire import Begun, StreamWriter
from proxy.wire.openai_chat.endings import shared_fields, soft_end, usage_of

PATH = "/v1/chat/completions"
TRANSLATES = True
REQUEST_ID = "x-request-id"
FIELD_NAMES: Mapping[str, str] = {}
PASSES: tuple[str, ...] = ()
KEEPS_MODEL = False

_LIMIT_FIELDS = ("max_tokens", "max_completion_tokens")


def parse_request(raw: bytes) -> ChatRequest:
    """The request behind a body; InvalidRequest names the field that is wrong."""
    body = request_fields.load_object(raw)
    model = request_fields.model(body)
    if not isinstance(body.get("messages"), list):
        raise InvalidRequest("`messages` must be a list.", param="messages")
    stream = request_fields.flag(body, "stream")
    wants_usage = request_fields.wants_usage(body)
    user = request_fields.user(body)
    return ChatRequest(
        model=model,
        body=body,
        stream=stream,
        wants_usage=wants_usage,
        output_limit=_output_limit(body),
        choices=_choices(body, "n"),
        candidates=max(_choices(body, "n"), _choices(body, "best_of")),
        user=user,
    )


def prompt_tokens(request: ChatRequest, tokenizer: Tokenizer, model: str) -> int:
    """The prompt as this model counts it, estimated."""
    return count_prompt(tokenizer, {**request.chat, "model": model})


def _output_limit(body: Mapping[str, Any]) -> int | None:
    limits = [
        request_fields.whole(body, name, least=1, most=OUTPUT_TOKENS_MAX) for name in _LIMIT_FIELDS
    ]
    return max([limit for limit in limits if limit is not None], default=None)


def _choices(body: Mapping[str, Any], name: str) -> int:
    return request_fields.whole(body, name, least=1, most=CHOICES_MAX) or 1


def writer(request: ChatRequest) -> StreamWriter:
    """What writes the chunks that answer this request."""
    return ChunkWriter(wants_usage=request.wants_usage)


def resumed(request: ChatRequest, begun: Begun) -> StreamWriter:
    """What writes the rest of the chunks: they know of each other by what they share."""
    return writer(request)


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
