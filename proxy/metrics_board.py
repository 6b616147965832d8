"""Where one process writes what another reads: shared memory, two places, the newer one named.

Rules:
- Made before the fork, so that a child that is killed takes nothing with it: what it wrote last
  stays, and whoever starts in its place goes on from there.
- One writer at a time. A writer killed half-way leaves the other place, which is whole.
- A reader checks what it reads; what was written over while it read is read again.
- No file, no lock, no wait: a writer costs a copy, whatever readers do.
"""

from __future__ import annotations

import mmap
import struct
import zlib

SLOT_BYTES = 4 * 1024 * 1024
"""Some 40,000 series. Memory that is never written to is never taken from the machine."""

_HEAD = struct.Struct("<II")
_FIRST = 8
_TRIES = 100


class Board:
    """One writer's board."""

    def __init__(self, *, slot_bytes: int = SLOT_BYTES) -> None:
        self.slot_bytes = slot_bytes
        self._memory = mmap.mmap(-1, _FIRST + 2 * (_HEAD.size + slot_bytes))

    def write(self, body: bytes) -> bool:
        """Replace what stands here; False, and nothing is replaced, when it is too long."""
        if len(body) > self.slot_bytes:
            return False
        which = 2 if self._memory[0] == 1 else 1
        at = self._place(which)
        self._memory[at : at + _HEAD.size + len(body)] = (
            _HEAD.pack(len(body), zlib.crc32(body)) + body
        )
        self._memory[0] = which  # one byte: it is the old place or the new one
        return True

    def read(self) -> bytes | None:
        """What was written last; None before that."""
        for _ in range(_TRIES):
            if not (which := self._memory[0]):
                return None
            at = self._place(which)
            length, check = _HEAD.unpack_from(self._memory, at)
            body = self._memory[at + _HEAD.size : at + _HEAD.size + min(length, self.slot_bytes)]
            if zlib.crc32(body) == check:
                return body
        return None

    def _place(self, which: int) -> int:
        return _FIRST + (which - 1) * (_HEAD.size + self.slot_bytes)
