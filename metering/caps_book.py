"""What the model of the caps keeps beside its records: scopes and their windows, flags, stages.

The amounts of a scope are per tenant; two caps over one window share its counters. Pure: the time
is an argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from metering.cap_notes import (
    REARM_PPM,
    Mark,
    crossed,
    marks_of,
    note,
    rearmed,
    scope_name,
    whole,
)
from metering.caps import (
    AnyWindow,
    Cap,
    CapState,
    Denial,
    DenialReason,
    Hold,
    Scope,
    ScopeKind,
    Stairs,
    Vector,
)
from metering.caps_choice import Kept, Look, climb, is_remembered, share_nano
from metering.hold_records import ScopeState
from metering.window import NOTHING, SlidingWindow, is_rate, minus


def scopes_of(caps: Sequence[Cap]) -> tuple[Scope, ...]:
    """Every scope once, the tenant first even when nothing caps it: it knows all holds."""
    return tuple(dict.fromkeys((Scope(ScopeKind.TENANT), *(cap.scope for cap in caps))))


@dataclass(slots=True)
class CapsBook:
    """`flags` per tenant: paused, killed, paused:<kind>/<id>, ...; `stage_min` is a floor."""

    flags: dict[str, set[str]] = field(default_factory=dict)
    stages: dict[tuple[str, str], Kept] = field(default_factory=dict)
    stage_min: dict[str, int] = field(default_factory=dict)
    notes: list[dict[str, Any]] = field(default_factory=list)
    scopes: dict[tuple[str, Scope], ScopeState] = field(default_factory=dict)

    def advance(self, hold: Hold, now_ms: int) -> None:
        """Drop what has left the windows."""
        for scope in scopes_of(hold.caps):
            for cap in windows_of(hold, scope):
                self.window(hold, scope, cap).advance(now_ms)

    def add(
        self, hold: Hold, actual: Vector, now_ms: int, *, rates: bool
    ) -> list[tuple[Scope, str, int]]:
        """Add to the windows, where to: to the rates alone what has begun, or to all of them what
        an exchange that began before has used."""
        buckets = []
        for scope in scopes_of(hold.caps):
            for cap in windows_of(hold, scope):
                amount = actual if rates else counted(cap.window, actual)
                if is_rate(cap.window) or not rates:
                    bucket = self.window(hold, scope, cap).add(now_ms, amount)
                    if bucket is not None:
                        buckets.append((scope, cap.window.label, bucket))
        return buckets

    def commit_spend(self, hold: Hold, actual: Vector, *, was_held: bool, now_ms: int) -> None:
        """Add what was used, and tell the marks that this crosses."""
        for scope in scopes_of(hold.caps):
            state = self.scope(hold, scope)
            for cap in windows_of(hold, scope):
                window, label = self.window(hold, scope, cap), cap.window.label
                marks = marks_of(hold.caps, scope, cap.window)
                if window.spent.nano < state.refused.get(label, 0):
                    del state.refused[label]
                told = rearmed(state.told.get(label, 0), marks, window.spent.nano) if marks else 0
                window.add(now_ms, counted(cap.window, actual) if was_held else actual)
                for mark in crossed(told, marks, window.spent.nano):
                    told = mark.at_nano
                    self._tell("cap_mark", mark, hold, CapState(cap, window.spent, NOTHING, now_ms))
                if marks:
                    state.told[label] = told

    def note_refusal(self, hold: Hold, denial: Denial) -> None:
        """Tell that a cap has begun to refuse for what is spent."""
        state = denial.state
        if state is None or denial.reason is not DenialReason.SPENT or denial.dimension != "nano":
            return
        label, limit = state.cap.window.label, state.cap.limit.nano or 0
        refused = self.scope(hold, state.cap.scope).refused
        full = share_nano(limit, REARM_PPM)
        is_full = state.spent.nano >= full
        if label not in refused or (is_full and refused[label] < share_nano(full, REARM_PPM)):
            refused[label] = share_nano(min(state.spent.nano, limit), REARM_PPM)
            self._tell("cap_refuses", whole(limit), hold, state)

    def _tell(self, kind: str, mark: Mark, hold: Hold, state: CapState) -> None:
        self.notes.append(note(kind, mark, hold.tenant, state))

    def looks(self, hold: Hold, *, has_begun: bool = False) -> list[Look]:
        """The caps as they stand; what this exchange holds already is not in its own way."""
        looks = []
        for cap in hold.caps:
            scope, window = self.scope(hold, cap.scope), self.window(hold, cap.scope, cap)
            others = minus(scope.held, scope.holds.get(hold.exchange_id, NOTHING))
            running = len(scope.holds) - (hold.exchange_id in scope.holds)
            begun = has_begun and is_rate(cap.window)
            looks.append(Look(cap, window.spent, counted(cap.window, others), running, begun))
        return looks

    def stage(self, hold: Hold, looks: list[Look], stairs: Stairs | None, now_ms: int) -> int:
        """The stage in force, and remembered where it can last."""
        if stairs is None:
            return 0
        key = (hold.tenant, stairs.name)
        now = climb(looks, stairs, self.stages.get(key, Kept()), now_ms)
        if is_remembered(stairs):
            self.stages[key] = now
        return max(now.level, min(self.stage_min.get(hold.tenant, 0), len(stairs.stages)))

    def stop(self, hold: Hold) -> tuple[DenialReason, Scope | None] | None:
        """The flag that stands in the way: the tenant's first, then in the order of the stops."""
        flags = self.flags.get(hold.tenant, set())
        for scope in (None, *hold.stops) if flags else ():
            tail = "" if scope is None else f":{scope_name(scope)}"
            for reason in (DenialReason.PAUSED, DenialReason.KILLED):
                if reason + tail in flags:
                    return reason, scope
        return None

    def states(self, hold: Hold, now_ms: int) -> tuple[CapState, ...]:
        """One per cap, as it stands now."""
        states = []
        for cap in hold.caps:
            window = self.window(hold, cap.scope, cap)
            held = counted(cap.window, self.scope(hold, cap.scope).held)
            states.append(CapState(cap, window.spent, held, now_ms, window.reset_ms()))
        return tuple(states)

    def scope(self, hold: Hold, scope: Scope) -> ScopeState:
        """The windows and holds of a scope, empty at first."""
        return self.scopes.setdefault((hold.tenant, scope), ScopeState())

    def window(self, hold: Hold, scope: Scope, cap: Cap) -> SlidingWindow:
        """The window of a cap in its scope."""
        windows = self.scope(hold, scope).windows
        return windows.setdefault(cap.window.label, SlidingWindow(cap.window))


def windows_of(hold: Hold, scope: Scope) -> list[Cap]:
    """One cap per window of the scope: two caps on one window share its counters."""
    return list({cap.window.label: cap for cap in hold.caps if cap.scope == scope}.values())


def counted(window: AnyWindow, vector: Vector) -> Vector:
    """What of a hold, or of its use, counts in this window: in a rate its requests have begun."""
    return replace(vector, requests=0) if is_rate(window) else vector
