"""Streams at the edge of a cap, and what is read from them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
from fixtures_door import (
    RunningDoor,
    settings,
    tenant,
)
from fixtures_upstream import (
    DONE,
    FINISH,
    LAST_CHUNK,
    Step,
    chunk,
    delta,
    stream_head,
)

from proxy.settings import Settings

WORD = delta(" word")
TOKEN_NANO = 4_000
"""What a token of output sells for, by the rule of the fixtures."""

SLICE = 32


def small(url: str, *, cap: str, output: int = 64, **fields: Any) -> Settings:
    """A tenant with that cap, whose streams begin with a hold for `output` tokens."""
    made = settings({"one": url}, who=tenant(cap))
    return replace(made, default_output_tokens=output, stream_slice_tokens=SLICE, **fields)


def words(count: int, *, at_once: int = 1) -> list[Step]:
    """A stream of so many tokens, `at_once` of them in a chunk of the transport, then its end."""
    bodies = [WORD] * count
    chunks = [b"".join(bodies[at : at + at_once]) for at in range(0, count, at_once)]
    return [stream_head(), *map(chunk, chunks), chunk(FINISH + DONE), LAST_CHUNK]


def tokens(door: RunningDoor) -> int:
    [found] = door.events
    return found.units.get("output_text", 0)


def spent(door: RunningDoor) -> int:
    return sum(each.admission_nano for each in door.events)


def objects(raw: bytes) -> list[Any]:
    """What stands in the events of a stream, `[DONE]` as text."""
    parts = [part.removeprefix(b"data: ") for part in raw.split(b"\n\n") if part]
    return [part.decode() if part == b"[DONE]" else orjson.loads(part) for part in parts]
