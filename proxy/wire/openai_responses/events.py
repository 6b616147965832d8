"""Events of a streamed response, as bytes.

What an upstream said may stand in them, so writing never fails: half a surrogate pair is written as
it came, escaped; a number past 64 bits and what is nested beyond reason are left out.
"""

from __future__ import annotations

import json
import math
from typing import Any

import orjson

_DEPTH_MAX = 200
_WIDE = 2**63


def event(kind: str, sequence: int, **fields: Any) -> bytes:
    """One event; its name stands beside its data and in it."""
    data = written({"type": kind, "sequence_number": sequence, **fields})
    return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"


def written(value: Any) -> bytes:
    """The value as JSON."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(_mended(value, _DEPTH_MAX), separators=(",", ":")).encode()


def _mended(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        # two halves that came one after the other are a whole again
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if type(value) is int:
        return value if -_WIDE <= value < 2 * _WIDE else None
    if isinstance(value, dict):
        if not depth:
            return {}
        return {_mended(str(name), 1): _mended(each, depth - 1) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_mended(each, depth - 1) for each in value] if depth else []
    return value
