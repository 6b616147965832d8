"""OpenAI's embeddings as upstreams speak them: what they are sent, and what they answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from metering.usage import INPUT_UNCACHED, ReportedUsage, is_count
from proxy import sse
from proxy.chat import ChatRequest
from proxy.errors import InvalidRequest
from proxy.wire import Decoder, Sending, Source
from proxy.wire.openai_chat.errors import classify_error, read_error

__all__ = ["classify_error", "read_error"]

TRANSLATES = False
ANSWER_FIELD = "data"
USAGE_FIELD = "usage"
LIMIT_REQUIRED = False
LIMIT_MIN = 1
INSTRUCTS = False


def cannot_carry(chat: Mapping[str, Any]) -> Sequence[str]:
    """The conversation itself."""
    return ("messages",)


def from_chat(request: ChatRequest, sending: Sending) -> dict[str, Any]:
    """Always refused: see `TRANSLATES`."""
    raise InvalidRequest("A conversation cannot be embedded.", param="messages")


def same_format(request: ChatRequest, sending: Sending) -> dict[str, Any]:
    """The object that was priced, with the upstream's model name: there is no output to bound."""
    return {**request.body, "model": sending.model}


def decoder() -> Decoder:
    """Server-sent events, of which there are none."""
    return sse.Decoder()


def source(request: ChatRequest, *, created_s: int) -> Source:
    """Never asked for: a request that is streamed was refused."""
    raise AssertionError("embeddings are not streamed")


def read_whole(
    answer: dict[str, Any], request: ChatRequest, *, created_s: int
) -> dict[str, Any] | None:
    """What is metered of a list of vectors: no choices; None when it is no such list."""
    if not isinstance(answer.get("data"), list):
        return None
    return {"object": "chat.completion", "model": answer.get("model"), "choices": []}


def read_usage(usage: Mapping[str, Any]) -> ReportedUsage:
    """`prompt_tokens`; where a server tells only `total_tokens`, that. An output there is none."""
    told, total = usage.get("prompt_tokens"), usage.get("total_tokens")
    prompt = total if told is None else told
    if prompt is None:
        return ReportedUsage()
    if not is_count(prompt):
        name = "total_tokens" if told is None else "prompt_tokens"
        return ReportedUsage(suspect=f"{name} is not a believable count")
    doubt = None
    if total is not None and total != prompt:
        doubt = "total_tokens is not the sum of its parts"
    return ReportedUsage(input={INPUT_UNCACHED: int(prompt)}, output={}, doubt=doubt)
