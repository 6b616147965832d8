"""The Messages API as upstreams speak it: what they are sent, and what they answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from proxy import sse
from proxy.chat import ChatRequest
from proxy.wire import Decoder, Sending
from proxy.wire.anthropic_messages.answers import read_whole
from proxy.wire.anthropic_messages.carrying import uncarried
from proxy.wire.anthropic_messages.errors import classify_error, read_error
from proxy.wire.anthropic_messages.models import takes_beginning
from proxy.wire.anthropic_messages.strangers import without_strangers
from proxy.wire.anthropic_messages.stream import MessageSource
from proxy.wire.anthropic_messages.thinking import fitted
from proxy.wire.anthropic_messages.usage import read_usage
from proxy.wire.anthropic_messages.writing import from_chat

__all__ = [
    "classify_error",
    "from_chat",
    "read_error",
    "read_usage",
    "read_whole",
    "takes_beginning",
]

TRANSLATES = True
ANSWER_FIELD = "content"
USAGE_FIELD = "usage"
LIMIT_REQUIRED = True
LIMIT_MIN = 1
INSTRUCTS = True


def cannot_carry(chat: Mapping[str, Any]) -> Sequence[str]:
    """The fields of a chat request that have no place here."""
    return uncarried(chat)


def same_format(request: ChatRequest, sending: Sending) -> dict[str, Any]:
    """The object that was priced, with the upstream's model name.

    `output_max` cuts `max_tokens`, and what is thought of it; what is instructed comes after the
    system prompt that is there, so that what is cached of it stays cached. Thoughts that another
    maker's model had are left out.
    """
    body = without_strangers({**request.body, "model": sending.model})
    if sending.instruct is not None:
        body["system"] = _instructed(body.get("system"), sending.instruct)
    if (output_max := sending.output_max) is not None:
        asked = body.get("max_tokens")
        body["max_tokens"] = min(asked, output_max) if type(asked) is int else output_max
        body = fitted(body, body["max_tokens"])
    return body


def _instructed(system: object, text: str) -> object:
    added = {"type": "text", "text": text}
    if isinstance(system, list):
        return [*system, added]
    if isinstance(system, str) and system.strip():
        return [{"type": "text", "text": system}, added]
    return [added] if system is None or system == "" or isinstance(system, str) else system


def decoder() -> Decoder:
    """Server-sent events."""
    return sse.Decoder()


def source(request: ChatRequest, *, created_s: int) -> MessageSource:
    """What reads a stream of events."""
    return MessageSource(request, created_s=created_s)
