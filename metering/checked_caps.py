"""`CheckedCaps`: no Redis is asked that was not looked at, or must not be used.

A Redis with other shards, or one that evicts keys, answers like every other: what it says would be
a second set of windows beside the true ones. So it is as good as away. Around other `Caps`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from metering.caps import (
    Candidate,
    Caps,
    CapsNotAskedError,
    Commit,
    Denial,
    Hold,
    Looked,
    Renewal,
    Reservation,
)


class CheckedCaps:
    """Caps that raise CapsNotAskedError for as long as `why_not` says something."""

    def __init__(self, caps: Caps, why_not: Callable[[], str]) -> None:
        self._caps = caps
        self._why_not = why_not

    async def reserve(
        self, hold: Hold, candidates: Sequence[Candidate], **more: Any
    ) -> Reservation | Denial:
        """As `Caps.reserve`."""
        return await self._checked().reserve(hold, candidates, **more)

    async def look(self, hold: Hold, candidates: Sequence[Candidate], **more: Any) -> Looked:
        """As `Caps.look`."""
        return await self._checked().look(hold, candidates, **more)

    async def swap(self, hold: Hold, candidate: Candidate) -> Reservation | Denial:
        """As `Caps.swap`."""
        return await self._checked().swap(hold, candidate)

    async def commit(self, hold: Hold, *amounts: Any) -> Commit:
        """As `Caps.commit`."""
        return await self._checked().commit(hold, *amounts)

    async def release(self, hold: Hold) -> None:
        """As `Caps.release`."""
        await self._checked().release(hold)

    async def renew(self, hold: Hold, **more: Any) -> Renewal:
        """As `Caps.renew`."""
        return await self._checked().renew(hold, **more)

    def _checked(self) -> Caps:
        if cause := self._why_not():
            raise CapsNotAskedError(f"this Redis is not used: {cause}")
        return self._caps
