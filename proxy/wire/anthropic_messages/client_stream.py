"""Writes Anthropic's streamed events from chat completion chunks.

Rules: blocks come one after the other, each ended before the next begins; `message_start` goes out
with the first chunk, so that nothing waits; what is said in the midst of a call's arguments follows
the calls, whose block could not be opened again; how it ended and what it used is told by `end`,
which is asked for when both are certain. Usage in `message_delta` replaces that of `message_start`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from metering.usage import INPUT_UNCACHED
from proxy.wire.anthropic_messages.client_answer import (
    blocks_of,
    call_id,
    message_id,
    stop_of,
    thought_of,
    tier_of,
    usage_of,
)
from proxy.wire.anthropic_messages.client_calls import Call, Calls
from proxy.wire.anthropic_messages.client_events import event

_EMPTY = {
    "text": {"type": "text", "text": ""},
    "thinking": {"type": "thinking", "thinking": "", "signature": ""},
}

_WORDS = ("content", "reasoning_content", "reasoning", "refusal", "thinking_blocks")


class MessageWriter:
    """One message as it is streamed. `prompt_tokens` is our count of the prompt, told first."""

    __slots__ = (
        "_calls",
        "_choice",
        "_held",
        "_holds",
        "_id",
        "_index",
        "_is_refusal",
        "_kind",
        "_model",
        "_out",
        "_prompt_tokens",
        "_stops",
        "_thought",
        "_thought_size",
    )

    def __init__(self, *, model: str, stops: Sequence[str] = (), prompt_tokens: int = 0) -> None:
        self._model = model
        self._stops = stops
        self._prompt_tokens = prompt_tokens
        self._id = ""
        self._index = -1
        self._kind = ""
        """Of the block that is open; none is if it is empty."""
        self._thought: list[str] = []
        self._thought_size = 0
        self._holds = False
        """Whether the open call has yet to be completed, as far as was asked."""
        self._held: list[Mapping[str, Any]] = []
        self._calls = Calls()
        self._choice: Mapping[str, Any] = {}
        self._is_refusal = False
        self._out: list[bytes] = []

    def resume(self, message_id: str, *, index: int, kind: str) -> None:
        """Go on with a message that was begun elsewhere: this is its last block, of this kind where
        it is open."""
        self._id, self._index, self._kind = message_id, index, kind

    def write(self, chunk: dict[str, Any]) -> bytes:
        """The events for this chunk."""
        if chunk.get("error"):
            return b""
        if not self._id:
            self._start(chunk)
        choice = _choice(chunk)
        delta = choice.get("delta")
        if isinstance(delta, dict):
            if self._must_hold(delta):
                self._held.append({**delta, "tool_calls": None, "function_call": None})
            else:
                self._say(delta)
            self._say_calls(delta)
        if isinstance(choice.get("finish_reason"), str):
            self._choice = choice
            self._finish_all()
        return self._flushed()

    def end(self, units: Mapping[str, int]) -> bytes:
        """The events that end the stream."""
        if not self._id:
            self._start({})
        self._finish_all()
        reason, met = stop_of(
            self._choice,
            self._stops,
            has_calls=self._calls.count > 0,
            is_refusal=self._is_refusal,
        )
        delta = {"stop_reason": reason, "stop_sequence": met}
        self._tell("message_delta", delta=delta, usage=usage_of(units))
        self._tell("message_stop")
        return self._flushed()

    def _start(self, chunk: Mapping[str, Any]) -> None:
        self._id = message_id(chunk)
        own = chunk.get("model")
        usage = usage_of({INPUT_UNCACHED: self._prompt_tokens})
        # SDKs do not replace it at the end, and would tell zeros beside the totals that came
        del usage["cache_creation"]
        message: dict[str, Any] = {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": own if isinstance(own, str) and own else self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {**usage, **tier_of(chunk)},
        }
        self._tell("message_start", message=message)

    def _say(self, delta: Mapping[str, Any]) -> None:
        blocks = blocks_of(delta) if delta.get("thinking_blocks") else []
        thought = thought_of(delta)
        if thought and not any(block.get("thinking") for block in blocks):
            self._think(thought)
        for block in blocks:
            self._take_block(block)
        refusal = delta.get("refusal")
        if refusal and isinstance(refusal, str):
            self._is_refusal = True
        for text in (delta.get("content"), refusal):
            if text and isinstance(text, str):
                self._open("text")
                self._delta(self._index, "text_delta", text=text)

    def _must_hold(self, delta: Mapping[str, Any]) -> bool:
        """Whether words come while the arguments of a call do. Asked once for each call, which
        holds all that comes until it is over."""
        if self._kind != "tool_use" or not any(delta.get(name) for name in _WORDS):
            return False
        self._holds = self._holds or not self._calls.is_current_whole
        return self._holds

    def _say_calls(self, delta: Mapping[str, Any]) -> None:
        calls = delta.get("tool_calls")
        for position, piece in enumerate(calls if isinstance(calls, list) else ()):
            if isinstance(piece, dict):
                own = piece.get("index")
                self._take_call(own if type(own) is int else position, piece)
        if isinstance(delta.get("function_call"), dict):
            self._take_call(-1, {"function": delta["function_call"]})

    def _think(self, thought: str) -> None:
        self._open("thinking")
        self._thought.append(thought)
        self._thought_size += len(thought)
        self._delta(self._index, "thinking_delta", thinking=thought)

    def _take_block(self, block: Mapping[str, Any]) -> None:
        """A thinking block, or a piece of one. Where it is whole, its text may have been told
        before, bit by bit as `reasoning_content`."""
        if block["type"] == "redacted_thinking":
            self._finish()
            self._begin("redacted_thinking", dict(block))
            self._close()
            return
        text = block["thinking"]
        is_repeated = (
            self._kind == "thinking"
            and self._thought_size == len(text)
            and "".join(self._thought) == text
        )
        if text and not is_repeated:
            self._think(text)
        if signature := block["signature"]:
            self._open("thinking")
            self._delta(self._index, "signature_delta", signature=signature)
            self._close()

    def _take_call(self, slot: int, piece: Mapping[str, Any]) -> None:
        call, told = self._calls.take(slot, piece)
        # what follows complete arguments, in a block that is over, makes no JSON in any order
        if told and call.block == self._index and self._kind == "tool_use":
            self._delta(call.block, "input_json_delta", partial_json=told)
        for each in self._calls.ready():
            self._begin_call(each)

    def _begin_call(self, call: Call) -> None:
        self._close()
        own = call_id(call.id, self._id, call.position)
        self._begin("tool_use", {"type": "tool_use", "id": own, "name": call.name, "input": {}})
        call.block = self._index
        if told := "".join(call.pieces):
            self._delta(self._index, "input_json_delta", partial_json=told)

    def _finish(self) -> None:
        for call in self._calls.ready(is_end=True):
            self._begin_call(call)
        self._close()

    def _finish_all(self) -> None:
        """End what is open, and say what was held back for it."""
        self._finish()
        held, self._held = self._held, []
        for delta in held:
            self._say(delta)
        self._finish()

    def _open(self, kind: str) -> None:
        if self._kind != kind:
            self._finish()
            self._begin(kind, _EMPTY[kind])

    def _begin(self, kind: str, block: dict[str, Any]) -> None:
        self._index += 1
        self._kind = kind
        self._tell("content_block_start", index=self._index, content_block=block)

    def _close(self) -> None:
        if self._kind:
            self._kind = ""
            self._thought.clear()
            self._thought_size, self._holds = 0, False
            self._tell("content_block_stop", index=self._index)

    def _delta(self, index: int, kind: str, **fields: str) -> None:
        self._tell("content_block_delta", index=index, delta={"type": kind, **fields})

    def _tell(self, kind: str, **fields: Any) -> None:
        self._out.append(event(kind, {"type": kind, **fields}))

    def _flushed(self) -> bytes:
        told = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        return told


def _choice(chunk: Mapping[str, Any]) -> Mapping[str, Any]:
    """The choice with the index 0: a message is one answer."""
    choices = chunk.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and choice.get("index") in (0, None):
            return choice
    return {}
