"""Events of a stream that differ in one text alone, read for a fraction of the price. Pure.

A provider sends hundreds of chunks that are the same to the byte but for `delta.content` (and a
padding of random letters, OpenAI's `obfuscation`). Once one of them was read, the next is compared
with it: what stands in the places of the texts must each be one whole JSON string, so that nothing
else can hide there, and an event that is not alike in every other byte is read as any other.
"""

from __future__ import annotations

from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any

import orjson

SIZE_MAX = 16_384
"""Larger events are read in full: beside their text the rest costs nothing."""

_PADDING = "obfuscation"
_SLOT = "\0slot"
"""Stands for a text while a pattern is tried: no model says it, and JSON escapes it."""

_SLOT_JSON = orjson.dumps(_SLOT)


class Alike:
    """What all of an event must be that says a text in the channel and nothing else."""

    __slots__ = ("_head", "_middle", "_size", "_tail", "channel")

    def __init__(self, index: int, head: bytes, middle: bytes, tail: bytes) -> None:
        """`middle` stands between the text and the padding, empty without one. Each begins or ends
        with the quotes of the text beside it."""
        self.channel = (index, "content")
        self._head, self._middle, self._tail = head, middle, tail
        self._size = len(head) + len(middle) + len(tail)

    def text(self, data: bytes) -> str | None:
        """The text that an event says; None where it is not alike, or may not be."""
        if not self._size <= len(data) <= SIZE_MAX:
            return None
        if not data.startswith(self._head) or not data.endswith(self._tail):
            return None
        inner = data[len(self._head) - 1 : len(data) - len(self._tail) + 1]
        try:
            if self._middle:
                end = inner.find(self._middle)
                if end < 0:
                    return None
                padding = inner[end + len(self._middle) - 1 :]
                if not isinstance(orjson.loads(padding), str):
                    return None
                inner = inner[: end + 1]
            said = orjson.loads(inner)
        except orjson.JSONDecodeError:
            return None
        return said if isinstance(said, str) else None


def pattern_of(data: bytes, chunk: dict[str, Any]) -> Alike | None:
    """What events like this one look like; None unless it says a text and nothing else.

    `chunk` is what `data` was read as. Where a text may stand is tried out: with another one in its
    place the event must be the same but for that.
    """
    choice = _only_choice(chunk)
    if choice is None or len(data) > SIZE_MAX:
        return None
    index, delta = choice
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    found = _place(text, "content", delta["content"])
    if found is None:
        return None
    head, rest = text[: found[0]].encode(), text[found[1] :]
    expected = {**chunk, "choices": [{**chunk["choices"][0], "delta": {**delta, "content": _SLOT}}]}
    middle, tail = b"", rest.encode()
    padding = chunk.get(_PADDING)
    if isinstance(padding, str):
        place = _place(rest, _PADDING, padding)
        if place is None:
            return None
        middle, tail = rest[: place[0]].encode(), rest[place[1] :].encode()
        expected[_PADDING] = _SLOT
    slot = _SLOT_JSON[1:-1]
    tried = head + slot + (middle + slot if middle else b"") + tail
    try:
        if orjson.loads(tried) != expected:
            return None
    except orjson.JSONDecodeError:
        return None
    return Alike(index, head, middle, tail)


def _only_choice(chunk: dict[str, Any]) -> tuple[int, dict[str, Any]] | None:
    """The index and delta of a chunk that says a text and nothing else."""
    choices = chunk.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        return None
    choice = choices[0]
    index, delta = choice.get("index"), choice.get("delta")
    if type(index) is not int or not isinstance(delta, dict):
        return None
    if chunk.get("error") or isinstance(choice.get("finish_reason"), str):
        return None
    if "message" in choice or "text" in choice or isinstance(chunk.get("usage"), dict):
        return None
    if not isinstance(delta.get("content"), str) or any(
        value for name, value in delta.items() if name not in ("content", "role")
    ):
        return None
    return index, delta


def _place(text: str, name: str, value: str) -> tuple[int, int] | None:
    """Where the string under this name begins, after its quote, and where it ends, at the other."""
    for key in (f'"{name}":"', f'"{name}": "'):
        at = text.find(key)
        if at >= 0:
            begin = at + len(key)
            found, end = scanstring(text, begin)
            return (begin, end - 1) if found == value else None
    return None
