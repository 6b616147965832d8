"""Cuts a streamed response into events.

Events of this format repeat what was said: the last one holds the whole answer, with an image in
base64 or twenty logprobs for each token, and all that was asked for. So they may be longer than
elsewhere, and of one with more values than are built in memory only its name and usage are read,
where everything else in it has been read before.
"""

from __future__ import annotations

import contextlib
import re

import orjson

from proxy import json_bounds, sse
from proxy.sse import Event

EVENT_BYTES_MAX = 16 * 1024 * 1024
"""An answer with some images; a stream takes as much memory at most."""

_NAME = re.compile(rb'\s*event:[ ]?([\w.]+)|[^"]{0,16}"type"\s*:\s*"([\w.]+)"')
_REPEATS = re.compile(
    r"response\.([\w.]+\.)?(done|created|queued|in_progress|completed|incomplete)"
)
_FAILED = "response.failed"
_HEAD_BYTES = 4096
_ID = re.compile(rb'"id"\s*:\s*("resp[\w-]{1,200}")')
_MODEL = re.compile(rb'"model"\s*:\s*("[^"\\]{1,200}")')
_USAGE = re.compile(rb'"usage"\s*:\s*(\{(?:[^{}]|\{[^{}]*+\})*+\})')
_USAGE_BYTES_MAX = 4096
_USAGES_LOOKED_AT = 4


class ResponseDecoder:
    """Feed it bytes, get whole events."""

    __slots__ = ("_decoder",)

    def __init__(self) -> None:
        self._decoder = sse.Decoder(EVENT_BYTES_MAX)

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that these bytes complete, in order."""
        return [_readable(event) for event in self._decoder.feed(chunk)]

    def flush(self) -> Event | None:
        """What is left when the stream has ended."""
        event = self._decoder.flush()
        return None if event is None else _readable(event)


def _readable(event: Event) -> Event:
    """The event; with a short form of its data where the whole is too much to be read."""
    data, most = event.data, json_bounds.EVENT_VALUES_MAX
    if data is None or len(data) <= most or not json_bounds.is_too_full(data, most):
        return event
    name = _NAME.match(event.raw) or _NAME.match(data)
    kind = (name[1] or name[2]).decode() if name else ""
    if kind != _FAILED and not _REPEATS.fullmatch(kind):
        return event
    return Event(event.raw, orjson.dumps({"type": kind, "response": _outline(data)}))


def _outline(data: bytes) -> dict[str, object]:
    """What goes before the answer in a response, and the usage that comes after it."""
    found: dict[str, object] = {}
    for name, pattern in (("id", _ID), ("model", _MODEL)):
        if match := pattern.search(data[:_HEAD_BYTES]):
            found[name] = orjson.loads(match[1])
    if (usage := _usage(data)) is not None:
        found["usage"] = usage
    return found


def _usage(data: bytes) -> object:
    """The last object of that name; a client's own `metadata` comes after it, where it may have
    called a text so."""
    at = len(data)
    for _ in range(_USAGES_LOOKED_AT):
        if (at := data.rfind(b'"usage"', 0, at)) < 0:
            break
        match = _USAGE.match(data[at : at + _USAGE_BYTES_MAX])
        if match and b'"input_tokens"' in match[1]:
            with contextlib.suppress(orjson.JSONDecodeError):
                return orjson.loads(match[1])
    return None
