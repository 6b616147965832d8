"""The room that one exchange holds under its caps: reserved, moved, grown, placed again.

Knows what is held now and where the caps stood when they answered last. What Redis did where it
did not answer is unknown; a hold that may have been placed is given back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from metering.caps import (
    AdmittedBy,
    Candidate,
    CapsNotAskedError,
    CapState,
    CapsUnavailableError,
    Denial,
    DenialReason,
    Hold,
    HoldEndedError,
    Reservation,
    Stairs,
    Vector,
)
from proxy.door import Door
from proxy.errors import ApiError, SpendExhausted
from proxy.refusals import backend_unavailable, denied

STOPS = frozenset({DenialReason.PAUSED, DenialReason.KILLED})


class Room:
    """What one exchange holds. `on_stop` hears of a flag that stands in its way by now."""

    def __init__(
        self,
        door: Door,
        hold: Hold,
        noted: bytes,
        *,
        on_stop: Callable[[Denial], None],
        request_id: str,
    ) -> None:
        """`noted` is kept beside the hold for whoever has to recover it."""
        self._door, self._noted = door, noted
        self.news = b""
        """What is to be noted instead, with whatever moves the hold from now on."""
        self._on_stop, self._request_id = on_stop, request_id
        self.hold = hold
        self.held = Vector()
        self.states: tuple[CapState, ...] = ()
        self.admitted_by = AdmittedBy.CAPS
        self.refusal: ApiError | None = None
        """Why the hold could not grow when that was asked for last."""

    async def reserve(
        self,
        candidates: Sequence[Candidate],
        stairs: Stairs | None,
        refuse: Callable[[Denial], ApiError | None] = lambda _: None,
    ) -> Reservation:
        """Hold the first candidate that fits; raises the refusal when none does: `refuse` says it
        where that is no matter of the cap alone."""
        door = self._door
        try:
            answer = await self.place(candidates, stairs)
        except CapsNotAskedError as error:
            raise backend_unavailable() from error
        except asyncio.CancelledError:
            door.open.give_back(self.hold)  # it may have been applied
            raise
        except (CapsUnavailableError, HoldEndedError) as error:
            door.open.give_back(self.hold)
            self._log.info("caps_unavailable", step="reserve", cause=str(error))
            raise backend_unavailable() from error
        door.metrics.admission(self.hold.caps, answer, tenant=self.hold.tenant)
        if isinstance(answer, Denial):
            raise refuse(answer) or denied(answer, self.hold.tenant)
        self._take(candidates[answer.index], answer)
        self.admitted_by = answer.admitted_by
        return answer

    async def place(
        self,
        candidates: Sequence[Candidate],
        stairs: Stairs | None = None,
        *,
        runs: bool = False,
    ) -> Reservation | Denial:
        """Hold the first of these that fits, and note the facts beside it; `runs` as for caps."""
        door = self._door
        owner, ttl_ms = door.proxy_id, door.open.ttl_ms
        return await door.caps.reserve(
            self.hold,
            candidates,
            owner=owner,
            ttl_ms=ttl_ms,
            facts=self._noted,
            stairs=stairs,
            runs=runs,
        )

    @property
    def _log(self) -> Any:
        return self._door.log.bind(request_id=self._request_id)

    def know(self, noted: bytes) -> None:
        """It goes where what was noted has not led it: what moves the hold there brings this."""
        self._noted = self.news = noted

    async def move(self, candidate: Candidate) -> bool:
        """Hold for another upstream instead; False leaves things as they are."""
        candidate = self._told(candidate)
        try:
            answer = await self._door.caps.swap(self.hold, candidate)
        except (CapsUnavailableError, HoldEndedError):
            return False
        if isinstance(answer, Denial):
            self._log.info("swap_denied", upstream=candidate.upstream)
            self._heed(answer)
            return False
        self._take(candidate, answer)
        return True

    async def grow(self, candidate: Candidate) -> Vector | None:
        """Hold more, for output that is still to come: what is held then, None when it stays.

        Redis away, `redis.on_outage: open` lets the stream go on as if it were held. A hold that
        was lost with Redis' data is placed anew.
        """
        candidate = self._told(candidate)
        try:
            answer = await self._swapped_or_placed(candidate)
        except (CapsUnavailableError, HoldEndedError) as error:
            self._log.info("caps_unavailable", step="grow", cause=str(error))
            self.refusal = backend_unavailable()
            is_open = self._door.settings.redis.on_outage == "open"
            return candidate.vector if is_open else None
        if isinstance(answer, Denial):
            self.refusal = _ended(denied(answer, self.hold.tenant))
            self._heed(answer)
            return None
        self._take(candidate, answer)
        return self.held

    async def _swapped_or_placed(self, candidate: Candidate) -> Reservation | Denial:
        try:
            return await self._door.caps.swap(self.hold, candidate)
        except HoldEndedError:
            answer = await self.place([candidate])
        if isinstance(answer, Reservation) and answer.repeat:  # a renewal was first, with less
            return await self._door.caps.swap(self.hold, candidate)
        return answer

    def _told(self, candidate: Candidate) -> Candidate:
        return replace(candidate, facts=self.news) if self.news else candidate

    def _take(self, candidate: Candidate, answer: Reservation) -> None:
        self.held = answer.vector or candidate.vector
        self.states = answer.states or self.states

    def _heed(self, denial: Denial) -> None:
        if denial.reason in STOPS:
            self._on_stop(denial)


def _ended(error: ApiError) -> ApiError:
    """The refusal as it ends a stream: whatever it was, what can be spent is."""
    return SpendExhausted(f"The answer was ended here. {error.message}", metadata=error.metadata)
