"""What is to be billed of batches that were begun through us, once it is known what they used.

A batch is billed a flat amount when it is begun. What it used is told hours later, to whoever asks
for it, by any process, any number of times. So its note goes from one state to the next, each step
taken by one of all who would take it:

- **open**: the event of the flat amount, which is still to be taken back;
- **made**: the amounts and events that take its place, as they will be recorded. They are written
  down before they are recorded, so that recording them again repeats the very same bytes;
- **done**: recorded. It stays for as long as the provider may be asked about the batch.

A note is known for `NOTE_MS`. What has none any more is billed its flat amount, and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from metering.caps import Vector
from metering.events import UsageEvent, decode

NOTE_MS = 45 * 24 * 3_600_000
"""A batch ends within a day or two, and OpenAI keeps what it wrote for a month."""

NAMES_MAX = 256
"""Notes that are read together."""

DONE = b"done"
_OPEN, _MADE = b"open\n", b"made\n"


@dataclass(frozen=True, slots=True)
class Made:
    """What takes the place of a flat amount: what the caps count, and the events."""

    actual: Vector
    events: tuple[bytes, ...]


def open_note(event: bytes) -> bytes:
    """The note of a batch for which this event was recorded when it began."""
    return _OPEN + event


def made_note(made: Made) -> bytes:
    """The note of a batch that is billed by what it used from now on."""
    amounts = orjson.dumps({"nano": made.actual.nano, "tokens": made.actual.tokens})
    return _MADE + b"\n".join((amounts, *made.events))


def read_note(note: bytes) -> UsageEvent | Made | None:
    """What is still to be done: by the event of the flat amount, or by what was made of it. None
    where nothing is. ValueError for what this version cannot read."""
    if not note or note == DONE:
        return None
    if note.startswith(_OPEN):
        return decode(note.removeprefix(_OPEN))
    if note.startswith(_MADE):
        head, *events = note.removeprefix(_MADE).split(b"\n")
        said: Any = orjson.loads(head)
        return Made(Vector(nano=said["nano"], tokens=said["tokens"]), tuple(events))
    raise ValueError(f"a note that begins with {note[:8]!r} is not known to this version")


class BatchNotes(Protocol):
    """Where the notes are; CapsUnavailableError when it cannot be asked. Names are
    `provider/id`."""

    async def look(self, tenant: str, names: Sequence[str]) -> list[bytes]:
        """The notes of these batches, in their order; empty where there is none."""
        ...

    async def swap(self, tenant: str, name: str, *, was: bytes, becomes: bytes) -> bytes:
        """Write the note if it still is what it `was`, which is empty for one that is not there;
        the note that is there now."""
        ...


@dataclass(slots=True)
class MemoryBatchNotes:
    """What one process knows, forgotten with it: for tests and for trying things out."""

    notes: dict[tuple[str, str], bytes] = field(default_factory=dict)

    async def look(self, tenant: str, names: Sequence[str]) -> list[bytes]:
        """As `BatchNotes.look`."""
        return [self.notes.get((tenant, name), b"") for name in names]

    async def swap(self, tenant: str, name: str, *, was: bytes, becomes: bytes) -> bytes:
        """As `BatchNotes.swap`."""
        if self.notes.get((tenant, name), b"") == was:
            self.notes[tenant, name] = becomes
        return self.notes.get((tenant, name), b"")
