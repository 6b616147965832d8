"""`MemoryCaps`: the model behind the `Caps` protocol, for tests and for trying things out.

Not for production: it forgets on exit and knows one process only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy

from metering import clock
from metering.caps import (
    Candidate,
    Commit,
    Denial,
    Hold,
    Looked,
    Renewal,
    Reservation,
    Stairs,
    Vector,
)
from metering.caps_model import MemoryCapsModel


class MemoryCaps:
    """Admission in memory; `model` is open to tests, `now_ms` is the clock."""

    def __init__(
        self,
        model: MemoryCapsModel | None = None,
        *,
        now_ms: Callable[[], int] = clock.now_ms,
    ) -> None:
        self.model = model if model is not None else MemoryCapsModel()
        self._now_ms = now_ms

    async def reserve(
        self,
        hold: Hold,
        candidates: Sequence[Candidate],
        *,
        owner: str,
        ttl_ms: int,
        facts: bytes = b"",
        stairs: Stairs | None = None,
        runs: bool = False,
    ) -> Reservation | Denial:
        """As `Caps.reserve`."""
        now_ms = self._now_ms()
        return self.model.reserve(
            hold,
            candidates,
            owner=owner,
            ttl_ms=ttl_ms,
            facts=facts,
            stairs=stairs,
            runs=runs,
            now_ms=now_ms,
        )

    async def look(
        self, hold: Hold, candidates: Sequence[Candidate], *, stairs: Stairs | None = None
    ) -> Looked:
        """As `Caps.look`: from a copy, for reading a scope drops what has left it."""
        model, now_ms = deepcopy(self.model), self._now_ms()
        answer = model.reserve(hold, candidates, owner="", ttl_ms=1, stairs=stairs, now_ms=now_ms)
        if not model.is_rebuilt:
            return Looked(answer)
        before = deepcopy(self.model)
        before.bring_up(hold, now_ms)
        return Looked(answer, before.book.states(hold, now_ms))

    async def swap(self, hold: Hold, candidate: Candidate) -> Reservation | Denial:
        """As `Caps.swap`."""
        return self.model.swap(hold, candidate, now_ms=self._now_ms())

    async def commit(self, hold: Hold, actual: Vector, events: Sequence[bytes]) -> Commit:
        """As `Caps.commit`."""
        return self.model.commit(hold, actual, events, now_ms=self._now_ms())

    async def release(self, hold: Hold) -> None:
        """As `Caps.release`."""
        self.model.release(hold, now_ms=self._now_ms())

    async def renew(self, hold: Hold, *, ttl_ms: int, checkpoint: bytes | None = None) -> Renewal:
        """As `Caps.renew`."""
        now_ms = self._now_ms()
        return self.model.renew(hold, ttl_ms=ttl_ms, checkpoint=checkpoint, now_ms=now_ms)
