"""A request with a key of its client's: claimed before it runs, answered for afterwards.

While Redis cannot be asked nobody knows whether it ran: it is refused under `redis.on_outage:
closed`, and passes otherwise.
"""

from __future__ import annotations

import asyncio

from metering.background import spawn
from metering.caps import CapsUnavailableError
from metering.replies import CLAIM_MS, Claimed, ClaimState, Found, Reply, RequestClaim
from proxy.cache_errors import (
    IdempotencyInFlight,
    IdempotencyMismatch,
    IdempotencyNotReplayable,
)
from proxy.door import Door
from proxy.refusals import backend_unavailable


class Repeat:
    """The claim of one request."""

    def __init__(self, door: Door, claim: RequestClaim) -> None:
        self._door, self._claim = door, claim
        self._claimed = Claimed(ClaimState.FREE)
        self._is_placed = self._is_ended = False
        self._keeping: asyncio.Task[None] | None = None

    @property
    def state(self) -> ClaimState:
        """What came of claiming it."""
        return self._claimed.state

    @property
    def is_ours(self) -> bool:
        """Whether a claim of ours stands that was not ended yet."""
        return self._is_placed and not self._is_ended

    async def claim(self) -> None:
        """Claim it; raises BudgetBackendUnavailable where that is needed and cannot be done."""
        try:
            self._claimed = await self._door.replies.claim(self._claim)
        except CapsUnavailableError as error:
            self._door.log.info("cache_unavailable", step="claim", cause=str(error))
            self._door.metrics.repeated("unchecked")
            if self._door.settings.redis.on_outage == "closed":
                raise backend_unavailable() from error
            return
        except asyncio.CancelledError:
            self._is_placed = True  # it may have been: to be let go
            raise
        self._door.metrics.repeated(self.state)
        if self.state is ClaimState.FREE:
            self._is_placed = True
            self._keeping = spawn(self._keep(), name="keep-claim")

    def found_or_refuse(self) -> Found:
        """What this request has got before; raises why there is nothing to give."""
        if self.state is ClaimState.BUSY:
            raise IdempotencyInFlight(
                "A request with this Idempotency-Key is being answered. Ask again in a moment."
            )
        if self.state is ClaimState.OTHER:
            raise IdempotencyMismatch(
                "This Idempotency-Key came with another request before. Use a new one for each.",
                param="Idempotency-Key",
            )
        if self._claimed.found is None:
            raise IdempotencyNotReplayable(
                "This request was answered and billed, and its answer was not kept: it broke off, "
                "or was too large. Use a new Idempotency-Key to run it once more."
            )
        return self._claimed.found

    async def end(self, reply: Reply | None) -> None:
        """It was answered, and must not run again; where that cannot be noted the claim lapses by
        itself."""
        if not self.is_ours:
            return
        self._stop()
        cache = self._door.settings.cache
        bounds = cache.repeat_bounds(self._door.settings.redis.shards)
        try:
            is_kept = await self._door.replies.end(
                self._claim, reply, ttl_ms=cache.repeat_ttl_ms, bounds=bounds
            )
        except CapsUnavailableError as error:
            is_kept, cause = False, str(error)
        else:
            cause = "no room"
        if not is_kept:
            self._door.log.warning("repeat_not_kept", tenant=self._claim.tenant, cause=cause)

    async def drop(self) -> None:
        """It was not billed: who sends it again runs it again."""
        if not self.is_ours:
            return
        self._stop()
        try:
            await self._door.replies.hold(self._claim, ttl_ms=0)
        except CapsUnavailableError as error:
            self._door.log.info("cache_unavailable", step="drop", cause=str(error))

    def give_up(self, *, is_billed: bool) -> None:
        """Whoever was to end it was cancelled or refused; beside the path."""
        if not self.is_ours:
            self._stop()
            return
        spawn(self.end(None) if is_billed else self.drop(), name="end-claim")

    def _stop(self) -> None:
        self._is_ended = True
        if self._keeping is not None:
            self._keeping.cancel()
            self._keeping = None

    async def _keep(self) -> None:
        """Say again and again that somebody is being answered."""
        while True:
            await asyncio.sleep(CLAIM_MS / 3000)
            try:
                if not await self._door.replies.hold(self._claim):
                    await self._door.replies.claim(self._claim)  # lost; or somebody else's by now
            except CapsUnavailableError as error:
                self._door.log.info("cache_unavailable", step="hold", cause=str(error))
