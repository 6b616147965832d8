"""What every completion chunk repeats, and how we end a stream of them ourselves. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import orjson

from proxy.sse import DONE
from proxy.wire.openai_chat.endings import FINISH_REASON, is_said, usage_of

AS_SAID = "x_completion"
"""The field of a neutral choice that holds a completion's own text and logprobs, where a whole
answer is told to a client of this same format as a stream."""


class AsSaid(NamedTuple):
    """What stands there. No JSON is read as one, so an upstream cannot put it there."""

    text: str
    logprobs: Any


_NAMED = ("created", "model", "system_fingerprint")
_ID = "cmpl-"
_CHAT_ID = "chatcmpl-"


def shared_fields(chunk: Mapping[str, Any]) -> dict[str, Any]:
    """What an answer repeats on each chunk, of a completion or of a chat completion."""
    own = chunk.get("id")
    found: dict[str, Any] = {"object": "text_completion"}
    if isinstance(own, str) and own:  # Azure's first chunk has it empty
        found["id"] = _ID + own.removeprefix(_CHAT_ID) if own.startswith(_CHAT_ID) else own
    for name in _NAMED:
        if is_said(chunk.get(name)):
            found[name] = chunk[name]
    return found


def stream_end(
    shared: Mapping[str, Any], *, choices: Iterable[int], units: Mapping[str, int] | None
) -> bytes:
    """A last chunk for each of these choices, the usage chunk where `units` are given, `[DONE]`."""
    shared = shared or {"object": "text_completion"}
    ends = [_event({**shared, "choices": [_last(index)]}) for index in choices]
    if units is not None:
        ends.append(_event({**shared, "choices": [], "usage": usage_of(units)}))
    return b"".join([*ends, b"data: " + DONE + b"\n\n"])


def _last(index: int) -> dict[str, Any]:
    return {"text": "", "index": index, "logprobs": None, "finish_reason": FINISH_REASON}


def _event(fields: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(fields) + b"\n\n"
