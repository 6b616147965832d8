"""What Redis' scripts leave for people: notes, made into alerts. Pure.

Rules: a note becomes an alert under a key made of its place in the stream, so the same note is said
once however often it is read. One that is no note of ours stops no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from metering.scope_names import shown

KINDS = ("cap_mark", "cap_refuses")

_TEXTS = ("tenant", "scope", "window")
_AMOUNTS = ("limit_nano", "spent_nano")
_NUMBERS = ("mark_ppm", "at_ms")


@dataclass(frozen=True, slots=True)
class NoteAlert:
    """A note as the outbox takes it."""

    key: str
    body: Mapping[str, Any]


def read_note(raw: bytes | None, *, shard: int, stream_id: str) -> NoteAlert | None:
    """The alert of a note; None when it is none of ours (a newer version's, a stranger's).

    Amounts arrive as text, because Lua's numbers are doubles, and leave as integers.
    """
    try:
        note = orjson.loads(raw or b"")
        kind = note["kind"]
        if kind not in KINDS:
            return None
        body: dict[str, Any] = {name: str(note[name]) for name in _TEXTS}
        body["scope"] = shown(body["scope"], body["tenant"])
        body |= {name: int(note[name]) for name in (*_NUMBERS, *_AMOUNTS) if name in note}
    except (ValueError, KeyError, TypeError):
        return None
    return NoteAlert(f"{kind}:{body['tenant']}:{shard}:{stream_id}", body)
