"""`OutageCaps`: what admission does while Redis cannot be asked (`redis.on_outage`).

Around other `Caps`; while they answer it only remembers what they said. Rules:

- `closed` admits nobody. `open` admits everybody, unless last seen paused or killed.
- `local` admits out of this process' slice of each cap: share * (limit - spent - held) / processes,
  by the last answer that this process saw. What was admitted from it counts until Redis has it, so
  one process never passes its slice, however often Redis comes and goes, and all of them together
  never pass share * limit. A tenant that this process has not seen gets nothing.
- What is refused here is CapsUnavailableError (a 503): nobody knows that the cap is exhausted.
- Nothing is admitted that could not be recorded: with Redis away and the spool failing, nobody.
- Commits always go to Redis first; whoever calls spools what it does not take.
- What Redis does not know of is written down before it is admitted, and kept there with its newest
  checkpoint until Redis or the spool has it: a process that is killed leaves it to its next run.
- A local exchange that outlives the outage is held in Redis at its next renewal, if it fits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from metering.caps import (
    AdmittedBy,
    Candidate,
    Cap,
    Caps,
    CapsNotAskedError,
    CapState,
    CapsUnavailableError,
    Commit,
    Denial,
    DenialReason,
    Hold,
    HoldEndedError,
    Renewal,
    Reservation,
    Stairs,
    Vector,
    WindowsRebuildingError,
)
from metering.caps_model import threshold_nano
from metering.clock import now_ms
from metering.local_codec import LocalRecord
from metering.local_journal import JournalError, LocalJournal
from metering.money import PPM
from metering.recent import RecentCommits
from metering.recovery import LostHold
from metering.window import NOTHING, minus, plus

TENANTS_MAX = 100_000
"""Tenants that are remembered; whoever is seen after so many gets nothing in an outage."""
LOCAL_MAX = 100_000
"""Exchanges admitted here that Redis does not have yet; beyond them nobody is admitted."""


@dataclass(frozen=True, slots=True)
class OutagePolicy:
    """`on_outage`, and the share of what is left that all `processes` may spend by themselves."""

    mode: Literal["local", "closed", "open"] = "local"
    share_ppm: int = 100_000
    processes: int = 1


@dataclass(slots=True)
class OutageCounts:
    """Since the process started; `outages` counts how often Redis went away."""

    outages: int = 0
    admitted: int = 0
    refused: int = 0


@dataclass(slots=True)
class _Tenant:
    """What Redis said last of a tenant's caps, and what was admitted here since."""

    states: dict[Cap, CapState] = field(default_factory=dict)
    used: dict[Cap, Vector] = field(default_factory=dict)


@dataclass(slots=True)
class _Local:
    """An exchange admitted here; ended means that its true amounts wait in the spool."""

    hold: Hold
    tenant: _Tenant
    candidate: Candidate
    asked: Mapping[str, Any]
    """What else `reserve` was given, to place the hold in Redis later."""
    was_asked: bool
    """Whether Redis may have placed the hold all the same: its answer never came."""
    vector: Vector = NOTHING
    """What it uses of the slices now."""
    is_ended: bool = False


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
    ) -> None:
        """`on_change` hears the cause when an outage begins, and None when it is over. Without a
        `journal` what is admitted here is lost with the process."""
        self._caps = caps
        self._policy = policy
        self._is_up = is_up
        self._is_recordable = is_recordable
        self._recent = recent
        self._journal = journal
        self._on_change = on_change
        self.on_back: Callable[[], None] | None = None
        """Told when an outage is over: who cares for open holds, and needs these caps to do so."""
        self._tenants: dict[str, _Tenant] = {}
        self._stopped: set[tuple[str, tuple[Cap, ...]]] = set()
        self._local: dict[str, _Local] = {}
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
            self._change(str(error))
            failure = error if was_up else CapsNotAskedError(str(error))
            admitted = self._admit(hold, candidates, failure, asked={"owner": owner, **more})
            await self._write_down(self._local[hold.exchange_id], failure)
            return admitted
        self._change(None)
        self._note_answer(hold, answer)
        return answer

    async def swap(self, hold: Hold, candidate: Candidate) -> Reservation | Denial:
        """As `Caps.swap`; a local exchange moves within the slice."""
        local = self._local.get(hold.exchange_id)
        if local is None:
            answer = await self._caps.swap(hold, candidate)
            self._note_answer(hold, answer)
            return answer
        self._use(local, NOTHING)
        by_slice = self._policy.mode == "local"
        fits = not by_slice or self._fits(local.tenant, hold, candidate.vector)
        self._use(local, candidate.vector if fits else local.candidate.vector)
        if not fits:
            raise CapsUnavailableError("the local share of the cap has no room for this upstream")
        try:
            await self._note_down(hold, upstream=candidate.upstream)
        except JournalError:
            self._use(local, local.candidate.vector)
            raise
        if hold.exchange_id not in self._local:  # meanwhile it was placed in Redis
            return await self.swap(hold, candidate)
        local.candidate = candidate
        return Reservation(hold.exchange_id, 0, self._states(hold), admitted_by=self._admits_by)

    async def commit(self, hold: Hold, actual: Vector, events: Sequence[bytes]) -> Commit:
        """As `Caps.commit`."""
        local = self._local.get(hold.exchange_id) if self._local else None
        try:
            done = await self._caps.commit(hold, actual, events)
        except (CapsUnavailableError, HoldEndedError, ValueError):
            if local is not None:
                self._use(local, actual)
                local.is_ended = True
            raise
        if local is not None:
            self._forget(local)
        if self._recent is not None:  # a repeat, too, is not on Redis' disk yet
            self._recent.add(hold, actual, events)
        self._note(hold.tenant, done.states)
        return done

    async def release(self, hold: Hold) -> None:
        """As `Caps.release`."""
        local = self._local.get(hold.exchange_id)
        if local is not None:
            self._forget(local)
            if not local.was_asked:
                return
        await self._caps.release(hold)

    async def renew(self, hold: Hold, *, ttl_ms: int, checkpoint: bytes | None = None) -> Renewal:
        """As `Caps.renew`; what is held only here is placed in Redis, once it answers: with a
        WindowsRebuildingError where it cannot tell yet whether that fits."""
        local = self._local.get(hold.exchange_id)
        if local is None or local.is_ended:
            return await self._caps.renew(hold, ttl_ms=ttl_ms, checkpoint=checkpoint)
        try:
            if self._is_up():
                with contextlib.suppress(CapsNotAskedError, HoldEndedError):
                    await self._place(local, ttl_ms=ttl_ms, checkpoint=checkpoint)
        finally:
            if checkpoint is not None:
                await self._note_down(hold, checkpoint=checkpoint)  # unless Redis has it now
        return Renewal(is_held=True)

    def replayed(self, waiting: Container[str] = ()) -> None:
        """But for these exchanges, what the spool held is in Redis, or never will be: nothing of it
        counts here any more. Of what the spool had no room for, the journal keeps what it has."""
        ended = [each for each in self._local.values() if each.is_ended]
        for local in [each for each in ended if each.hold.exchange_id not in waiting]:
            self._forget(local, is_recorded=False)

    async def _place(self, local: _Local, *, ttl_ms: int, checkpoint: bytes | None) -> None:
        """Hold in Redis what was admitted here, if it fits."""
        hold, local.was_asked = local.hold, True
        answer = await self._caps.reserve(hold, [local.candidate], ttl_ms=ttl_ms, **local.asked)
        if isinstance(answer, Reservation):
            if checkpoint is not None:
                await self._caps.renew(hold, ttl_ms=ttl_ms, checkpoint=checkpoint)
            self._forget(local)
            self._note_answer(hold, answer)
        elif answer.reason is DenialReason.REBUILDING:
            raise WindowsRebuildingError("its windows are being rebuilt")

    async def _write_down(self, local: _Local, failure: CapsUnavailableError) -> None:
        """Nothing is begun that a kill could leave without a trace; `failure` if it cannot be."""
        if self._journal is None:
            return
        owner, facts = local.asked["owner"], local.asked.get("facts", b"")
        try:
            lost = LostHold(local.hold, owner, local.candidate.upstream, now_ms(), facts)
            await self._journal.add(LocalRecord(lost, self._admits_by))
        except JournalError as error:
            self._forget(local)
            self.counts.admitted -= 1
            self.counts.refused += 1
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
        return AdmittedBy.OPEN if self._policy.mode == "open" else AdmittedBy.LOCAL

    def _admit(
        self,
        hold: Hold,
        candidates: Sequence[Candidate],
        failure: CapsUnavailableError,
        *,
        asked: Mapping[str, Any],
    ) -> Reservation:
        choice = (
            self._choose(hold, candidates, asked.get("stairs")) if self._may_admit(hold) else None
        )
        if choice is None:
            self.counts.refused += 1
            raise failure
        index, passed = choice
        chosen = candidates[index]
        was_asked = not isinstance(failure, CapsNotAskedError)
        tenant = self._tenant(hold.tenant) or _Tenant()
        local = _Local(hold, tenant, chosen, asked, was_asked)
        self._local[hold.exchange_id] = local
        self._use(local, chosen.vector)
        self.counts.admitted += 1
        return Reservation(
            hold.exchange_id,
            index,
            self._states(hold),
            stage=int(passed),
            admitted_by=self._admits_by,
        )

    def _may_admit(self, hold: Hold) -> bool:
        if self._policy.mode == "closed" or not self._is_recordable():
            return False
        if {(hold.tenant, ()), (hold.tenant, hold.caps)} & self._stopped:
            return False
        return len(self._local) < LOCAL_MAX and hold.exchange_id not in self._local

    def _choose(
        self, hold: Hold, candidates: Sequence[Candidate], stairs: Stairs | None
    ) -> tuple[int, bool] | None:
        """The first candidate that may be had, and whether one was passed over by its threshold."""
        tenant = self._tenants.get(hold.tenant)
        if self._policy.mode == "open":
            known = tenant or _Tenant()
            allowed = [not self._passes(known, hold, each, stairs) for each in candidates]
            index = allowed.index(True) if True in allowed else len(candidates) - 1
            return index, index > 0
        if tenant is None or any(cap not in tenant.states for cap in hold.caps):
            return None
        passed = False
        for index, candidate in enumerate(candidates):
            if self._passes(tenant, hold, candidate, stairs):
                passed = True
            elif self._fits(tenant, hold, candidate.vector):
                return index, passed
        return None

    def _passes(
        self, tenant: _Tenant, hold: Hold, candidate: Candidate, stairs: Stairs | None
    ) -> bool:
        """Whether a money cap is so full, as last known, that this candidate is passed over."""
        for cap in hold.caps:
            threshold, state = threshold_nano(candidate, cap, stairs), tenant.states.get(cap)
            if threshold is None or state is None:
                continue
            used = tenant.used.get(cap, NOTHING)
            if state.spent.nano + state.held.nano + used.nano >= threshold:
                return True
        return False

    def _fits(self, tenant: _Tenant, hold: Hold, wanted: Vector) -> bool:
        for cap in hold.caps:
            state, used = tenant.states[cap], tenant.used.get(cap, NOTHING)
            for name in ("nano", "tokens", "requests"):
                limit = getattr(cap.limit, name)
                if limit is None:
                    continue
                left = limit - getattr(state.spent, name) - getattr(state.held, name)
                share = max(0, left) * self._policy.share_ppm // PPM // self._policy.processes
                if getattr(used, name) + getattr(wanted, name) > share:
                    return False
        return True

    def _states(self, hold: Hold) -> tuple[CapState, ...]:
        """Where the caps stand as far as this process can tell."""
        tenant = self._tenants.get(hold.tenant)
        if tenant is None or any(cap not in tenant.states for cap in hold.caps):
            return ()
        return tuple(
            replace(state, held=plus(state.held, tenant.used.get(cap, NOTHING)))
            for cap, state in ((cap, tenant.states[cap]) for cap in hold.caps)
        )

    # -- what is remembered -------------------------------------------------------------------

    def _note_answer(self, hold: Hold, answer: Reservation | Denial) -> None:
        if isinstance(answer, Reservation):
            if self._stopped:
                self._stopped -= {(hold.tenant, ()), (hold.tenant, hold.caps)}
            self._note(hold.tenant, answer.states)
        elif answer.reason is DenialReason.PAUSED:
            self._stopped.add((hold.tenant, ()))
        elif answer.reason is DenialReason.KILLED:
            self._stopped.add((hold.tenant, hold.caps))
        elif answer.state is not None:
            self._note(hold.tenant, (answer.state,))

    def _note(self, name: str, states: Sequence[CapState]) -> None:
        tenant = self._tenant(name)
        if tenant is not None:
            for state in states:
                tenant.states[state.cap] = state

    def _tenant(self, name: str) -> _Tenant | None:
        """What is known of a tenant, from now on at least; None when there are too many."""
        tenant = self._tenants.get(name)
        if tenant is None and len(self._tenants) < TENANTS_MAX:
            tenant = self._tenants[name] = _Tenant()
        return tenant

    def _use(self, local: _Local, vector: Vector) -> None:
        """This exchange uses so much of the slices now."""
        used = local.tenant.used
        for cap in local.hold.caps:
            used[cap] = plus(minus(used.get(cap, NOTHING), local.vector), vector)
        local.vector = vector

    def _forget(self, local: _Local, *, is_recorded: bool = True) -> None:
        self._use(local, NOTHING)
        self._local.pop(local.hold.exchange_id, None)
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
