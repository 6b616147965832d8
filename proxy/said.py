"""What a client has had of a streamed answer, noted so that another upstream can go on with it.

Only text can be gone on with. A call that has begun, a picture, sound, probabilities of tokens, and
whatever was relayed without being understood, end that: nobody could say what the client has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxy.sse import DONE, Event
from proxy.wire import Reading
from proxy.wire.openai_chat.endings import shared_fields

TEXT_MAX = 1024 * 1024
"""Characters of text that are kept; no model says more in one answer."""

_WORDLESS = frozenset(
    {"role", "reasoning_content", "reasoning", "thinking_blocks", "reasoning_details"}
)
"""Fields of a delta that leave the text as it is; thoughts are not gone on with, but had anew."""


class Said:
    """One stream as its client has it; fed by whoever reads it."""

    __slots__ = ("_parts", "_size", "block", "block_index", "is_plain", "message_id", "shared")

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._size = 0
        self.is_plain = True
        """Whether it is nothing but text so far."""
        self.shared: dict[str, Any] = {}
        """The fields that all its chunks share."""
        self.message_id = ""
        """Of a relayed message of Anthropic's, once it has begun."""
        self.block_index = -1
        """Of the last block of such a message."""
        self.block = ""
        """The kind of the block that is open; none is if it is empty."""

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._parts)

    def hear(self, event: Event, data: Mapping[str, Any] | None, reading: Reading | None) -> None:
        """Note one event: what is in it, and what was read there."""
        if reading is None or data is None:
            # comments, and the end, say nothing; what could not be read may say anything
            is_silent = event.data is None or not event.data or event.data.strip() == DONE
            self.is_plain &= is_silent and not event.is_opaque
            return
        if reading.unread:
            self.is_plain = False
        for chunk in reading.chunks:
            if not chunk.get("error"):
                self._take(chunk)
        if isinstance(kind := data.get("type"), str):
            self._frame(kind, data)

    def _take(self, chunk: Mapping[str, Any]) -> None:
        if "id" not in self.shared:
            self.shared = shared_fields(chunk)
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if not isinstance(choice, dict) or choice.get("index") not in (0, None):
                self.is_plain = False
                return
            delta = choice.get("delta")
            if choice.get("logprobs") or not isinstance(delta, dict):
                self.is_plain = False
            else:
                self._say(delta)

    def _say(self, delta: Mapping[str, Any]) -> None:
        for name, value in delta.items():
            if not value or name in _WORDLESS:
                continue
            if name != "content" or not isinstance(value, str):
                self.is_plain = False
                return
            self._parts.append(value)
            self._size += len(value)
            if self._size > TEXT_MAX:
                self._parts.clear()
                self.is_plain = False

    def _frame(self, kind: str, data: Mapping[str, Any]) -> None:
        """The frame of a message of Anthropic's, in which its blocks are numbered."""
        match kind:
            case "message_start":
                message = data.get("message")
                own = message.get("id") if isinstance(message, dict) else None
                self.message_id = own if isinstance(own, str) else ""
            case "content_block_start":
                index, block = data.get("index"), data.get("content_block")
                if type(index) is not int or not isinstance(block, dict):
                    self.is_plain = False
                    return
                self.block_index, self.block = index, str(block.get("type"))
                self.is_plain &= self.block in ("text", "thinking", "redacted_thinking")
            case "content_block_stop":
                self.block = ""
