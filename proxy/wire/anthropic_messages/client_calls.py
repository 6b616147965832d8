"""Tool calls of a streamed chat completion, put into an order in which they can be told one by one.

Chat completions may send pieces of parallel calls in any order; in Anthropic's streams a content
block ends before the next begins. So a call waits while the one before it is not complete: servers
that send one call after the other, as nearly all do, lose no time by it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson


@dataclass(slots=True)
class Call:
    """One call: `pieces` are those of its arguments, `block` is where it is told, once it is."""

    id: str
    name: str
    position: int
    pieces: list[str] = field(default_factory=list)
    block: int | None = None


class Calls:
    """The calls of one answer, in the order in which they came."""

    __slots__ = ("_current", "_current_is_whole", "_slots", "_waiting", "count")

    def __init__(self) -> None:
        self._slots: dict[int, Call] = {}
        self._waiting: deque[Call] = deque()
        self._current: Call | None = None
        self._current_is_whole = False
        self.count = 0

    def take(self, slot: int, piece: Mapping[str, Any]) -> tuple[Call, str]:
        """Note a piece of a call; gives the call, and what of its arguments can be told now."""
        function = piece.get("function")
        function = function if isinstance(function, dict) else {}
        own = _text(piece.get("id"))
        name, arguments = _text(function.get("name")), _text(function.get("arguments"))
        call = self._slots.get(slot)
        if call is None or (name and own and call.id and own != call.id):
            # some servers send every call under the index 0, each with an id of its own
            call = Call(own, name, self.count)
            self._slots[slot] = call
            self.count += 1
            if not self._waiting:
                self._current_is_whole = _is_whole(self._current)
            self._waiting.append(call)
        call.id, call.name = call.id or own, call.name or name
        if arguments:
            call.pieces.append(arguments)
        return call, "" if call.block is None else arguments

    @property
    def is_current_whole(self) -> bool:
        """Whether the call that is told has all its arguments."""
        return _is_whole(self._current)

    def ready(self, *, is_end: bool = False) -> Iterator[Call]:
        """The calls that can be told now; at the end all that are left."""
        while self._waiting:
            if not is_end and (not self._current_is_whole or not self._waiting[0].name):
                return
            self._current = self._waiting.popleft()
            yield self._current
            self._current_is_whole = bool(self._waiting) and _is_whole(self._current)


def _is_whole(call: Call | None) -> bool:
    """Whether the arguments are complete; asked once when another call comes, not on each piece."""
    if call is None:
        return True
    try:
        orjson.loads("".join(call.pieces))
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return False
    return True


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
