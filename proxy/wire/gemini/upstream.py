"""Gemini's `generateContent` and `streamGenerateContent?alt=sse` as upstreams speak them."""

from __future__ import annotations

from typing import Any

from proxy import sse
from proxy.chat import ChatRequest
from proxy.conversation import check_arguments
from proxy.errors import InvalidRequest
from proxy.wire import Decoder, Sending
from proxy.wire.gemini.answers import AnswerSource, read_answer
from proxy.wire.gemini.contents import ContentsWriter
from proxy.wire.gemini.errors import classify_error, read_error
from proxy.wire.gemini.generation import generation_config, tool_fields
from proxy.wire.gemini.lacks import cannot_carry
from proxy.wire.gemini.usage import read_usage

__all__ = ["cannot_carry", "classify_error", "read_error", "read_usage"]

TRANSLATES = True
ANSWER_FIELD = "candidates"
USAGE_FIELD = "usageMetadata"
LIMIT_REQUIRED = False
LIMIT_MIN = 1
INSTRUCTS = True

_EVENT_BYTES_MAX = 16 * 1024 * 1024


def from_chat(request: ChatRequest, sending: Sending) -> dict[str, Any]:
    """The body for an upstream; the model and whether it streams stand in the address."""
    chat = request.chat
    lacking = cannot_carry(chat)
    if lacking and not sending.drop_unsupported:
        raise InvalidRequest(f"`{lacking[0]}` cannot be sent to Gemini.", param=lacking[0])
    messages = chat.get("messages")
    check_arguments(messages)
    if not isinstance(messages, list):
        raise InvalidRequest("`messages` must be a list.", param="messages")
    writer = ContentsWriter(model=sending.model, lacking=lacking)
    body = writer.write(messages, sending.instruct)
    body.update(tool_fields(chat, lacking))
    if config := generation_config(request, sending, lacking):
        body["generationConfig"] = config
    return body


def same_format(request: ChatRequest, sending: Sending) -> dict[str, Any]:
    """The same: no client speaks this format, so every request is one that was translated."""
    return from_chat(request, sending)


def decoder() -> Decoder:
    """Server-sent events; a picture comes in one piece."""
    return sse.Decoder(_EVENT_BYTES_MAX)


def source(request: ChatRequest, *, created_s: int) -> AnswerSource:
    """What reads a stream of answers."""
    return AnswerSource(request, created_s)


def read_whole(
    answer: dict[str, Any], request: ChatRequest, *, created_s: int
) -> dict[str, Any] | None:
    """A whole answer as a chat completion; None when it is none. One that the model failed to make
    has `error`."""
    return read_answer(answer, request, created_s)
