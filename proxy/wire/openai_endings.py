"""How we end a stream of chat completion chunks ourselves: as an upstream that ran out of tokens.

Clients know `finish_reason: length`; they neither retry nor fail.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from metering.usage import INPUT_CLASSES, TOKEN_CLASSES
from proxy.sse import DONE

_NAMED = ("id", "object", "created", "model", "system_fingerprint", "service_tier")
"""Fields that all chunks of a stream share; clients put chunks together by them."""

FINISH_REASON = "length"


def shared_fields(chunk: Mapping[str, Any]) -> dict[str, Any]:
    """What the last chunks have to say as the first one did."""
    named = {name: chunk[name] for name in _NAMED if isinstance(chunk.get(name), str | int)}
    return {"object": "chat.completion.chunk", **named}


def soft_end(
    shared: Mapping[str, Any], *, choices: Iterable[int], units: Mapping[str, int] | None
) -> bytes:
    """A last chunk for each of these choices, the usage chunk where `units` are given, `[DONE]`."""
    ends = [_chunk(shared, choices=[_last(index)]) for index in choices]
    if units is not None:
        ends.append(_chunk(shared, choices=[], usage=_usage(units)))
    return b"".join([*ends, b"data: " + DONE + b"\n\n"])


def _last(index: int) -> dict[str, Any]:
    return {"index": index, "delta": {}, "logprobs": None, "finish_reason": FINISH_REASON}


def _chunk(shared: Mapping[str, Any], **fields: Any) -> bytes:
    return b"data: " + orjson.dumps({**shared, **fields}) + b"\n\n"


def _usage(units: Mapping[str, int]) -> dict[str, int]:
    prompt = sum(units.get(name, 0) for name in INPUT_CLASSES)
    every = sum(units.get(name, 0) for name in TOKEN_CLASSES)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": every - prompt,
        "total_tokens": every,
    }
