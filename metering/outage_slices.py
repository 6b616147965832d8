"""The slices of the caps that a process may spend while Redis is away, by what Redis said last.

Rules:
- A slice is share * (limit - spent - held) / processes. What was admitted from it counts until
  Redis says anew where the cap stands, and so shows it: that it has ended in Redis is not enough,
  by the old numbers the same slice would be there to be spent once more. So one process never
  passes its slice, and all of them never pass share * limit.
- A tenant, project or key that this process has not seen gets nothing. Features, users, sessions
  and runs are named by clients and begin all the time: one that was not seen counts as untouched.
  What another process knew of it is passed by share * limit at most, under the caps above it.
- Exchanges at once are counted here alone: limit / processes of them.
- An exchange that Redis holds takes only what it needs beyond that: the rest is in the last numbers
  as held. It runs already, so it counts as no request and not among those at once.
- Stages are by the last numbers and what was admitted since; nothing is remembered of them.

Pure. `metering.caps_choice` judges, as it does for Redis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from metering.caps import (
    Candidate,
    Cap,
    CapState,
    Elastic,
    Hold,
    Limit,
    ScopeKind,
    Stairs,
    Vector,
)
from metering.caps_choice import Kept, Look, choose, climb
from metering.money import PPM, hold_nano
from metering.window import NOTHING, minus, plus

TENANTS_MAX = 100_000
"""Tenants that are remembered; whoever is seen after so many gets nothing in an outage."""
ROAMING_MAX = 100_000
"""Features, users, sessions and runs that are remembered, the newest of them."""
UNSEEN_MAX = 100_000
"""Windows with amounts that Redis has and has not shown yet; the oldest beyond them are taken for
shown. Of features, users, sessions and runs most are never asked for again."""

_ROAMING = frozenset({ScopeKind.FEATURE, ScopeKind.USER, ScopeKind.SESSION, ScopeKind.RUN})

_Key = tuple[str, str, str, str]
"""Tenant, kind, id, window: amounts belong to a window of a scope, whichever caps are over it.
Strings, for a cap takes twenty times as long to be hashed."""


@dataclass(frozen=True, slots=True)
class OutagePolicy:
    """`on_outage`, and the share of what is left that all `processes` may spend by themselves."""

    mode: Literal["local", "closed", "open"] = "local"
    share_ppm: int = 100_000
    processes: int = 1


@dataclass(frozen=True, slots=True)
class Choice:
    """Who is admitted, what it holds, in which stage."""

    index: int
    vector: Vector
    is_shrunk: bool
    stage: int


@dataclass(slots=True)
class Slices:
    """What was said of the caps of every tenant, and what is used of them here."""

    policy: OutagePolicy
    _seen: dict[str, dict[_Key, CapState]] = field(default_factory=dict)
    _roaming: dict[_Key, CapState] = field(default_factory=dict)
    _used: dict[_Key, tuple[Vector, int]] = field(default_factory=dict)
    _unseen: dict[_Key, Vector] = field(default_factory=dict)
    """The part of `_used` that Redis has by now, though what it said last does not show it yet."""

    def note(self, tenant: str, states: Sequence[CapState]) -> None:
        """Redis has said this."""
        if not states:
            return
        seen = self._seen.get(tenant)
        if seen is None:
            if len(self._seen) >= TENANTS_MAX:
                return
            seen = self._seen[tenant] = {}
        for state in states:
            key = _key(tenant, state.cap)
            if self._unseen and (shown := self._unseen.pop(key, None)) is not None:
                self._add(key, less=shown, more=NOTHING, running=0)
            if state.cap.scope.kind not in _ROAMING:
                seen[key] = state
                continue
            self._roaming.pop(key, None)
            self._roaming[key] = state
            if len(self._roaming) > ROAMING_MAX:
                del self._roaming[next(iter(self._roaming))]

    def choose(
        self,
        hold: Hold,
        candidates: Sequence[Candidate],
        stairs: Stairs | None,
        *,
        grows: bool = False,
    ) -> Choice | None:
        """The candidate that the slices have room for, or that is next where all are open.

        With `grows` it is about what an exchange needs beyond what Redis holds of it."""
        known = [self._known(hold.tenant, cap) for cap in hold.caps]
        is_open = self.policy.mode == "open"
        if None in known and not is_open:
            return None
        stage = self._stage(hold, [state or (NOTHING, NOTHING) for state in known], stairs)
        closed = 0 if stairs is None or stairs.is_shadow else stage
        if is_open:
            allowed = [index for index, each in enumerate(candidates) if each.stage >= closed]
            index = allowed[0] if allowed else len(candidates) - 1
            return Choice(index, candidates[index].vector, False, stage)
        looks = [
            self._slice(hold.tenant, cap, state, grows=grows)
            for cap, state in zip(hold.caps, known, strict=True)
            if state is not None
        ]
        found = choose(looks, candidates, closed)
        if found is None:
            return None
        index, vector = found
        return Choice(index, vector or candidates[index].vector, vector is not None, stage)

    def states(self, hold: Hold) -> tuple[CapState, ...]:
        """Where the caps stand as far as this process can tell; empty where it cannot."""
        found = []
        for cap in hold.caps:
            key = _key(hold.tenant, cap)
            state = self._seen.get(hold.tenant, {}).get(key) or self._roaming.get(key)
            if state is None and cap.scope.kind not in _ROAMING:
                return ()
            used = self._used.get(key, (NOTHING, 0))[0]
            spent, held = (state.spent, state.held) if state else (NOTHING, NOTHING)
            now_ms, reset_ms = (state.now_ms, state.reset_ms) if state else (0, None)
            found.append(CapState(cap, spent, plus(held, used), now_ms, reset_ms))
        return tuple(found)

    def use(self, hold: Hold, *, less: Vector, more: Vector, running: int) -> None:
        """An exchange uses so much less, and so much more; `running` is 1 when it begins, -1 when
        it ends, else 0."""
        for key in dict.fromkeys(_key(hold.tenant, cap) for cap in hold.caps):
            self._add(key, less=less, more=more, running=running)

    def leave(self, hold: Hold, vector: Vector) -> None:
        """Redis has so much of what is used: it counts until the next numbers, which show it."""
        if vector == NOTHING:
            return
        for key in dict.fromkeys(_key(hold.tenant, cap) for cap in hold.caps):
            # the newest last: it is the oldest that goes
            self._unseen[key] = plus(self._unseen.pop(key, NOTHING), vector)
        while len(self._unseen) > UNSEEN_MAX:
            oldest = next(iter(self._unseen))
            self._add(oldest, less=self._unseen.pop(oldest), more=NOTHING, running=0)

    def _add(self, key: _Key, *, less: Vector, more: Vector, running: int) -> None:
        used, count = self._used.get(key, (NOTHING, 0))
        now = (plus(minus(used, less), more), count + running)
        if now == (NOTHING, 0):
            self._used.pop(key, None)
        else:
            self._used[key] = now

    def _known(self, tenant: str, cap: Cap) -> tuple[Vector, Vector] | None:
        """Spent and held when Redis spoke of it last."""
        key = _key(tenant, cap)
        if cap.scope.kind in _ROAMING:
            state = self._roaming.get(key)
            return (state.spent, state.held) if state is not None else (NOTHING, NOTHING)
        state = self._seen.get(tenant, {}).get(key)
        return None if state is None else (state.spent, state.held)

    def _stage(
        self, hold: Hold, known: Sequence[tuple[Vector, Vector]], stairs: Stairs | None
    ) -> int:
        if stairs is None:
            return 0
        looks = [
            Look(cap, spent, plus(held, self._used.get(_key(hold.tenant, cap), (NOTHING, 0))[0]))
            for cap, (spent, held) in zip(hold.caps, known, strict=True)
        ]
        return climb(looks, stairs, Kept(), 0).level

    def _slice(self, tenant: str, cap: Cap, known: tuple[Vector, Vector], *, grows: bool) -> Look:
        """The cap cut down to this process' share of what is left, and what it has used of that."""
        spent, held = known
        limit, policy = cap.limit, self.policy

        def share(bound: int | None, taken: int) -> int | None:
            if bound is None:
                return None
            return max(0, bound - taken) * policy.share_ppm // PPM // policy.processes

        at_once = None if limit.concurrent is None else limit.concurrent // policy.processes
        cut = Limit(
            share(limit.nano, spent.nano + held.nano),
            share(limit.tokens, spent.tokens + held.tokens),
            None if grows else share(limit.requests, spent.requests + held.requests),
            None if grows else at_once,
        )
        used, running = self._used.get(_key(tenant, cap), (NOTHING, 0))
        return Look(Cap(cap.scope, cap.window, cut, cap.mode), used, NOTHING, running)


@dataclass(slots=True)
class LocalExchange:
    """An exchange admitted or grown here; ended means that its true amounts wait in the spool."""

    hold: Hold
    slices: Slices
    candidate: Candidate
    asked: Mapping[str, Any]
    """What else `reserve` was given, to place the hold in Redis later."""
    was_asked: bool
    """Whether Redis may have placed the hold all the same: its answer never came."""
    base: Vector | None = None
    """What Redis holds of it, where it was admitted there and has grown here."""
    whole: Vector = NOTHING
    """What it comes to now."""
    vector: Vector = NOTHING
    """What of that it uses of the slices."""
    runs: bool = False
    is_ended: bool = False

    def use(self, whole: Vector, *, runs: bool = True) -> None:
        """It comes to so much now."""
        vector = whole if self.base is None else _beyond(whole, self.base)
        runs = runs and self.base is None
        running = int(runs) - int(self.runs)
        self.slices.use(self.hold, less=self.vector, more=vector, running=running)
        self.whole, self.vector, self.runs = whole, vector, runs

    def move(self, candidate: Candidate, vector: Vector) -> None:
        """It goes to this upstream now, and holds so much for it."""
        self.candidate = replace(candidate, vector=vector, elastic=None)
        if candidate.facts:
            self.asked = {**self.asked, "facts": candidate.facts}

    def choose(self, candidate: Candidate) -> Choice | None:
        """What it would hold with this candidate, if the slices have room for that."""
        if self.base is None:
            return self.slices.choose(self.hold, [candidate], None)
        missing = _missing(candidate, self.base)
        found = self.slices.choose(self.hold, [missing], None, grows=True)
        if found is None:
            return None
        whole = plus(self.base, found.vector)
        return Choice(found.index, whole, is_shrunk=True, stage=found.stage)

    def leave(self) -> None:
        """Redis has it: what it uses counts until the caps' next numbers, which show it."""
        self.slices.use(self.hold, less=NOTHING, more=NOTHING, running=-int(self.runs))
        self.slices.leave(self.hold, self.vector)
        self.whole, self.vector, self.runs = NOTHING, NOTHING, False


def _beyond(whole: Vector, base: Vector) -> Vector:
    """What of it is not in the base."""
    return Vector(max(0, whole.nano - base.nano), max(0, whole.tokens - base.tokens), 0)


def _missing(candidate: Candidate, base: Vector) -> Candidate:
    """What it asks for beyond the base. It may shrink where all of that is output at its rate: of
    what moves to a dearer upstream, the output held so far has become dearer, too."""
    vector, part = _beyond(candidate.vector, base), candidate.elastic
    if part is not None and vector.nano > hold_nano(vector.tokens, part.rate_pico):
        part = None
    if part is not None:
        least = max(0, part.base.tokens + part.tokens_min - base.tokens)
        part = Elastic(Vector(), part.rate_pico, least)
    return Candidate(candidate.upstream, vector, elastic=part)


def _key(tenant: str, cap: Cap) -> _Key:
    scope = cap.scope
    return tenant, scope.kind, scope.id, cap.window.label
