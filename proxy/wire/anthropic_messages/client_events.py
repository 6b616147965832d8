"""One event of Anthropic's streams as bytes: its name stands beside its data."""

from __future__ import annotations

import json
from typing import Any

import orjson


def event(name: str, data: dict[str, Any]) -> bytes:
    """The event; SDKs pass over one without a name."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), dumped(data))


def dumped(value: object) -> bytes:
    """The value as JSON, even with half a surrogate pair in it: models are cut between the two."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()
