"""`OutageCaps`: what admission does while Redis cannot be asked (`redis.on_outage`).

Around other `Caps`; while they answer it only remembers what they said. Rules:

- `closed` admits nobody. `open` admits everybody, unless last seen paused or killed.
- `local` admits out of this process' slice of each cap (`metering.outage_slices`), however often
  Redis comes and goes.
- What is refused here is CapsUnavailableError (a 503): nobody knows that the cap is exhausted.
- Nothing is admitted that could not be recorded: with Redis away and the spool failing, nobody.
- A tenant whose keys Redis refuses is served as if Redis were away; for all others it is there.
- Commits always go to Redis first; whoever calls spools what it does not take.
- What Redis does not know of is written down before it is admitted, and kept there with its newest
  checkpoint until Redis or the spool has it: a process that is killed leaves it to its next run.
- A local exchange that outlives the outage is held in Redis at its next renewal, if it fits.
- An exchange that Redis holds and that needs more (a stream that grows, a dearer upstream) takes it
  from the slice, and is local from then on: what Redis holds of it goes on counting there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace
from typing import Any

from metering.caps import (
    AdmittedBy,
    Candidate,
    Caps,
    CapsNotAskedError,
    CapsUnavailableError,
    Commit,
    Denial,
    DenialReason,
    Hold,
    HoldEndedError,
    Looked,
    Renewal,
    Reservation,
    Stairs,
    Vector,
    WindowsRebuildingError,
)
from metering.clock import now_ms
from metering.local_codec import LocalRecord
from metering.local_journal import JournalError, LocalJournal
from metering.outage_memory import KnownHolds, Stopped
from metering.outage_slices import TENANTS_MAX, Choice, LocalExchange, OutagePolicy, Slices
from metering.recent import RecentCommits
from metering.recovery import LostHold
from metering.window import NOTHING

LOCAL_MAX = 100_000
"""Exchanges admitted here that Redis does not have yet; beyond them nobody is admitted."""

_STOPS = frozenset({DenialReason.PAUSED, DenialReason.KILLED})


@dataclass(slots=True)
class OutageCounts:
    """Since the process started; `outages` counts how often Redis went away."""

    outages: int = 0
    admitted: int = 0
    refused: int = 0


class OutageCaps:
    """Caps that know what to do without Redis. `is_up` says whether it would be asked at all."""

    def __init__(
        self,
        caps: Caps,
        policy: OutagePolicy,
        *,
        is_up: Callable[[], bool],
        is_recordable: Callable[[], bool],
        recent: RecentCommits | None = None,
        journal: LocalJournal | None = None,
        on_change: Callable[[str | None], None] | None = None,
        on_broken: Callable[[str, str], None] | None = None,
    ) -> None:
        """`on_change` hears the cause when an outage begins, and None when it is over; `on_broken`
        a tenant that Redis refuses by itself, once until it answers, and the cause. Without a
        `journal` what is admitted here is lost with the process."""
        self._caps = caps
        self._is_up = is_up
        self._is_recordable = is_recordable
        self._recent = recent
        self._journal = journal
        self._on_change = on_change
        self._on_broken = on_broken
        self.on_back: Callable[[], None] | None = None
        """Told when an outage is over: who cares for open holds, and needs these caps to do so."""
        self.slices = Slices(policy)
        """Its `policy` may be replaced: what was admitted stays counted."""
        self._stopped = Stopped()
        self._local: dict[str, LocalExchange] = {}
        self._known = KnownHolds()
        self._broken: set[str] = set()
        self.is_away = False
        self.counts = OutageCounts()

    async def reserve(
        self,
        hold: Hold,
        candidates: Sequence[Candidate],
        *,
        owner: str,
        ttl_ms: int,
        **more: Any,
    ) -> Reservation | Denial:
        """As `Caps.reserve`; while Redis is away as this module says."""
        was_up = self._is_up()
        try:
            answer = await self._caps.reserve(hold, candidates, owner=owner, ttl_ms=ttl_ms, **more)
        except CapsUnavailableError as error:
            if error.is_its_own:
                self._tell_broken(hold.tenant, str(error))
            else:
                self._change(str(error))
            was_sent = was_up or error.is_its_own
            failure = error if was_sent else CapsNotAskedError(str(error))
            admitted = self._admit(hold, candidates, failure, asked={"owner": owner, **more})
            try:
                await self._write_down(self._local[hold.exchange_id], failure)
            except CapsUnavailableError:
                self.counts.refused += 1
                raise
            self.counts.admitted += 1
            return admitted
        self._change(None)
        self._broken.discard(hold.tenant)
        if isinstance(answer, Reservation):
            chosen, facts = candidates[answer.index], more.get("facts", b"")
            self._known.held(hold, chosen, answer.vector, owner, facts)
        self._note_answer(hold, answer)
        return answer

    async def look(
        self, hold: Hold, candidates: Sequence[Candidate], *, stairs: Stairs | None = None
    ) -> Looked:
        """As `Caps.look`: what the local share has room for changes with every process."""
        return await self._caps.look(hold, candidates, stairs=stairs)

    async def swap(self, hold: Hold, candidate: Candidate) -> Reservation | Denial:
        """As `Caps.swap`; a local exchange moves within the slice."""
        local = self._local.get(hold.exchange_id)
        if local is None:
            try:
                answer = await self._caps.swap(hold, candidate)
            except CapsUnavailableError as error:
                local = await self._borrow(hold, candidate, error)
            else:
                if isinstance(answer, Reservation):
                    self._known.moved(hold, candidate, answer.vector)
                self._note_answer(hold, answer)
                return answer
            if self._local.get(hold.exchange_id) is not local:  # meanwhile it was placed in Redis
                return await self.swap(hold, candidate)
        before = local.whole
        local.use(NOTHING, runs=False)  # it is not in its own way, by its number neither
        choice = local.choose(candidate)
        local.use(before if choice is None else choice.vector)
        if choice is None:
            raise CapsUnavailableError("the local share of the cap has no room for this upstream")
        try:
            await self._note_down(hold, upstream=candidate.upstream, facts=candidate.facts)
        except JournalError:
            local.use(before)
            raise
        if hold.exchange_id not in self._local:  # meanwhile it was placed in Redis
            return await self.swap(hold, candidate)
        local.move(candidate, choice.vector)
        return self._reservation(hold, choice)

    async def _borrow(
        self, hold: Hold, candidate: Candidate, failure: CapsUnavailableError
    ) -> LocalExchange:
        """From now on local, with what Redis holds of it; `failure` where there is no room here."""
        if (local := self._local.get(hold.exchange_id)) is not None:  # by a call beside this one
            return local
        if (known := self._known.find(hold)) is None or not self._may_admit(hold):
            raise failure
        local = LocalExchange(
            hold, self.slices, known.candidate, known.asked, True, base=known.candidate.vector
        )
        local.use(known.candidate.vector)
        if local.choose(candidate) is None:
            raise failure
        self._local[hold.exchange_id] = local
        await self._write_down(local, failure, checkpoint=known.checkpoint or b"")
        return local

    async def commit(self, hold: Hold, actual: Vector, events: Sequence[bytes]) -> Commit:
        """As `Caps.commit`."""
        self._known.ended(hold)
        try:
            done = await self._caps.commit(hold, actual, events)
        except (CapsUnavailableError, HoldEndedError, ValueError):
            if (local := self._local.get(hold.exchange_id)) is not None:
                local.use(actual, runs=False)
                local.is_ended = True
            raise
        # as it is now: meanwhile it may have been placed in Redis, or admitted here after all
        if (local := self._local.get(hold.exchange_id)) is not None:
            self._forget(local)
        if self._recent is not None:  # a repeat, too, is not on Redis' disk yet
            self._recent.add(hold, actual, events)
        self.slices.note(hold.tenant, done.states)
        return done

    async def release(self, hold: Hold) -> None:
        """As `Caps.release`."""
        self._known.ended(hold)
        local = self._local.get(hold.exchange_id)
        if local is not None:
            if not local.is_ended:  # nothing of it was spent
                local.use(NOTHING)
            self._forget(local)
            if not local.was_asked:
                return
        await self._caps.release(hold)

    async def renew(self, hold: Hold, *, ttl_ms: int, checkpoint: bytes | None = None) -> Renewal:
        """As `Caps.renew`; what is held only here is placed in Redis, once it answers: with a
        WindowsRebuildingError where it cannot tell yet whether that fits."""
        local = self._local.get(hold.exchange_id)
        if local is None or local.is_ended:
            self._known.noted(hold, checkpoint)
            renewal = await self._caps.renew(hold, ttl_ms=ttl_ms, checkpoint=checkpoint)
            if renewal.stop is not None:
                self._stopped.add(hold.tenant, renewal.scope)
            return renewal
        denial = None
        try:
            if self._is_up():
                with contextlib.suppress(CapsNotAskedError, HoldEndedError):
                    denial = await self._place(local, ttl_ms=ttl_ms, checkpoint=checkpoint)
        finally:
            if checkpoint is not None:
                await self._note_down(hold, checkpoint=checkpoint)  # unless Redis has it now
        if denial is not None and denial.reason in _STOPS:
            self._stopped.add(hold.tenant, denial.scope)
            return Renewal(is_held=True, stop=denial.reason, scope=denial.scope)
        return Renewal(is_held=True)

    def replayed(self, waiting: Container[str] = ()) -> None:
        """But for these exchanges, what the spool held is in Redis, or never will be: the next
        numbers are all that counts. Of what the spool had no room for, the journal keeps what it
        has."""
        ended = [each for each in self._local.values() if each.is_ended]
        for local in [each for each in ended if each.hold.exchange_id not in waiting]:
            self._forget(local, is_recorded=False)

    async def _place(
        self, local: LocalExchange, *, ttl_ms: int, checkpoint: bytes | None
    ) -> Denial | None:
        """Hold in Redis what was admitted here, if it fits; what stands in its way, if not."""
        hold, placed, local.was_asked = local.hold, local.candidate, True
        answer = await self._held_again(local, placed, ttl_ms)
        # what was placed unseen may be another candidate, and an exchange moves on meanwhile
        is_other = isinstance(answer, Reservation) and answer.repeat
        while isinstance(answer, Reservation) and (is_other or local.candidate is not placed):
            is_other, placed = False, local.candidate
            answer = await self._caps.swap(hold, placed)
        if isinstance(answer, Reservation):
            if local.is_ended:  # its usage waits in the spool, and the hold for that
                return None
            local.leave()
            if self._local.get(hold.exchange_id) is local:  # else its end was recorded meanwhile
                owner, facts = local.asked["owner"], local.asked.get("facts", b"")
                self._known.held(hold, placed, answer.vector, owner, facts)
                self._known.noted(hold, checkpoint)
            self._note_answer(hold, answer)
            if checkpoint is not None:
                await self._caps.renew(hold, ttl_ms=ttl_ms, checkpoint=checkpoint)
            if local.candidate is placed and not local.is_ended:  # else there is a next time
                self._forget(local)
            return None
        if answer.reason is DenialReason.REBUILDING:
            raise WindowsRebuildingError("its windows are being rebuilt")
        return answer

    async def _held_again(
        self, local: LocalExchange, placed: Candidate, ttl_ms: int
    ) -> Reservation | Denial:
        """What Redis has held from the beginning may have lapsed: only a swap places that again."""
        if local.base is not None:
            with contextlib.suppress(HoldEndedError):
                answer = await self._caps.swap(local.hold, placed)
                if isinstance(answer, Reservation):
                    await self._caps.renew(local.hold, ttl_ms=ttl_ms)
                return answer
        return await self._caps.reserve(local.hold, [placed], ttl_ms=ttl_ms, **local.asked)

    async def _write_down(
        self, local: LocalExchange, failure: CapsUnavailableError, checkpoint: bytes = b""
    ) -> None:
        """Nothing is begun that a kill could leave without a trace; `failure` if it cannot be."""
        if self._journal is None:
            return
        owner, facts = local.asked["owner"], local.asked.get("facts", b"")
        try:
            lost = LostHold(local.hold, owner, local.candidate.upstream, now_ms(), facts)
            lost = replace(lost, checkpoint=checkpoint)
            await self._journal.add(LocalRecord(lost, self._admits_by))
        except JournalError as error:
            local.use(NOTHING)
            self._forget(local)
            raise type(failure)(f"{failure}; {error}") from error

    async def _note_down(self, hold: Hold, **news: Any) -> None:
        if self._journal is not None:
            await self._journal.note(hold.exchange_id, **news)

    def probed(self, cause: str | None) -> None:
        """Without any request: Redis takes writes (None), or why it does not."""
        self._change(cause)

    # -- admission without Redis --------------------------------------------------------------

    @property
    def _admits_by(self) -> AdmittedBy:
        return AdmittedBy.OPEN if self.slices.policy.mode == "open" else AdmittedBy.LOCAL

    def _admit(
        self,
        hold: Hold,
        candidates: Sequence[Candidate],
        failure: CapsUnavailableError,
        *,
        asked: dict[str, Any],
    ) -> Reservation:
        choice = None
        if self._may_admit(hold):
            choice = self.slices.choose(hold, candidates, asked.pop("stairs", None))
        if choice is None:
            self.counts.refused += 1
            raise failure
        was_asked = not isinstance(failure, CapsNotAskedError)
        chosen = replace(candidates[choice.index], vector=choice.vector, elastic=None)
        local = LocalExchange(hold, self.slices, chosen, asked, was_asked)
        self._local[hold.exchange_id] = local
        local.use(choice.vector)
        return self._reservation(hold, choice)

    def _reservation(self, hold: Hold, choice: Choice) -> Reservation:
        return Reservation(
            hold.exchange_id,
            choice.index,
            self.slices.states(hold),
            choice.stage,
            vector=choice.vector if choice.is_shrunk else None,
            admitted_by=self._admits_by,
        )

    def _may_admit(self, hold: Hold) -> bool:
        if self.slices.policy.mode == "closed" or not self._is_recordable():
            return False
        if self._stopped.stops(hold):
            return False
        return len(self._local) < LOCAL_MAX and hold.exchange_id not in self._local

    # -- what is remembered -------------------------------------------------------------------

    def _note_answer(self, hold: Hold, answer: Reservation | Denial) -> None:
        if isinstance(answer, Reservation):
            self._stopped.clear(hold)
            self.slices.note(hold.tenant, answer.states)
        elif answer.reason in _STOPS:
            self._stopped.add(hold.tenant, answer.scope)
        elif answer.state is not None:
            self.slices.note(hold.tenant, (answer.state,))

    def _forget(self, local: LocalExchange, *, is_recorded: bool = True) -> None:
        """Nobody has to hear of it any more; what it used counts until the numbers show it."""
        local.leave()
        if self._local.get(local.hold.exchange_id) is local:
            del self._local[local.hold.exchange_id]
        if is_recorded and self._journal is not None:
            self._journal.remove(local.hold.exchange_id)

    def _change(self, cause: str | None) -> None:
        is_away = cause is not None
        if is_away == self.is_away:
            return
        self.is_away = is_away
        self.counts.outages += is_away
        if self._on_change is not None:
            self._on_change(cause)
        if self.on_back is not None and not is_away:
            self.on_back()

    def _tell_broken(self, tenant: str, cause: str) -> None:
        """Redis answers, and refuses what this tenant has there: no outage of anybody else."""
        if tenant not in self._broken and len(self._broken) < TENANTS_MAX:
            self._broken.add(tenant)
            if self._on_broken is not None:
                self._on_broken(tenant, cause)
