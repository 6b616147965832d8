"""Thinking that its model wants back as it was, in the place responses have for such a thing.

`encrypted_content` of a reasoning item is opaque to clients, who send it back with the next turn.
Ours is not encrypted: it holds the blocks another vendor signed, and what was changed in it that
vendor refuses. It is written only for those who ask for `reasoning.encrypted_content`, as OpenAI's.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import orjson

from proxy import json_bounds
from proxy.wire.openai_responses.events import written

ASKED_BY = "reasoning.encrypted_content"
"""What stands in `include` of a request that wants it."""

_MARK = "weir1."
_FIELDS = {
    "thinking": ("thinking", "signature"),
    "redacted_thinking": ("data",),
}


def packed(blocks: Sequence[dict[str, Any]]) -> str:
    """The blocks as `encrypted_content`."""
    return _MARK + base64.b64encode(written(list(blocks))).decode()


def unpacked(content: object) -> list[dict[str, Any]] | None:
    """The blocks in an `encrypted_content`; None when it is none of ours, or is broken."""
    if not isinstance(content, str) or not content.startswith(_MARK):
        return None
    try:
        raw = base64.b64decode(content[len(_MARK) :], validate=True)
        if json_bounds.fault_in(raw) is not None:
            return None
        blocks = orjson.loads(raw)
    except (binascii.Error, ValueError):
        return None
    found = known(blocks)
    return found if found and len(found) == len(blocks) else None


def known(blocks: object) -> list[dict[str, Any]]:
    """Those of the blocks that can be sent back, with the fields they are known to have."""
    if not isinstance(blocks, list):
        return []
    found = []
    for block in blocks:
        kind = block.get("type") if isinstance(block, dict) else None
        names = _FIELDS.get(kind) if isinstance(kind, str) else None
        if names and all(isinstance(block.get(name), str) for name in names):
            found.append({"type": kind, **{name: block[name] for name in names}})
    return found
