"""OpenAI responses as upstreams speak them: relayed only, never translated into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from proxy.chat import ChatRequest
from proxy.wire import Decoder, Sending
from proxy.wire.openai_chat.errors import classify_error, read_error
from proxy.wire.openai_responses.decoder import ResponseDecoder
from proxy.wire.openai_responses.source import ResponseSource
from proxy.wire.openai_responses.usage import read_response_usage, read_usage
from proxy.wire.openai_responses.whole import read_whole

__all__ = ["classify_error", "read_error", "read_response_usage", "read_usage", "read_whole"]

TRANSLATES = False
ANSWER_FIELD = "output"
USAGE_FIELD = "usage"
LIMIT_REQUIRED = False
LIMIT_MIN = 16
"""OpenAI refuses a smaller `max_output_tokens`."""
INSTRUCTS = True


def cannot_carry(chat: Mapping[str, Any]) -> Sequence[str]:
    """Nothing has to be carried: nothing is translated into this format."""
    return ()


def from_chat(request: ChatRequest, sending: Sending) -> dict[str, Any]:
    """The body as it came, which is in this format whenever this is asked."""
    return same_format(request, sending)


def same_format(request: ChatRequest, sending: Sending) -> dict[str, Any]:
    """The object that was priced, with the upstream's model name.

    `output_max` cuts `max_output_tokens`, or sets it. What is to be told to the model follows the
    instructions of the client. Usage comes whatever is asked for, so that nothing is injected.
    """
    body = {**request.body, "model": sending.model}
    if sending.instruct is not None:
        said = body.get("instructions")
        body["instructions"] = f"{said}\n\n{sending.instruct}" if said else sending.instruct
    if (output_max := sending.output_max) is not None:
        body["max_output_tokens"] = min(body.get("max_output_tokens") or output_max, output_max)
    return body


def decoder() -> Decoder:
    """Server-sent events, some of which hold the whole answer."""
    return ResponseDecoder()


def source(request: ChatRequest, *, created_s: int) -> ResponseSource:
    """What reads a stream of response events."""
    return ResponseSource(request, created_s=created_s)
