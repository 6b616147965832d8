"""An exchange with a flat hold: reserve -> (whatever is relayed) -> commit.

As `proxy.exchange`, with one upstream and nothing translated; what is relayed, and how, is the
caller's `work`. Rules: it is recorded whatever becomes of it, whoever cancels; `run` returns only
after that, and the client gets its end after `run`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, cast

from metering.caps import Candidate, Denial, Hold, Reservation, Vector
from metering.clock import now_ns
from metering.ids import uuid7
from metering.meter import Meter
from metering.money import AMOUNT_NANO_MAX
from metering.tenants import Tenant
from proxy.allowance import is_bounded
from proxy.attempts import Attempt, Facts
from proxy.billing import bill, checkpoint, progress
from proxy.charging import price_of
from proxy.door import Door
from proxy.errors import ApiError
from proxy.halt import Halt
from proxy.hold_facts import hold_facts
from proxy.passthrough_paths import Spend
from proxy.passthrough_plan import Job
from proxy.passthrough_prices import Billing
from proxy.passthrough_usage import FlatMeter
from proxy.recording import record
from proxy.refusals import denied
from proxy.room import Room
from proxy.settings import Provider
from proxy.telling import Told, headers, tell
from routing.fallback import Outcome
from routing.policy import Option

Work = Callable[[Attempt], Awaitable[Outcome]]


class Passing:
    """One exchange; `run` once. `door.open` renews its hold meanwhile."""

    def __init__(self, door: Door, facts: Facts, job: Job) -> None:
        self._door, self._facts, self._job = door, facts, job
        self._attempts: list[Attempt] = []
        self._meter = FlatMeter({})
        self.booked: list[bytes] = []
        """The events that were recorded, once they were."""
        self._told = Told()
        self._halt = Halt()
        self.is_ending = False
        self.hold = Hold(facts.principal.tenant.id, facts.exchange_id, facts.caps, facts.stops)
        self._first = job.tariff.billing()
        noted = hold_facts(facts, [_upstream_facts(job.provider, self._first)])
        self.room = Room(door, self.hold, noted, on_stop=self.stop, request_id=facts.request_id)

    async def run(self, work: Work) -> Outcome:
        """Do the work with room held for it; how it ended, once that is recorded. Raises the
        ApiError that stands in its way."""
        await self.room.reserve([self.candidate(self._job.hold_nano)], None)
        self._door.open.add(self)
        outcome = Outcome.CLIENT_GONE
        try:
            async with self._halt:
                outcome = await self._attempt(work)
        except TimeoutError:
            if not self._halt.is_pulled:
                raise
            outcome = Outcome.STOPPED
        finally:
            await self._settle()
        return outcome

    def candidate(self, hold_nano: int) -> Candidate:
        """What is asked of the caps, to hold so much."""
        vector = Vector(min(hold_nano, AMOUNT_NANO_MAX), 0, 1)
        return Candidate(self._first.upstream.label, vector)

    def take(self, billing: Billing) -> None:
        """Bill by this from now on."""
        attempt = self._attempts[-1]
        attempt.option = replace(attempt.option, upstream=billing.upstream, price=billing.price)
        self._meter.bill(billing.units, told=billing.told, suspect=billing.suspect)

    def doubt(self, suspect: str | None) -> None:
        """Note what is odd about what was told."""
        self._meter.doubt(suspect)

    @property
    def spent_nano(self) -> int:
        """What it comes to by now, at the tenant's price."""
        attempt = self._attempts[-1]
        units = self._meter.final().units
        price, _ = price_of(attempt, units)
        return price.sell.total_nano(units) if price else 0

    @property
    def refusal(self) -> ApiError | None:
        """Why it was stopped, if somebody did."""
        denial = self._halt.denial
        return None if denial is None else denied(denial, self.hold.tenant)

    @property
    def tenant(self) -> Tenant:
        """Whose exchange it is."""
        return self._facts.principal.tenant

    @property
    def is_stopped(self) -> bool:
        """Whether somebody paused or killed what it runs in."""
        return self._halt.is_pulled

    def headers(self) -> dict[str, str]:
        """The `x-weir-*` headers as far as they are known now."""
        named = headers(self._facts, self._attempts[-1], self.room.states, self._told)
        named.pop("x-weir-model", None)  # it may be the name of a price
        return named if self._job.model is None else {**named, "x-weir-model": self._job.model}

    # -- inside -------------------------------------------------------------------------------

    async def _attempt(self, work: Work) -> Outcome:
        started_at = now_ns()
        attempt = Attempt(
            number=1,
            event_id=uuid7(started_at // 1_000_000, os.urandom(10)),
            option=Option(self._first.upstream, self._first.price, self.room.held),
            vendor=self._job.provider.type,
            meter=cast("Meter", self._meter),  # an attempt asks no more of it than this has
            started_at=started_at,
            admitted_by=self.room.admitted_by,
            upstream_label=f"{self._job.provider.name}/path:{self._job.tariff.row.family}",
            is_inference=self._job.tariff.row.spend is not Spend.NOTHING,
        )
        self._attempts.append(attempt)
        self.take(self._first)
        try:
            attempt.outcome = await work(attempt)
        except asyncio.CancelledError:
            if self._halt.is_pulled:
                attempt.outcome = Outcome.STOPPED
            elif attempt.outcome is None:  # else it had ended already, in good order
                attempt.outcome = Outcome.CLIENT_GONE
                attempt.client_disconnected = not self._door.lifecycle.is_stopping
            raise
        except Exception:
            # a bug of ours: what the client has seen is billed, and the caller tells it
            attempt.outcome = Outcome.TRUNCATED if attempt.first_byte_at else None
            raise
        finally:
            attempt.ended_at = now_ns()
        return attempt.outcome

    async def _settle(self) -> None:
        """Record the usage, whoever cancels us meanwhile; the client's end waits for this."""
        door, self.is_ending = self._door, True
        try:
            if not self._attempts:
                door.open.give_back(self.hold)
                return
            spools = door.settings.metering.spool == "always"
            seq = door.spool.take_seq() if spools else None
            made = bill(self._facts, self._attempts, emitted_at=now_ns(), spool_seq=seq)
            self._told.sell_nano = made.actual.nano
            overrun_nano = made.actual.nano - self.room.held.nano
            if overrun_nano > 0 and is_bounded(self.hold.caps):
                self._told.overrun_nano = overrun_nano
            tell(door, self._facts, self._attempts, made.charges, self._told)
            known = await record(door, self.hold, made, self._facts.request_id)
            self.booked = made.events
            self.room.states = known or self.room.states
        finally:
            door.open.discard(self)

    # -- as `door.Holding` --------------------------------------------------------------------

    @property
    def held(self) -> Candidate | None:
        """What is held, to be placed again if it lapses while the exchange goes on."""
        if not self._attempts:
            return None
        return Candidate(self._first.upstream.label, self.room.held)

    async def place(self, candidates: Sequence[Candidate]) -> Reservation | Denial:
        """Hold the first of these anew, for a hold that was lost."""
        return await self.room.place(candidates, runs=True)

    def stop(self, denial: Denial) -> None:
        """Somebody paused or killed a scope it runs in: it ends now."""
        self._halt.pull(denial)

    @property
    def progress(self) -> tuple[int, ...]:
        """Changes when a checkpoint would say more."""
        return progress(self._attempts)

    def checkpoint(self) -> bytes:
        """What to record should the process end here."""
        return checkpoint(self._facts, self._attempts, now_ns=now_ns())


def _upstream_facts(provider: Provider, billing: Billing) -> tuple[Any, ...]:
    """As `metering.recovery.UpstreamFacts` has it; there is no prompt that we counted."""
    upstream, price = billing.upstream, billing.price
    return (
        provider.type,
        provider.name,
        upstream.public_name,
        upstream.model,
        "none",
        price.cost.version if price else None,
        price.sell.version if price else None,
        0,
        0,
    )
