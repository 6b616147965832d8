"""What Bedrock answers, as chat completions: whole, and in chunks.

Blocks of an answer have an index each: text and reasoning are put together as they come, calls of
tools are numbered anew. Neither the model nor an id stands in an answer, so the model is named as
the client did, and the id is made from the request and the time. Nothing in it can be trusted: what
has the wrong type is passed over.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from metering.usage import ReportedUsage
from proxy import json_bounds
from proxy.chat import ChatRequest
from proxy.wire import Reading
from proxy.wire.bedrock_converse.errors import stream_error
from proxy.wire.bedrock_converse.usage import read_usage

_FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
    # what is there is of no use: clients raise at an answer that was cut off, instead of parsing it
    "malformed_model_output": "length",
    "malformed_tool_use": "length",
}
_THINKING_MAX = 4 * 1024 * 1024
"""Characters of a block of thinking that are kept for the signature at its end."""

_ID_TEXT_MAX = 4096
_LONE = re.compile("[\ud800-\udfff]")


def finish_reason(reason: object) -> str:
    """OpenAI's word for a stop reason; one that is new is an end like any other."""
    return _FINISH_REASONS.get(reason, "stop") if isinstance(reason, str) else "stop"


def answer_id(request: ChatRequest, created_s: int) -> str:
    """An id for an answer: the same for the same request in the same second."""
    messages = request.chat.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    content = last.get("content") if isinstance(last, dict) else None
    said = content[-_ID_TEXT_MAX:] if isinstance(content, str) else ""
    text = f"{created_s}:{request.model}:{said}".encode("utf-8", "replace")
    return f"chatcmpl-{hashlib.sha256(text).hexdigest()[:24]}"


def read_whole(
    answer: dict[str, Any], request: ChatRequest, *, created_s: int
) -> dict[str, Any] | None:
    """A whole answer as a chat completion; None when it is nothing of the kind."""
    output = answer.get("output")
    said = output.get("message") if isinstance(output, dict) else None
    blocks = said.get("content") if isinstance(said, dict) else None
    if not isinstance(blocks, list):
        return None
    message = _message([block for block in blocks if isinstance(block, dict)])
    choice: dict[str, Any] = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": finish_reason(answer.get("stopReason")),
        **_met_stop(answer),
    }
    completion: dict[str, Any] = {
        "id": answer_id(request, created_s),
        "object": "chat.completion",
        "created": created_s,
        "model": request.model,
        "choices": [choice],
    }
    if (tier := _tier(answer)) is not None:
        completion["service_tier"] = tier
    return completion


def _message(blocks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    texts = [text for block in blocks if (text := _block_text(block)) is not None]
    calls = [call for block in blocks if (call := _call(block.get("toolUse"))) is not None]
    thinking = [
        found for block in blocks if (found := _thinking(block.get("reasoningContent"))) is not None
    ]
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts) if texts else None}
    if calls:
        message["tool_calls"] = calls
    thoughts = "".join([each.get("thinking", "") for each in thinking])
    if thoughts:
        message["reasoning_content"] = thoughts
    if sealed := [each for each in thinking if "signature" in each or "data" in each]:
        message["thinking_blocks"] = sealed
    return message


def _block_text(block: dict[str, Any]) -> str | None:
    if isinstance(text := block.get("text"), str):
        return text
    cited = block.get("citationsContent")
    parts = cited.get("content") if isinstance(cited, dict) else None
    if not isinstance(parts, list):
        return None
    return "".join([_text(each, "text") for each in parts if isinstance(each, dict)])


def _call(use: Any) -> dict[str, Any] | None:
    if not isinstance(use, dict):
        return None
    given = use.get("input")
    arguments = json_bounds.text_of({} if given is None else given)
    return {
        "id": _text(use, "toolUseId"),
        "type": "function",
        "function": {"name": _text(use, "name"), "arguments": arguments},
    }


def _thinking(content: Any) -> dict[str, Any] | None:
    if not isinstance(content, dict):
        return None
    if isinstance(data := content.get("redactedContent"), str):
        return {"type": "redacted_thinking", "data": data}
    found = content.get("reasoningText")
    if not isinstance(found, dict):
        return None
    block = {"type": "thinking", "thinking": _text(found, "text")}
    if isinstance(signature := found.get("signature"), str):
        block["signature"] = signature
    return block


class EventSource:
    """One streamed answer, read event by event."""

    __slots__ = ("_shared", "_slots", "_thoughts", "_thoughts_size", "_unfilled")

    def __init__(self, request: ChatRequest, created_s: int) -> None:
        self._shared = {
            "id": answer_id(request, created_s),
            "object": "chat.completion.chunk",
            "created": created_s,
            "model": request.model,
        }
        self._slots: dict[int, int] = {}  # the number of a call by the index of its block
        self._unfilled: set[int] = set()  # calls of which no argument has come
        self._thoughts: dict[int, list[str]] = {}
        self._thoughts_size = 0

    def read(self, data: dict[str, Any]) -> Reading:
        """What this event says; its only name is its type."""
        for kind, said in data.items():
            if isinstance(said, dict) and (read := self._READERS.get(kind)) is not None:
                return read(self, said)
        return Reading()

    def end_softly(self, choices: Sequence[int], units: Mapping[str, int]) -> bytes:
        """Nothing: no client speaks this format, so its streams are always written anew."""
        return b""

    def _start(self, said: dict[str, Any]) -> Reading:
        return self._delta({"role": "assistant", "content": ""})

    def _block_start(self, said: dict[str, Any]) -> Reading:
        start = said.get("start")
        use = start.get("toolUse") if isinstance(start, dict) else None
        if not isinstance(use, dict):
            return Reading()
        slot = self._slot(_index(said))
        self._unfilled.add(slot)
        function = {"name": _text(use, "name"), "arguments": ""}
        call = {"index": slot, "id": _text(use, "toolUseId"), "type": "function"}
        return self._delta({"tool_calls": [{**call, "function": function}]})

    def _block_delta(self, said: dict[str, Any]) -> Reading:
        delta = said.get("delta")
        if not isinstance(delta, dict):
            return Reading()
        if text := _text(delta, "text"):
            return self._delta({"content": text})
        if isinstance(use := delta.get("toolUse"), dict):
            return self._arguments(_index(said), _text(use, "input"))
        if isinstance(thought := delta.get("reasoningContent"), dict):
            return self._thought(_index(said), thought)
        return Reading()

    def _block_stop(self, said: dict[str, Any]) -> Reading:
        self._thoughts.pop(_index(said), None)
        slot = self._slots.get(_index(said))
        if slot is None or slot not in self._unfilled:
            return Reading()
        # a call without arguments is one of `{}` in this form, and `""` is no JSON
        return self._arguments(_index(said), "{}")

    def _stop(self, said: dict[str, Any]) -> Reading:
        reason = finish_reason(said.get("stopReason"))
        return self._delta({}, finish_reason=reason, **_met_stop(said))

    def _metadata(self, said: dict[str, Any]) -> Reading:
        usage = said.get("usage")
        reported: ReportedUsage | None = read_usage(usage) if isinstance(usage, dict) else None
        tier = _tier(said)
        # what is served as it is by default is not said: a chunk without choices surprises some
        told = [] if tier in {None, "default"} else [{**self._shared, "choices": []}]
        for chunk in told:
            chunk["service_tier"] = tier
        return Reading(told, reported, is_end=True)

    def _exception(self, said: dict[str, Any]) -> Reading:
        error = stream_error(_text(said, "type"), _text(said, "message"))
        return Reading([{**self._shared, "choices": [], "error": error}], is_odd=True)

    def _arguments(self, index: int, text: str) -> Reading:
        if not text:
            return Reading()
        slot = self._slot(index)
        self._unfilled.discard(slot)
        return self._delta({"tool_calls": [{"index": slot, "function": {"arguments": text}}]})

    def _thought(self, index: int, thought: dict[str, Any]) -> Reading:
        if text := _text(thought, "text"):
            if self._thoughts_size + len(text) <= _THINKING_MAX:
                self._thoughts.setdefault(index, []).append(text)
            self._thoughts_size += len(text)
            return self._delta({"reasoning_content": text})
        if data := _text(thought, "redactedContent"):
            return self._delta({"thinking_blocks": [{"type": "redacted_thinking", "data": data}]})
        signature = _text(thought, "signature")
        if not signature or self._thoughts_size > _THINKING_MAX:
            return Reading()
        told = "".join(self._thoughts.pop(index, ()))
        block = {"type": "thinking", "thinking": told, "signature": signature}
        return self._delta({"thinking_blocks": [block]})

    def _slot(self, index: int) -> int:
        return self._slots.setdefault(index, len(self._slots))

    def _delta(self, delta: dict[str, Any], **fields: Any) -> Reading:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None, **fields}
        return Reading([{**self._shared, "choices": [choice]}])

    _READERS: ClassVar[Mapping[str, Callable[[EventSource, dict[str, Any]], Reading]]] = {
        "messageStart": _start,
        "contentBlockStart": _block_start,
        "contentBlockDelta": _block_delta,
        "contentBlockStop": _block_stop,
        "messageStop": _stop,
        "metadata": _metadata,
        "exception": _exception,
    }


def source(request: ChatRequest, *, created_s: int) -> EventSource:
    """What reads one streamed answer."""
    return EventSource(request, created_s)


def _index(said: dict[str, Any]) -> int:
    index = said.get("contentBlockIndex")
    return index if type(index) is int else 0


def _text(said: dict[str, Any], name: str) -> str:
    """What stands there, if it is text; half a surrogate pair is no letter and cannot be sent."""
    value = said.get(name)
    if not isinstance(value, str):
        return ""
    if value.isascii() or not _LONE.search(value):
        return value
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _tier(said: dict[str, Any]) -> str | None:
    tier = said.get("serviceTier")
    return (_text(tier, "type") or None) if isinstance(tier, dict) else None


def _met_stop(said: dict[str, Any]) -> dict[str, Any]:
    """Which of the stops was met, where the model tells it (see `requests.stop_paths`)."""
    more = said.get("additionalModelResponseFields")
    met = _text(more, "stop_sequence") if isinstance(more, dict) else ""
    return {"stop_sequence": met} if met else {}
