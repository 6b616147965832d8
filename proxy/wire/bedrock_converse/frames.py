"""AWS event streams, cut into events: binary frames in, one JSON object per event out.

A frame is its length, the length of its headers, a CRC-32 of these two, headers, payload, and a
CRC-32 of all before it (AWS, "Amazon Event Stream Specification"). Rules: the same events however
the bytes are cut; both checksums hold, or the stream has failed; no more than `frame_bytes_max` of
a frame is kept, what is longer is given out in raw pieces without data, so that it is estimated,
and then the stream has failed, as a part of the answer is missing. The framing is our own because
botocore's keeps what it was fed whole, copies it for every frame, and brings 30 MB of other things.

The data of an event is `{"<event type>": <payload>}`; of an exception, an error, or a stream that
cannot be read any more `{"exception": {"type", "message"}}`.
"""

from __future__ import annotations

import re
import struct
import zlib
from functools import lru_cache
from typing import Any

import orjson

from proxy.sse import EVENT_BYTES_MAX, Event

EVENT_STREAM = "application/vnd.amazon.eventstream"

_PRELUDE = struct.Struct("!III")
_CRC = struct.Struct("!I")
_PRELUDE_BYTES = _PRELUDE.size
_FRAME_BYTES_MIN = _PRELUDE_BYTES + _CRC.size
_HEADER_WIDTHS = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Bytes of a header's value by its type; 6 and 7 are bytes and text, with a length of their own."""
_TEXT = 7
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MESSAGE_MAX = 4096
_USUAL_BYTES_MAX = 256
"""Headers up to this are remembered; those of AWS have some 90 bytes."""


class _CorruptError(ValueError):
    """What came is no frame; the message says what is wrong with it."""


class FrameDecoder:
    """Feed it bytes, get whole events; `flush` gives what was left when the stream ended."""

    __slots__ = ("_crc", "_frame_bytes_max", "_has_failed", "_left", "_need", "_parts", "_size")

    def __init__(self, frame_bytes_max: int = EVENT_BYTES_MAX) -> None:
        self._parts: list[bytes] = []  # joined only when there is enough to go on with
        self._size = 0
        self._need = _PRELUDE_BYTES
        self._frame_bytes_max = frame_bytes_max
        self._left = 0  # of a frame that is too long to be kept
        self._crc = 0
        self._has_failed = False

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that these bytes complete, in order."""
        if not chunk:
            return []
        if self._has_failed:
            return [Event(chunk, None, is_opaque=True)]
        self._parts.append(chunk)
        self._size += len(chunk)
        if self._size < self._need and not self._left:
            return []
        buffer = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        events: list[Event] = []
        try:
            at = self._cut(buffer, events)
        except _CorruptError as error:
            self._has_failed = True
            self._size = 0
            events.append(_failure(b"", "CorruptStream", str(error)))
            if rest := buffer[sum(len(event.raw) for event in events) :]:
                events.append(Event(rest, None, is_opaque=True))
            return events
        self._size = len(buffer) - at
        if self._size:
            self._parts.append(buffer[at:])
        return events

    def flush(self) -> Event | None:
        """A frame that was begun when the stream ended: its text is lost, but not for nothing."""
        if not self._size:
            return None
        raw = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        return Event(raw, None, is_opaque=True)

    def _cut(self, buffer: bytes, events: list[Event]) -> int:
        """Take every whole frame out of the buffer; gives where the rest begins."""
        at, end = 0, len(buffer)
        while at < end:
            if self._left:
                at = self._skip(buffer, at, events)
                continue
            self._need = _PRELUDE_BYTES
            if end - at < _PRELUDE_BYTES:
                break
            length, header_bytes, crc = _PRELUDE.unpack_from(buffer, at)
            if zlib.crc32(buffer[at : at + 8]) != crc:
                raise _CorruptError("the checksum of a frame's length is wrong")
            if length < _FRAME_BYTES_MIN or header_bytes > length - _FRAME_BYTES_MIN:
                raise _CorruptError("a frame says that it is shorter than its own parts")
            if length > self._frame_bytes_max:
                self._left, self._crc = length, 0
                continue
            if end - at < length:
                self._need = length
                break
            events.append(_event(buffer[at : at + length], header_bytes))
            at += length
        return at

    def _skip(self, buffer: bytes, at: int, events: list[Event]) -> int:
        """Give out the next piece of a frame that is too long."""
        raw = buffer[at : at + self._left]
        self._left -= len(raw)
        events.append(Event(raw, None, is_opaque=True))
        if not self._left:
            raise _CorruptError(f"a frame is longer than {self._frame_bytes_max} bytes")
        return at + len(raw)


def _event(frame: bytes, header_bytes: int) -> Event:
    body_end = len(frame) - _CRC.size
    if zlib.crc32(frame[:body_end]) != _CRC.unpack_from(frame, body_end)[0]:
        raise _CorruptError("the checksum of a frame is wrong")
    payload_at = _PRELUDE_BYTES + header_bytes
    block = frame[_PRELUDE_BYTES:payload_at]
    headers = _usual_headers(block) if header_bytes <= _USUAL_BYTES_MAX else _headers(block)
    payload = frame[payload_at:body_end]
    kind = headers.get(":message-type", "event")
    if kind == "event":
        name = headers.get(":event-type", "")
        if not _NAME.fullmatch(name):
            return Event(frame, None)
        return Event(frame, b'{"%s":%s}' % (name.encode(), payload or b"{}"))
    if kind == "exception":
        return _failure(frame, headers.get(":exception-type", ""), _message(payload))
    return _failure(frame, headers.get(":error-code", ""), headers.get(":error-message", ""))


@lru_cache(maxsize=64)
def _usual_headers(block: bytes) -> dict[str, str]:
    """The same; all events of a type have the same headers, byte for byte."""
    return _headers(block)


def _headers(block: bytes) -> dict[str, str]:
    """The headers that are text, by name; others are passed over."""
    found: dict[str, str] = {}
    at = 0
    try:
        while at < len(block):
            name_end = at + 1 + block[at]
            name, kind = block[at + 1 : name_end], block[name_end]
            at = name_end + 1
            if kind in {6, _TEXT}:
                width = int.from_bytes(block[at : at + 2], "big")
                value = block[at + 2 : at + 2 + width]
                at += 2 + width
                if kind == _TEXT:
                    found[name.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
            else:
                at += _HEADER_WIDTHS[kind]
    except (IndexError, KeyError):
        raise _CorruptError("the headers of a frame are not headers") from None
    if at != len(block):
        raise _CorruptError("the headers of a frame are longer than it says")
    return found


def _message(payload: bytes) -> str:
    try:
        said: Any = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return payload[:_MESSAGE_MAX].decode("utf-8", "replace")
    if isinstance(said, dict):
        for name in ("message", "Message", "originalMessage"):
            if isinstance(text := said.get(name), str) and text:
                return text
    return ""


def _failure(raw: bytes, kind: str, message: str) -> Event:
    words = {"type": kind[:64], "message": message[:_MESSAGE_MAX]}
    return Event(raw, orjson.dumps({"exception": words}))
