"""Bedrock's streams as bytes: events packed into frames as AWS does it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import orjson


def frame(payload: bytes, headers: Mapping[str, str]) -> bytes:
    """One frame with these headers, which are text."""
    block = b"".join(
        bytes([len(name)])
        + name.encode()
        + b"\x07"
        + struct.pack("!H", len(value))
        + value.encode()
        for name, value in headers.items()
    )
    head = struct.pack("!II", 16 + len(block) + len(payload), len(block))
    head += struct.pack("!I", zlib.crc32(head))
    whole = head + block + payload
    return whole + struct.pack("!I", zlib.crc32(whole))


def event(kind: str, said: Any) -> bytes:
    """An ordinary event."""
    return frame(
        orjson.dumps(said),
        {":event-type": kind, ":content-type": "application/json", ":message-type": "event"},
    )


def exception(kind: str, message: str) -> bytes:
    """An exception in the middle of a stream, whose shape is known."""
    return frame(
        orjson.dumps({"message": message}),
        {
            ":exception-type": kind,
            ":content-type": "application/json",
            ":message-type": "exception",
        },
    )


def error(code: str, message: str) -> bytes:
    """An error whose shape is not known: all of it stands in the headers."""
    return frame(b"", {":message-type": "error", ":error-code": code, ":error-message": message})


def packed(events: Iterable[Mapping[str, Any]]) -> bytes:
    """A stream of events, each an object with its type as its only name."""
    return b"".join(_packed(kind, said) for each in events for kind, said in each.items())


def _packed(kind: str, said: Any) -> bytes:
    if kind == "exception":
        return exception(said["type"], said["message"])
    return event(kind, said)
