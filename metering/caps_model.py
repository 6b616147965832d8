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
    Commit,
    CommitResult,
    Denial,
    DenialReason,
    Hold,
    HoldEndedError,
    Renewal,
    Reservation,
    Scope,
    Stairs,
    Vector,
)
from metering.caps_book import CapsBook, counted, scopes_of
from metering.caps_choice import Look, Refusal, choose, judge, shadowed
from metering.hold_records import HoldRecord, ScopeState
from metering.money import AMOUNT_NANO_MAX
from metering.recovery import LostHold, Recovery


def require_amounts(*vectors: Vector) -> None:
    """ValueError unless every amount is within 0 .. 2^53-1."""
    for vector in vectors:
        for amount in (vector.nano, vector.tokens, vector.requests):
            if not 0 <= amount <= AMOUNT_NANO_MAX:
                raise ValueError(f"{amount} is not within 0 .. 2^53-1")


def require_candidates(*candidates: Candidate) -> None:
    """The same for all that a candidate could hold."""
    for candidate in candidates:
        require_amounts(candidate.vector)
        if candidate.elastic is not None:
            base, tokens_min = candidate.elastic.base, candidate.elastic.tokens_min
            require_amounts(base, Vector(candidate.elastic.rate_pico, tokens_min))


@dataclass(slots=True)
class MemoryCapsModel:
    """The rules, over dictionaries."""

    is_rebuilt: bool = True
    book: CapsBook = field(default_factory=CapsBook)
    records: dict[tuple[str, str], HoldRecord] = field(default_factory=dict)
    ended: dict[tuple[str, str], str] = field(default_factory=dict)
    events: list[bytes] = field(default_factory=list)

    @property
    def flags(self) -> dict[str, set[str]]:
        """Per tenant: paused, killed, paused:<kind>/<id>, killed:<kind>/<id>."""
        return self.book.flags

    @property
    def scopes(self) -> dict[tuple[str, Scope], ScopeState]:
        """Windows and holds of each scope of each tenant."""
        return self.book.scopes

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
        runs: bool = False,
    ) -> Reservation | Denial:
        """As `Caps.reserve`."""
        require_candidates(*candidates)
        key = (hold.tenant, hold.exchange_id)
        if not self.is_rebuilt and not runs:
            return Denial(DenialReason.REBUILDING)
        if key in self.ended:
            raise HoldEndedError(f"exchange {hold.exchange_id} has ended")
        self.bring_up(hold, now_ms)
        record = self.records.get(key)
        if record is not None:
            if record.state != "held":
                raise HoldEndedError(f"exchange {hold.exchange_id} is {record.state}")
            return self._reservation(hold, record, now_ms, repeat=True)
        stop = self.book.stop(hold)
        if stop is not None:
            return Denial(stop[0], scope=stop[1])
        looks = self.book.looks(hold)
        level = self.book.stage(hold, looks, stairs, now_ms)
        closed = 0 if stairs is None or stairs.is_shadow else level
        choice = (0, None) if runs else choose(looks, candidates, closed)
        if choice is None:
            denial = self._deny(hold, looks, candidates, (stairs, closed), now_ms)
            denial = replace(denial, stage=level)
            self.book.note_refusal(hold, denial)
            return denial
        index, vector = choice
        chosen = candidates[index]
        record = HoldRecord(
            state="held",
            upstream=chosen.upstream,
            vector=vector or chosen.vector,
            owner=owner,
            index=index,
            stage=level,
            is_shrunk=vector is not None,
            shadowed=shadowed(looks, vector or chosen.vector),
            ttl_ms=ttl_ms,
            expires_ms=now_ms + ttl_ms,
            caps=hold.caps,
            facts=facts,
        )
        self._place(hold, record)
        self.book.add(hold, Vector(requests=record.vector.requests), now_ms, rates=True)
        return self._reservation(hold, record, now_ms)

    def swap(self, hold: Hold, candidate: Candidate, *, now_ms: int) -> Reservation | Denial:
        """As `Caps.swap`; a lapsed hold is placed anew, a recovered one has ended."""
        require_candidates(candidate)
        key = (hold.tenant, hold.exchange_id)
        if not self.is_rebuilt:
            return Denial(DenialReason.REBUILDING)
        self.bring_up(hold, now_ms)
        record = self.records.get(key)
        if record is None or record.state == "recovered":
            raise HoldEndedError(f"exchange {hold.exchange_id} holds nothing")
        stop = self.book.stop(hold)
        if stop is not None:
            return Denial(stop[0], scope=stop[1])
        looks = self.book.looks(hold, has_begun=True)
        choice = choose(looks, [candidate], 0)
        if choice is None:
            return self._deny(hold, looks, [candidate], (None, 0), now_ms)
        vector = choice[1] or candidate.vector
        if record.state != "held":
            record = replace(record, state="held", expires_ms=now_ms + record.ttl_ms)
        record = replace(record, upstream=candidate.upstream, vector=vector)
        record = replace(record, is_shrunk=choice[1] is not None)
        record = replace(record, facts=candidate.facts or record.facts)
        self._place(hold, record)
        return Reservation(
            hold.exchange_id,
            0,
            self.book.states(hold, now_ms),
            vector=choice[1],
            shadowed=shadowed(looks, vector),
        )

    def commit(self, hold: Hold, actual: Vector, events: Sequence[bytes], *, now_ms: int) -> Commit:
        """As `Caps.commit`."""
        require_amounts(actual)
        key = (hold.tenant, hold.exchange_id)
        if self.ended.get(key, "released") != "released":
            return Commit(CommitResult.REPEAT)
        record = self.records.pop(key, None)
        in_time = [
            self.book.scope(hold, scope).give_back(hold.exchange_id)
            for scope in scopes_of(hold.caps)
        ]
        self.bring_up(hold, now_ms)
        was_recovered = self._supersede(hold, record)
        self.book.commit_spend(hold, actual, was_held=record is not None, now_ms=now_ms)
        self.events.extend(events)
        result = CommitResult.COMMITTED if in_time[0] else CommitResult.LATE
        if was_recovered:
            result = CommitResult.CORRECTED
        self.ended[key] = result
        return Commit(result, self.book.states(hold, now_ms))

    def release(self, hold: Hold, *, now_ms: int) -> None:
        """As `Caps.release`."""
        key = (hold.tenant, hold.exchange_id)
        record = self.records.pop(key, None)
        for scope in scopes_of(hold.caps):
            self.book.scope(hold, scope).give_back(hold.exchange_id)
        if record is not None and record.state == "recovered":
            self.book.advance(hold, now_ms)
            self._supersede(hold, record)
        self.ended.setdefault(key, "released")

    def renew(self, hold: Hold, *, ttl_ms: int, checkpoint: bytes | None, now_ms: int) -> Renewal:
        """As `Caps.renew`."""
        stop, scope = self.book.stop(hold) or (None, None)
        return Renewal(self._renew(hold, ttl_ms, checkpoint, now_ms), stop, scope)

    def _renew(self, hold: Hold, ttl_ms: int, checkpoint: bytes | None, now_ms: int) -> bool:
        key = (hold.tenant, hold.exchange_id)
        record = self.records.get(key)
        scopes = [self.book.scope(hold, scope) for scope in scopes_of(hold.caps)]
        if record is None or record.state != "held":
            return False
        if any(hold.exchange_id not in scope.holds for scope in scopes):
            return False
        expires_ms = max(record.expires_ms, now_ms + ttl_ms)
        for scope in scopes:
            scope.expiries_ms[hold.exchange_id] = expires_ms
        noted = record.checkpoint if checkpoint is None else checkpoint
        self.records[key] = replace(record, expires_ms=expires_ms, checkpoint=noted)
        return True

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
        for scope in scopes_of(hold.caps):
            self.book.scope(hold, scope).give_back(hold.exchange_id)
        buckets = self.book.add(hold, made.actual, now_ms, rates=False)
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
            for scope in scopes_of(hold.caps)
            for cap in hold.caps
            if cap.scope == scope
        }
        for scope, label, bucket in record.buckets:
            if (scope, label) in wanted:
                window = self.book.scope(hold, scope).windows[label]
                window.take_back(bucket, counted(window.window, record.recovery.actual))
        self.events.extend(record.recovery.reversals)
        return True

    def bring_up(self, hold: Hold, now_ms: int) -> None:
        """Drop what has lapsed, and what has left the windows."""
        for number, scope in enumerate(scopes_of(hold.caps)):
            state = self.book.scope(hold, scope)
            for exchange_id in state.lapsed(now_ms):
                state.give_back(exchange_id)
                key = (hold.tenant, exchange_id)
                if number == 0 and key in self.records:
                    self.records[key] = replace(self.records[key], state="lapsed")
        self.book.advance(hold, now_ms)

    def _deny(
        self,
        hold: Hold,
        looks: list[Look],
        candidates: Sequence[Candidate],
        closed: tuple[Stairs | None, int],
        now_ms: int,
    ) -> Denial:
        def frees_at_ms(refusal: Refusal) -> int:
            cap = hold.caps[refusal.place]
            window = self.book.window(hold, cap.scope, cap)
            return window.frees_at_ms(refusal.dimension, refusal.need)

        worst, at_ms = judge(looks, candidates, *closed, frees_at_ms)
        if worst.place < 0:
            return Denial(worst.reason)
        state = self.book.states(hold, now_ms)[worst.place]
        return Denial(worst.reason, replace(state, reset_ms=at_ms or None), worst.dimension)

    def _place(self, hold: Hold, record: HoldRecord) -> None:
        for scope in scopes_of(hold.caps):
            self.book.scope(hold, scope).place(hold.exchange_id, record.vector, record.expires_ms)
        self.records[hold.tenant, hold.exchange_id] = record

    def _reservation(
        self, hold: Hold, record: HoldRecord, now_ms: int, *, repeat: bool = False
    ) -> Reservation:
        states = self.book.states(hold, now_ms)
        return Reservation(
            hold.exchange_id,
            record.index,
            states,
            record.stage,
            vector=record.vector if record.is_shrunk else None,
            shadowed=record.shadowed,
            repeat=repeat,
        )
