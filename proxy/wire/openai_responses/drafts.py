"""Output items while they are being written, and the events that end them.

A draft is kept of every item that has begun, whether we write the stream or only relay it: what we
end ourselves has to be whole in the eyes of a client that puts it together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

Happening = tuple[str, dict[str, Any]]
"""The name of an event and its fields."""

_TEXT_FIELDS = {"refusal": "refusal"}
_CALL_DONE = {
    "arguments": "response.function_call_arguments.done",
    "input": "response.custom_tool_call_input.done",
}
_CALL_FIELDS = {"function_call": "arguments", "custom_tool_call": "input"}


@dataclass(slots=True)
class Part:
    """One text of an item: a part of its content or summary, or the arguments of a call."""

    kind: str
    text: StringIO = field(default_factory=StringIO)
    extra: dict[str, list[Any]] = field(default_factory=dict)
    """`annotations` and `logprobs` of a text."""
    is_said: bool = False
    """Its text has been ended."""
    is_done: bool = False

    def add(self, text: str) -> None:
        """The next characters."""
        self.text.write(text)

    def rest(self, text: str) -> str:
        """What of this whole text has not been added yet; adds it."""
        rest = text[self.text.tell() :]
        self.text.write(rest)
        return rest

    def whole(self) -> dict[str, Any]:
        """The part as it stands in an item."""
        name = _TEXT_FIELDS.get(self.kind, "text")
        part: dict[str, Any] = {"type": self.kind, name: self.text.getvalue()}
        if self.kind == "output_text":
            part["annotations"] = self.extra.get("annotations", [])
            part["logprobs"] = self.extra.get("logprobs", [])
        return part


class Draft:
    """One output item: `item` as it began, `parts` by their place and index in it."""

    __slots__ = ("final", "index", "item", "parts")

    def __init__(self, index: int, item: dict[str, Any]) -> None:
        self.index = index
        self.item = item
        self.parts: dict[tuple[str, int], Part] = {}
        self.final: dict[str, Any] | None = None
        """The item as it was ended."""

    def part(self, place: str, index: int, kind: str) -> Part:
        """The part at that place, begun where it is not yet there."""
        found = self.parts.get((place, index))
        if found is None:
            found = self.parts[place, index] = Part(kind)
        return found

    def whole(self, status: str) -> dict[str, Any]:
        """The item with all that was said so far."""
        if self.final is not None:
            return self.final
        item = {**self.item, "status": status}
        for place in ("summary", "content"):
            said = [part.whole() for (where, _), part in sorted(self._by_place(place))]
            if said:
                item[place] = said
        for place in ("arguments", "input", "code"):
            if (part := self.parts.get((place, 0))) is not None:
                item[place] = part.text.getvalue()
        return item

    def closing(self, status: str) -> Iterator[Happening]:
        """The events that end what is still open of it."""
        if self.final is not None:
            return
        for (place, index), part in sorted(self.parts.items(), key=lambda each: each[0]):
            if not part.is_done:
                yield from self._part_closing(place, index, part)
                part.is_said = part.is_done = True
        self.final = self.whole(status)
        yield "response.output_item.done", {"output_index": self.index, "item": self.final}

    def _by_place(self, place: str) -> list[tuple[tuple[str, int], Part]]:
        return [(key, part) for key, part in self.parts.items() if key[0] == place]

    def _part_closing(self, place: str, index: int, part: Part) -> Iterator[Happening]:
        where = {"item_id": self.item.get("id"), "output_index": self.index}
        text = part.text.getvalue()
        if place in _CALL_DONE:
            if _CALL_FIELDS.get(str(self.item.get("type"))) == place and not part.is_said:
                fields = {**where, "name": self.item.get("name")} if place == "arguments" else where
                yield _CALL_DONE[place], {**fields, place: text}
        elif place == "summary":
            where["summary_index"] = index
            if not part.is_said:
                yield "response.reasoning_summary_text.done", {**where, "text": text}
            yield "response.reasoning_summary_part.done", {**where, "part": part.whole()}
        elif place == "content":
            where["content_index"] = index
            if not part.is_said:
                yield _text_done(part, where, text)
            yield "response.content_part.done", {**where, "part": part.whole()}


def _text_done(part: Part, where: dict[str, Any], text: str) -> Happening:
    if part.kind == "refusal":
        return "response.refusal.done", {**where, "refusal": text}
    if part.kind == "reasoning_text":
        return "response.reasoning_text.done", {**where, "text": text}
    logprobs = part.extra.get("logprobs", [])
    return "response.output_text.done", {**where, "text": text, "logprobs": logprobs}
