"""How we end a stream of chat completion chunks ourselves: as an upstream that ran out of tokens.

Clients know `finish_reason: length`; they neither retry nor fail.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from metering.usage import (
    INPUT_AUDIO,
    INPUT_CACHE_READ,
    INPUT_CACHE_WRITE_1H,
    INPUT_CACHE_WRITE_5M,
    INPUT_CLASSES,
    INPUT_IMAGE,
    OUTPUT_AUDIO,
    OUTPUT_REASONING,
    TOKEN_CLASSES,
)
from proxy.sse import DONE

_NAMED = ("id", "object", "created", "model", "system_fingerprint", "service_tier")
"""Fields that all chunks of a stream share; clients put chunks together by them."""

FINISH_REASON = "length"

_DETAILS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "prompt_tokens_details": {
        "cached_tokens": (INPUT_CACHE_READ,),
        "cache_write_tokens": (INPUT_CACHE_WRITE_5M, INPUT_CACHE_WRITE_1H),
        "audio_tokens": (INPUT_AUDIO,),
        "image_tokens": (INPUT_IMAGE,),
    },
    "completion_tokens_details": {
        "reasoning_tokens": (OUTPUT_REASONING,),
        "audio_tokens": (OUTPUT_AUDIO,),
    },
}


def shared_fields(chunk: Mapping[str, Any]) -> dict[str, Any]:
    """What the last chunks have to say as the first one did."""
    named = {name: chunk[name] for name in _NAMED if is_said(chunk.get(name))}
    return {"object": "chat.completion.chunk", **named}


def is_said(value: object) -> bool:
    """Whether such a field says anything: Azure begins with a chunk about its content filter, which
    leaves id, model and date empty."""
    if type(value) is int:  # a wider one could not be written
        return 0 < value < 2**63
    return isinstance(value, str) and bool(value)


def soft_end(
    shared: Mapping[str, Any], *, choices: Iterable[int], units: Mapping[str, int] | None
) -> bytes:
    """A last chunk for each of these choices, the usage chunk where `units` are given, `[DONE]`."""
    ends = [_chunk(shared, choices=[_last(index)]) for index in choices]
    if units is not None:
        ends.append(_chunk(shared, choices=[], usage=usage_of(units)))
    return b"".join([*ends, b"data: " + DONE + b"\n\n"])


def _last(index: int) -> dict[str, Any]:
    return {"index": index, "delta": {}, "logprobs": None, "finish_reason": FINISH_REASON}


def _chunk(shared: Mapping[str, Any], **fields: Any) -> bytes:
    return b"data: " + orjson.dumps({**shared, **fields}) + b"\n\n"


def usage_of(units: Mapping[str, int]) -> dict[str, Any]:
    """Token classes as this format tells usage; its totals are inclusive."""
    prompt = sum(units.get(name, 0) for name in INPUT_CLASSES)
    every = sum(units.get(name, 0) for name in TOKEN_CLASSES)
    usage: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": every - prompt,
        "total_tokens": every,
    }
    for group, names in _DETAILS.items():
        told = {
            name: count
            for name, classes in names.items()
            if (count := sum(units.get(each, 0) for each in classes))
        }
        if told:
            usage[group] = told
    return usage
