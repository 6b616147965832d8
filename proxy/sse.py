"""Server-sent events, decoded from bytes as they come and kept as they came.

The decoder follows the WHATWG grammar (lines end in LF, CR or CRLF; `data` lines are joined by
LF; comments and other fields are passed over; one BOM at the start is dropped from what is read)
and gives the same events however the bytes are cut. Each event carries its raw bytes, blank line
included, so that a relay can pass them on untouched. An event longer than `event_bytes_max` is
given out in raw pieces without data: relayed, not understood, and marked so that it is estimated.
"""

from __future__ import annotations

import re
from typing import NamedTuple

EVENT_BYTES_MAX = 1024 * 1024
"""Past this an event is opaque. The longest real ones are tool arguments of some 100 kB."""

BOM = b"\xef\xbb\xbf"
DONE = b"[DONE]"
DONE_EVENT = b"data: [DONE]\n\n"

_BLANK_LINE = re.compile(rb"((?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r))[\r\n]*")
"""The end of an event, and the empty lines after it: they are events of nothing, by the million."""

_LINE_END = re.compile(rb"\r\n|\n|\r")


class Event(NamedTuple):
    """`raw` is what came, `data` the joined data lines; None when there were none (comments).

    `is_opaque` marks a piece of an event that was too long to be kept: it has no data either.
    """

    raw: bytes
    data: bytes | None
    is_opaque: bool = False


class Decoder:
    """Feed it bytes, get whole events; `flush` gives what was left when the stream ended."""

    __slots__ = ("_edge", "_event_bytes_max", "_is_opaque", "_is_start", "_parts", "_size")

    def __init__(self, event_bytes_max: int = EVENT_BYTES_MAX) -> None:
        self._parts: list[bytes] = []  # an event that has begun: joined only when it ends
        self._size = 0
        self._edge = b""
        self._event_bytes_max = event_bytes_max
        self._is_opaque = False
        self._is_start = True

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that these bytes complete, in order."""
        if self._parts:
            seam = self._edge + chunk
            if b"\n\n" not in seam and (b"\r" not in seam or not _BLANK_LINE.search(seam)):
                return self._keep(chunk)
            self._parts.append(chunk)
            chunk = b"".join(self._parts)
            self._parts.clear()
            self._size = 0
        if b"\r" not in chunk and b"\n\n\n" not in chunk:
            *blocks, rest = chunk.split(b"\n\n")
            events = [self._event(block, b"\n\n") for block in blocks]
        else:
            events, rest = self._split_any_dialect(chunk)
        return [*events, *self._keep(rest)] if rest else events

    def flush(self) -> Event | None:
        """What is left without its blank line; a browser would drop it, a relay must not."""
        if not self._parts:
            return None
        rest = b"".join(self._parts)
        self._parts.clear()
        return self._event(rest, b"")

    def _keep(self, data: bytes) -> list[Event]:
        """Put aside what has no end yet; past the bound it is given out unread."""
        self._parts.append(data)
        self._size += len(data)
        self._edge = (self._edge + data)[-3:] if len(data) < 3 else data[-3:]
        # up to three bytes of it may be the blank line's, which is no part of the event
        if not self._is_opaque and self._size <= self._event_bytes_max + 3:
            return []
        raw = b"".join(self._parts)
        self._parts = [raw[-3:]]
        self._size = len(self._parts[0])
        self._is_opaque = True
        return [Event(raw[:-3], None, is_opaque=True)]

    def _split_any_dialect(self, buffer: bytes) -> tuple[list[Event], bytes]:
        events = []
        start = 0
        for match in _BLANK_LINE.finditer(buffer):
            end = match.end()
            if end == len(buffer) and buffer.endswith(b"\r"):
                end -= 1  # the LF of this CRLF may still come
                if end < match.end(1):
                    break
            events.append(self._event(buffer[start : match.start()], buffer[match.start() : end]))
            start = end
        return events, buffer[start:]

    def _event(self, block: bytes, ending: bytes) -> Event:
        raw = block + ending
        if self._is_opaque or len(block) > self._event_bytes_max:
            self._is_opaque = self._is_start = False
            return Event(raw, None, is_opaque=True)
        if self._is_start:
            self._is_start = False
            block = block.removeprefix(BOM)
        if b"\r" not in block:
            # nearly all events are a line of data, or one under its name
            name, _, data = block.partition(b"\n")
            if not data and name.startswith(b"data: "):
                return Event(raw, name[6:])
            if name.startswith(b"event: ") and data.startswith(b"data: ") and b"\n" not in data:
                return Event(raw, data[6:])
        return Event(raw, _joined_data(block) if b"data" in block else None)


def _joined_data(block: bytes) -> bytes | None:
    lines = []
    for line in _LINE_END.split(block):
        name, colon, value = line.partition(b":")
        if name == b"data":
            lines.append(value.removeprefix(b" ") if colon else b"")
    return b"\n".join(lines) if lines else None
