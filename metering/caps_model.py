"""Admission and settlement of holds as specification: `MemoryCapsModel`, the rules without Redis.

The Lua scripts must answer as this does and leave the same amounts behind; a property test feeds
both the same operations. Pure and synchronous: the time is an argument. Wrapped in async methods
(`metering.memory_caps`) it is the fake of every test that needs caps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from metering.caps import (
    Candidate,
    Cap,
    CapState,
    Commit,
    CommitResult,
    Denial,
    DenialReason,
    Hold,
    HoldEndedError,
    Renewal,
    Reservation,
    Scope,
    ScopeKind,
    Stairs,
    Vector,
    Window,
)
from metering.hold_records import HoldRecord, ScopeState
from metering.money import AMOUNT_NANO_MAX, PPM, divide_up
from metering.recovery import LostHold, Recovery
from metering.window import NOTHING, SlidingWindow, minus

_DIMENSIONS = ("nano", "tokens", "requests")
_RANK = {DenialReason.HELD: 1, DenialReason.SPENT: 2, DenialReason.NEVER: 3}


def threshold_nano(candidate: Candidate, cap: Cap, stairs: Stairs | None) -> int | None:
    """Spent + held at which this candidate is passed over under this cap; None means never."""
    higher = stairs.stages[candidate.stage :] if stairs is not None else ()
    if not higher or cap.limit.nano is None:
        return None
    return divide_up(min(stage.enter_ppm for stage in higher) * cap.limit.nano, PPM)


def require_amounts(*vectors: Vector) -> None:
    """ValueError unless every amount is within 0 .. 2^53-1."""
    for vector in vectors:
        for amount in (vector.nano, vector.tokens, vector.requests):
            if not 0 <= amount <= AMOUNT_NANO_MAX:
                raise ValueError(f"{amount} is not within 0 .. 2^53-1")


def scopes_of(caps: Sequence[Cap]) -> tuple[Scope, ...]:
    """Every scope once, the tenant first even when nothing caps it: it knows all holds."""
    return tuple(dict.fromkeys((Scope(ScopeKind.TENANT), *(cap.scope for cap in caps))))


@dataclass(slots=True)
class MemoryCapsModel:
    """The rules, over dictionaries. `flags` per tenant: paused, killed, killed:<kind>/<id>."""

    is_rebuilt: bool = True
    flags: dict[str, set[str]] = field(default_factory=dict)
    scopes: dict[tuple[str, Scope], ScopeState] = field(default_factory=dict)
    records: dict[tuple[str, str], HoldRecord] = field(default_factory=dict)
    ended: dict[tuple[str, str], str] = field(default_factory=dict)
    events: list[bytes] = field(default_factory=list)

    def reserve(
        self,
        hold: Hold,
        candidates: Sequence[Candidate],
        *,
        owner: str,
        ttl_ms: int,
        now_ms: int,
        facts: bytes = b"",
        stairs: Stairs | None = None,
    ) -> Reservation | Denial:
        """As `Caps.reserve`."""
        require_amounts(*(candidate.vector for candidate in candidates))
        key = (hold.tenant, hold.exchange_id)
        if not self.is_rebuilt:
            return Denial(DenialReason.REBUILDING)
        if key in self.ended:
            raise HoldEndedError(f"exchange {hold.exchange_id} has ended")
        self._bring_up(hold, now_ms)
        record = self.records.get(key)
        if record is not None:
            if record.state != "held":
                raise HoldEndedError(f"exchange {hold.exchange_id} is {record.state}")
            return self._reservation(hold, record, now_ms, repeat=True)
        choice = self._choose(hold, candidates, stairs, now_ms)
        if isinstance(choice, Denial):
            return choice
        index, passed = choice
        chosen = candidates[index]
        record = HoldRecord(
            state="held",
            upstream=chosen.upstream,
            vector=chosen.vector,
            owner=owner,
            index=index,
            stage=int(passed),
            ttl_ms=ttl_ms,
            expires_ms=now_ms + ttl_ms,
            caps=hold.caps,
            facts=facts,
        )
        self._place(hold, record)
        return self._reservation(hold, record, now_ms)

    def swap(self, hold: Hold, candidate: Candidate, *, now_ms: int) -> Reservation | Denial:
        """As `Caps.swap`; a lapsed hold is placed anew, a recovered one has ended."""
        require_amounts(candidate.vector)
        key = (hold.tenant, hold.exchange_id)
        if not self.is_rebuilt:
            return Denial(DenialReason.REBUILDING)
        self._bring_up(hold, now_ms)
        record = self.records.get(key)
        if record is None or record.state == "recovered":
            raise HoldEndedError(f"exchange {hold.exchange_id} holds nothing")
        choice = self._choose(hold, [candidate], None, now_ms)
        if isinstance(choice, Denial):
            return choice
        if record.state != "held":
            record = replace(record, state="held", expires_ms=now_ms + record.ttl_ms)
        record = replace(record, upstream=candidate.upstream, vector=candidate.vector)
        self._place(hold, record)
        return Reservation(hold.exchange_id, 0, self._states(hold, now_ms))

    def commit(self, hold: Hold, actual: Vector, events: Sequence[bytes], *, now_ms: int) -> Commit:
        """As `Caps.commit`."""
        require_amounts(actual)
        key = (hold.tenant, hold.exchange_id)
        if self.ended.get(key, "released") != "released":
            return Commit(CommitResult.REPEAT)
        record = self.records.pop(key, None)
        in_time = [self._scope(hold, scope).give_back(hold.exchange_id) for scope in _scopes(hold)]
        self._bring_up(hold, now_ms)
        was_recovered = self._supersede(hold, record)
        for scope in _scopes(hold):
            for window in _windows(hold, scope):
                self._window(hold, scope, window).add(now_ms, actual)
        self.events.extend(events)
        result = CommitResult.COMMITTED if in_time[0] else CommitResult.LATE
        if was_recovered:
            result = CommitResult.CORRECTED
        self.ended[key] = result
        return Commit(result, self._states(hold, now_ms))

    def release(self, hold: Hold, *, now_ms: int) -> None:
        """As `Caps.release`."""
        key = (hold.tenant, hold.exchange_id)
        record = self.records.pop(key, None)
        for scope in _scopes(hold):
            self._scope(hold, scope).give_back(hold.exchange_id)
        if record is not None and record.state == "recovered":
            self._advance(hold, now_ms)
            self._supersede(hold, record)
        self.ended.setdefault(key, "released")

    def renew(self, hold: Hold, *, ttl_ms: int, checkpoint: bytes | None, now_ms: int) -> Renewal:
        """As `Caps.renew`."""
        key = (hold.tenant, hold.exchange_id)
        record = self.records.get(key)
        scopes = [self._scope(hold, scope) for scope in _scopes(hold)]
        if record is None or record.state != "held":
            return Renewal(is_held=False)
        if any(hold.exchange_id not in scope.holds for scope in scopes):
            return Renewal(is_held=False)
        expires_ms = max(record.expires_ms, now_ms + ttl_ms)
        for scope in scopes:
            scope.expiries_ms[hold.exchange_id] = expires_ms
        noted = record.checkpoint if checkpoint is None else checkpoint
        self.records[key] = replace(record, expires_ms=expires_ms, checkpoint=noted)
        return Renewal(is_held=True)

    def lost(self, *, grace_ms: int, now_ms: int) -> list[LostHold]:
        """The holds to recover: those whose time has been over for `grace_ms`, oldest first."""
        due = [
            LostHold(
                hold=Hold(tenant, exchange_id, record.caps),
                owner=record.owner,
                upstream=record.upstream,
                expires_ms=record.expires_ms,
                facts=record.facts,
                checkpoint=record.checkpoint,
            )
            for (tenant, exchange_id), record in self.records.items()
            if record.state != "recovered" and record.expires_ms + grace_ms <= now_ms
        ]
        return sorted(due, key=lambda lost: (lost.expires_ms, lost.hold.exchange_id))

    def recover(self, lost: LostHold, made: Recovery, *, grace_ms: int, now_ms: int) -> bool:
        """Record what a dead process has used; False when it is not as `lost` says any more."""
        require_amounts(made.actual)
        hold = lost.hold
        key = (hold.tenant, hold.exchange_id)
        record = self.records.get(key)
        if record is None or record.state == "recovered":
            return False
        if record.expires_ms != lost.expires_ms or now_ms < lost.expires_ms + grace_ms:
            return False
        buckets: list[tuple[Scope, str, int]] = []
        for scope in _scopes(hold):
            self._scope(hold, scope).give_back(hold.exchange_id)
            for cap in _windows(hold, scope):
                bucket = self._window(hold, scope, cap).add(now_ms, made.actual)
                if bucket is not None:
                    buckets.append((scope, cap.window.label, bucket))
        self.events.extend(made.events)
        self.records[key] = replace(
            record,
            state="recovered",
            facts=b"",
            checkpoint=b"",
            recovery=made,
            buckets=tuple(buckets),
        )
        return True

    def _supersede(self, hold: Hold, record: HoldRecord | None) -> bool:
        """Undo a recovery, in the windows that are asked about; whether there was one."""
        if record is None or record.recovery is None:
            return False
        wanted = {
            (scope, cap.window.label)
            for scope in _scopes(hold)
            for cap in hold.caps
            if cap.scope == scope
        }
        for scope, label, bucket in record.buckets:
            if (scope, label) in wanted:
                window = self._scope(hold, scope).windows[label]
                window.take_back(bucket, record.recovery.actual)
        self.events.extend(record.recovery.reversals)
        return True

    def _advance(self, hold: Hold, now_ms: int) -> None:
        for scope in _scopes(hold):
            for cap in _windows(hold, scope):
                self._window(hold, scope, cap).advance(now_ms)

    def _bring_up(self, hold: Hold, now_ms: int) -> None:
        for number, scope in enumerate(_scopes(hold)):
            state = self._scope(hold, scope)
            for exchange_id in state.lapsed(now_ms):
                state.give_back(exchange_id)
                key = (hold.tenant, exchange_id)
                if number == 0 and key in self.records:
                    self.records[key] = replace(self.records[key], state="lapsed")
        self._advance(hold, now_ms)

    def _choose(
        self,
        hold: Hold,
        candidates: Sequence[Candidate],
        stairs: Stairs | None,
        now_ms: int,
    ) -> tuple[int, bool] | Denial:
        flag = self._stop_flag(hold)
        if flag is not None:
            return Denial(flag)
        passed = False
        for index, candidate in enumerate(candidates):
            refusals = self._refusals(hold, candidate, stairs)
            if not refusals:
                return index, passed
            passed = passed or any(refusal.by_threshold for refusal in refusals)
        cheapest = min(candidates, key=lambda candidate: candidate.vector.nano)
        worst = max(
            self._refusals(hold, cheapest, stairs),
            key=lambda refusal: (refusal.rank, refusal.at_ms),
        )
        state = self._states(hold, now_ms)[worst.cap]
        state = replace(state, reset_ms=worst.at_ms or None)
        return Denial(worst.reason, state, worst.dimension)

    def _stop_flag(self, hold: Hold) -> DenialReason | None:
        flags = self.flags.get(hold.tenant, set())
        if "paused" in flags:
            return DenialReason.PAUSED
        names = {f"killed:{scope.kind}/{scope.id}" for scope in _scopes(hold)[1:]}
        return DenialReason.KILLED if flags & (names | {"killed"}) else None

    def _refusals(self, hold: Hold, candidate: Candidate, stairs: Stairs | None) -> list[_Refusal]:
        found: list[_Refusal] = []
        for number, cap in enumerate(hold.caps):
            scope = self._scope(hold, cap.scope)
            window = self._window(hold, cap.scope, cap)
            others = minus(scope.held, scope.holds.get(hold.exchange_id, NOTHING))
            checks = [
                (dimension, getattr(candidate.vector, dimension), limit, False)
                for dimension in _DIMENSIONS
                if (limit := getattr(cap.limit, dimension)) is not None
            ]
            threshold = threshold_nano(candidate, cap, stairs)
            if threshold is not None:
                checks.append(("nano", 0, threshold - 1, True))
            for dimension, more, limit, by_threshold in checks:
                held = getattr(others, dimension)
                reason, at_ms = _refusal(window, dimension, held, more=more, limit=limit)
                if reason is not None:
                    found.append(_Refusal(reason, number, dimension, at_ms, by_threshold))
        return found

    def _place(self, hold: Hold, record: HoldRecord) -> None:
        for scope in _scopes(hold):
            self._scope(hold, scope).place(hold.exchange_id, record.vector, record.expires_ms)
        self.records[hold.tenant, hold.exchange_id] = record

    def _reservation(
        self, hold: Hold, record: HoldRecord, now_ms: int, *, repeat: bool = False
    ) -> Reservation:
        states = self._states(hold, now_ms)
        return Reservation(hold.exchange_id, record.index, states, record.stage, repeat=repeat)

    def _states(self, hold: Hold, now_ms: int) -> tuple[CapState, ...]:
        states = []
        for cap in hold.caps:
            window = self._window(hold, cap.scope, cap)
            held = self._scope(hold, cap.scope).held
            states.append(CapState(cap, window.spent, held, now_ms, window.reset_ms()))
        return tuple(states)

    def _scope(self, hold: Hold, scope: Scope) -> ScopeState:
        return self.scopes.setdefault((hold.tenant, scope), ScopeState())

    def _window(self, hold: Hold, scope: Scope, cap: Cap) -> SlidingWindow:
        windows = self._scope(hold, scope).windows
        assert isinstance(cap.window, Window)
        return windows.setdefault(cap.window.label, SlidingWindow(cap.window))


@dataclass(frozen=True, slots=True)
class _Refusal:
    reason: DenialReason
    cap: int
    dimension: str
    at_ms: int
    by_threshold: bool

    @property
    def rank(self) -> int:
        return _RANK[self.reason]


def _scopes(hold: Hold) -> tuple[Scope, ...]:
    return scopes_of(hold.caps)


def _windows(hold: Hold, scope: Scope) -> list[Cap]:
    """One cap per window of the scope: two caps on one window share its counters."""
    return list({cap.window.label: cap for cap in hold.caps if cap.scope == scope}.values())


def _refusal(
    window: SlidingWindow, dimension: str, held: int, *, more: int, limit: int
) -> tuple[DenialReason | None, int]:
    spent = getattr(window.spent, dimension)
    if more > limit:
        return DenialReason.NEVER, 0
    if spent + more > limit:
        return DenialReason.SPENT, window.frees_at_ms(dimension, spent + more - limit)
    if spent + held + more > limit:
        return DenialReason.HELD, 0
    return None, 0
