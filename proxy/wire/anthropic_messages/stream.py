"""A streamed message, read event by event into chat completion chunks.

Blocks come one after the other, each with a start, deltas and a stop; texts and thoughts go on as
they come, a signed thought is given out whole once more when it is over. Unknown events and fields
are passed over: the API may add some at any time (Anthropic, "Versioning").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from metering.usage import WEB_SEARCH, ReportedUsage
from proxy.chat import ChatRequest
from proxy.unread import size_of
from proxy.wire import Reading
from proxy.wire.anthropic_messages.answers import (
    FORMAT,
    SERVER_TOOLS,
    arguments_of,
    is_kept,
    kept_of,
    shared_fields,
)
from proxy.wire.anthropic_messages.errors import read_event_error
from proxy.wire.anthropic_messages.reasons import finish_reason
from proxy.wire.anthropic_messages.usage import RunningUsage, usage_of

_NOTHING: Final = Reading()
_END: Final = Reading(is_end=True)
_UNKNOWN: Final = Reading(is_odd=True)
_OPEN_MAX = 32
"""Blocks that are open at once; the API opens one at a time."""
_KEPT_MAX = 1024 * 1024
"""Characters of one thought that are kept to be given out whole: more than any answer has."""

_SPOKEN = ("text", "thinking", "compaction")
_SEALED = ("signature_delta", "citations_delta")
"""Deltas of what is no word of the model's."""


class _Block:
    """A block that has begun and is not over."""

    __slots__ = ("call", "has_arguments", "input", "kept", "signature", "size")

    def __init__(self, call: int | None, start: Mapping[str, Any]) -> None:
        self.call = call
        """Which of the calls it is; None for what is no call, or one that is not passed on."""
        self.input = start.get("input")
        self.has_arguments = False
        self.kept: list[str] = []
        self.size = 0
        self.signature: list[str] = []
        if start.get("type") == "thinking":
            self.keep(self.signature, start.get("signature"))

    def keep(self, parts: list[str], text: object) -> None:
        """Put a piece of a thought or its signature aside, as far as there is room."""
        if not isinstance(text, str) or not text:
            return
        self.size += len(text)
        if self.size <= _KEPT_MAX:
            parts.append(text)


class MessageSource:
    """One streamed message."""

    __slots__ = (
        "_blocks",
        "_calls",
        "_created_s",
        "_has_started",
        "_model",
        "_relays",
        "_searches",
        "_shared",
        "_usage",
    )

    def __init__(self, request: ChatRequest, *, created_s: int) -> None:
        self._relays = request.format == FORMAT
        self._model = request.model
        self._created_s = created_s
        self._shared = shared_fields({}, created_s=created_s)
        self._blocks: dict[int, _Block] = {}
        self._calls = 0
        self._searches = 0
        self._usage = RunningUsage()
        self._has_started = False

    def read(self, data: dict[str, Any]) -> Reading:
        """What this event says."""
        kind = data.get("type")
        if kind == "content_block_delta":  # as nearly all are
            return self._delta(data)
        match kind:
            case "message_start":
                return self._start(data.get("message"))
            case "content_block_start":
                return self._block_start(data.get("content_block"), data.get("index"))
            case "content_block_stop":
                return self._block_stop(data.get("index"))
            case "message_delta":
                return self._message_delta(data)
            case "message_stop":
                return _END
            case "ping":
                return _NOTHING
            case "error":
                return self._error(data)
        return self._unread(data, is_odd=True)

    def end_softly(self, choices: Sequence[int], units: Mapping[str, int]) -> bytes:
        """The stops of what is open, the end as of a model that ran out of tokens, and the stop."""
        ends = []
        if not self._has_started:
            ends.append(_event(type="message_start", message=self._empty_message(units)))
        ends += [_event(type="content_block_stop", index=index) for index in sorted(self._blocks)]
        if choices:
            delta = {"stop_reason": "max_tokens", "stop_sequence": None}
            ends.append(_event(type="message_delta", delta=delta, usage=usage_of(units)))
        return b"".join([*ends, _event(type="message_stop")])

    def _empty_message(self, units: Mapping[str, int]) -> dict[str, Any]:
        return {
            "id": f"msg_{self._created_s}",
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {**usage_of(units), "output_tokens": 0},
        }

    def _start(self, message: object) -> Reading:
        if not isinstance(message, dict):
            return _UNKNOWN
        self._has_started = True
        self._shared = shared_fields(message, created_s=self._created_s)
        return Reading(
            (self._chunk({"role": "assistant", "content": ""}),),
            self._report(message.get("usage")),
            unread=self._size(message.get("content")),
        )

    def _block_start(self, start: object, index: object) -> Reading:
        if not isinstance(start, dict) or type(index) is not int:
            return _UNKNOWN
        kind = start.get("type")
        is_call = kind == "tool_use" or (self._relays and kind in SERVER_TOOLS)
        block = _Block(self._calls if is_call else None, start)
        if index in self._blocks or len(self._blocks) < _OPEN_MAX:
            self._blocks[index] = block
        if is_call:
            self._calls += 1
            called = self._called(block, name=start.get("name"), id=start.get("id"))
            return Reading((called,), self._tools_begun(kind, start.get("name")))
        if kind == "redacted_thinking" and is_kept(start):
            return Reading((self._chunk({"thinking_blocks": [kept_of(start)]}),))
        if kind in _SPOKEN:  # its first words may stand in the start
            return self._said(block, {**start, "type": f"{kind}_delta"})
        # a result of a tool that ran there; it is input, which nobody has held anything for
        return _NOTHING if kind == "redacted_thinking" else self._unread(start)

    def _tools_begun(self, kind: object, name: object) -> ReportedUsage | None:
        """The searches until now: the usage that tells them comes last, if it ever comes."""
        if kind != "server_tool_use" or name != WEB_SEARCH:
            return None
        self._searches += 1
        return ReportedUsage(tools={WEB_SEARCH: self._searches})

    def _delta(self, data: dict[str, Any]) -> Reading:
        delta, index = data.get("delta"), data.get("index")
        if not isinstance(delta, dict):
            return _UNKNOWN
        block = self._blocks.get(index) if type(index) is int else None
        return self._said(block, delta)

    def _said(self, block: _Block | None, delta: dict[str, Any]) -> Reading:
        kind = delta.get("type")
        match kind:
            case "text_delta":
                return self._text("content", delta.get("text"))
            case "thinking_delta":
                if block is not None:
                    block.keep(block.kept, delta.get("thinking"))
                return self._text("reasoning_content", delta.get("thinking"))
            case "input_json_delta":
                return self._arguments(block, delta.get("partial_json"))
            case "signature_delta" if block is not None:
                block.keep(block.signature, delta.get("signature"))
            case "compaction_delta" if self._relays:
                return self._text("content", delta.get("content"))
        return _NOTHING if kind in _SEALED else self._unread(delta)

    def _unread(self, said: dict[str, Any], *, is_odd: bool = False) -> Reading:
        """What has no place in a chunk: the client gets it all the same where it is relayed."""
        size = self._size([value for name, value in said.items() if name not in _LABELS])
        return Reading(is_odd=is_odd, unread=size) if size else _UNKNOWN if is_odd else _NOTHING

    def _size(self, value: object) -> int:
        return size_of(value) if self._relays and value else 0

    def _text(self, field: str, text: object) -> Reading:
        if not isinstance(text, str) or not text:
            return _NOTHING
        return Reading((self._chunk({field: text}),))

    def _arguments(self, block: _Block | None, text: object) -> Reading:
        if block is None or block.call is None or not isinstance(text, str) or not text:
            return _NOTHING
        block.has_arguments = True
        return Reading((self._called(block, arguments=text),))

    def _block_stop(self, index: object) -> Reading:
        block = self._blocks.pop(index, None) if type(index) is int else None
        if block is None:
            return _NOTHING
        if block.call is not None and not block.has_arguments:
            # a tool without arguments, or a server that does not stream them
            return Reading((self._called(block, arguments=arguments_of(block.input)),))
        if block.signature and block.size <= _KEPT_MAX:
            whole = {
                "type": "thinking",
                "thinking": "".join(block.kept),
                "signature": "".join(block.signature),
            }
            return Reading((self._chunk({"thinking_blocks": [whole]}),))
        return _NOTHING

    def _message_delta(self, data: dict[str, Any]) -> Reading:
        delta = data.get("delta")
        said: dict[str, Any] = delta if isinstance(delta, dict) else {}
        usage = self._report(data.get("usage"))
        reason = finish_reason(said.get("stop_reason"))
        if reason is None:
            return Reading((), usage)
        chunk = self._chunk({}, reason)
        if isinstance(stop := said.get("stop_sequence"), str):
            chunk["choices"][0]["stop_sequence"] = stop
        return Reading((chunk,), usage)

    def _error(self, data: dict[str, Any]) -> Reading:
        words = read_event_error(data)
        error = {"message": words.message, "type": words.type, "code": words.code}
        return Reading(({**self._shared, "choices": [], "error": error},), is_odd=True)

    def _report(self, usage: object) -> ReportedUsage | None:
        return self._usage.take(usage) if isinstance(usage, dict) else None

    def _called(self, block: _Block, **fields: object) -> dict[str, Any]:
        """A chunk with a piece of a call: first its id and name, then its arguments."""
        call: dict[str, Any] = {"index": block.call}
        if "name" in fields:
            name, id_ = fields["name"], fields["id"]
            call |= {
                "id": id_ if isinstance(id_, str) else "",
                "type": "function",
                "function": {"name": name if isinstance(name, str) else "", "arguments": ""},
            }
        else:
            call["function"] = {"arguments": fields["arguments"]}
        return self._chunk({"tool_calls": [call]})

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {**self._shared, "choices": [choice]}


_LABELS = frozenset({"type", "id", "tool_use_id", "name", "index"})


def _event(**fields: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (fields["type"].encode(), orjson.dumps(fields))
