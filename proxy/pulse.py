"""The heartbeat of a child, by which its parent knows a child that hangs from one that waits.

Rules:
- A number in memory that both share. The child counts it up on its event loop, so that whatever
  stops the loop stops the beat; the parent compares it with what it saw before.
- Nobody is judged before the first beat: a start may take as long as it takes.
- Silence is what the parent was awake for. After a pause of both (a suspended machine, a frozen
  container, Ctrl-Z) no more than STEP_MAX_S of it is held against a child.
"""

from __future__ import annotations

import asyncio
import mmap
import struct

BEAT_EVERY_S = 1.0

STEP_MAX_S = 2.0
"""The parent looks about once a second; what lies beyond this between two looks was no waiting."""

_COUNT = struct.Struct("<Q")


class Pulse:
    """One child's heartbeat; made before the fork. The child beats, the parent listens."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _COUNT.size)
        self._heard = 0
        self._looked_s = 0.0
        self._silent_s = 0.0

    def beat(self) -> None:
        """In the child: one more."""
        self._write(self._read() + 1)

    async def go_on(self) -> None:
        """In the child: beat until cancelled."""
        while True:
            self.beat()
            await asyncio.sleep(BEAT_EVERY_S)

    def forget(self) -> None:
        """In the parent, while no child beats: the next one is judged from its own first beat."""
        self._write(0)
        self._heard = 0
        self._silent_s = 0.0

    def silent_s(self, now_s: float) -> float:
        """In the parent, at every turn: for how long there was no beat; 0 before the first."""
        heard, step_s = self._read(), now_s - self._looked_s
        self._looked_s = now_s
        if heard == 0 or heard != self._heard:
            self._heard = heard
            self._silent_s = 0.0
        else:
            self._silent_s += min(step_s, STEP_MAX_S)
        return self._silent_s

    def _read(self) -> int:
        return int(_COUNT.unpack_from(self._memory)[0])

    def _write(self, count: int) -> None:
        _COUNT.pack_into(self._memory, 0, count)
