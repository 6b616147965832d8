"""Bedrock's Converse as upstreams speak it: what they are sent, and what they answer."""

from __future__ import annotations

from typing import Any

from proxy.chat import ChatRequest
from proxy.wire import Decoder, Sending
from proxy.wire.anthropic_messages.models import takes_beginning
from proxy.wire.bedrock_converse.answers import read_whole, source
from proxy.wire.bedrock_converse.errors import classify_error, read_error
from proxy.wire.bedrock_converse.frames import FrameDecoder
from proxy.wire.bedrock_converse.requests import cannot_carry, from_chat
from proxy.wire.bedrock_converse.usage import read_usage

__all__ = [
    "cannot_carry",
    "classify_error",
    "from_chat",
    "read_error",
    "read_usage",
    "read_whole",
    "source",
    "takes_beginning",
]

TRANSLATES = True
ANSWER_FIELD = "output"
USAGE_FIELD = "usage"
LIMIT_REQUIRED = False
LIMIT_MIN = 1
INSTRUCTS = True


def same_format(request: ChatRequest, sending: Sending) -> dict[str, Any]:
    """No client speaks this format, so there is none to relay: it is always written anew."""
    return from_chat(request, sending)


def decoder() -> Decoder:
    """Frames of an AWS event stream."""
    return FrameDecoder()
