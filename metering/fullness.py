"""How full Redis is: its memory, and what waits in its streams. Pure.

Rule: where Redis does not count, the number is a bound that never makes a busy worker look behind.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

BEHIND_MS = 60_000
"""Where Redis does not count what is unread (6.2; newer ones after a deletion), a group that is
this far behind the newest entry is taken to have read nothing of what the stream holds."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What Redis uses and may use, in bytes; `limit` is 0 where it has none."""

    used: int
    limit: int

    @property
    def used_ppm(self) -> int:
        """The share that is used, parts per million; 0 without a limit."""
        return self.used * 1_000_000 // self.limit if self.limit else 0


@dataclass(frozen=True, slots=True)
class Standing:
    """What was found at a look: events that wait to be settled, and what Redis uses."""

    unsettled: int
    memory: Memory


def fullest(found: Iterable[Memory]) -> Memory:
    """Of several servers the one that has the least room; without limits the largest."""
    return max(found, key=lambda memory: (memory.used_ppm, memory.used))


def count_unread(*, length: int, lag: int | None, delivered: str, newest: str) -> int:
    """How many entries a group has not read: what Redis says, else a bound.

    `delivered` and `newest` are stream ids: the last one given to the group, the last one made.
    """
    if _position(delivered) >= _position(newest):
        return 0
    if lag is not None:
        return lag
    behind_ms = _position(newest)[0] - _position(delivered)[0]
    return length if behind_ms > BEHIND_MS else 0


def _position(stream_id: str) -> tuple[int, int]:
    ms, _, n = stream_id.partition("-")
    return int(ms), int(n)
