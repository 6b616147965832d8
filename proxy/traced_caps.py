"""Caps whose answers become spans: what a process asks in their place when it traces."""

from __future__ import annotations

from collections.abc import Sequence

from metering.caps import (
    Candidate,
    Caps,
    CapsUnavailableError,
    Commit,
    Denial,
    Hold,
    Looked,
    Renewal,
    Reservation,
    Stairs,
    Vector,
)
from metering.clock import now_ns
from proxy.spans import Value
from proxy.tracing import Tracer


class TracedCaps:
    """`Caps` that ask others; reserve, swap and commit are spans of the request under way."""

    def __init__(self, caps: Caps, tracer: Tracer) -> None:
        self._caps, self._tracer = caps, tracer

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
        """See `Caps`."""
        began_ns, error = now_ns(), "failed"
        told: dict[str, Value] = {"weir.candidates": len(candidates)}
        try:
            answer = await self._caps.reserve(
                hold, candidates, owner=owner, ttl_ms=ttl_ms, facts=facts, stairs=stairs, runs=runs
            )
            error = _note(answer, candidates, told)
            return answer
        except CapsUnavailableError:
            error = "unavailable"
            raise
        finally:
            self._tracer.step("reserve", began_ns, told, error or None)

    async def swap(self, hold: Hold, candidate: Candidate) -> Reservation | Denial:
        """See `Caps`."""
        began_ns, error = now_ns(), "failed"
        told: dict[str, Value] = {}
        try:
            answer = await self._caps.swap(hold, candidate)
            error = _note(answer, [candidate], told)
            return answer
        except CapsUnavailableError:
            error = "unavailable"
            raise
        finally:
            self._tracer.step("swap", began_ns, told, error or None)

    async def commit(self, hold: Hold, actual: Vector, events: Sequence[bytes]) -> Commit:
        """See `Caps`."""
        began_ns, error = now_ns(), "failed"
        try:
            committed = await self._caps.commit(hold, actual, events)
            error = ""
            return committed
        except CapsUnavailableError:
            error = "unavailable"
            raise
        finally:
            told: dict[str, Value] = {"weir.sell_nano": actual.nano, "weir.events": len(events)}
            self._tracer.step("commit", began_ns, told, error or None)

    async def look(
        self, hold: Hold, candidates: Sequence[Candidate], *, stairs: Stairs | None = None
    ) -> Looked:
        """See `Caps`."""
        return await self._caps.look(hold, candidates, stairs=stairs)

    async def release(self, hold: Hold) -> None:
        """See `Caps`."""
        await self._caps.release(hold)

    async def renew(self, hold: Hold, *, ttl_ms: int, checkpoint: bytes | None = None) -> Renewal:
        """See `Caps`."""
        return await self._caps.renew(hold, ttl_ms=ttl_ms, checkpoint=checkpoint)


def _note(
    answer: Reservation | Denial, candidates: Sequence[Candidate], told: dict[str, Value]
) -> str:
    """Note what was held; a word where nothing was."""
    if isinstance(answer, Reservation):
        held = candidates[answer.index]
        told |= {"weir.upstream": held.upstream, "weir.admitted_by": str(answer.admitted_by)}
        return ""
    return str(answer.reason)
