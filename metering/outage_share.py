"""The slices of `OutageCaps`: what Redis said last of a tenant's caps, and what was used since.

What an exchange has used counts until Redis says anew where its caps stand. That it has ended in
Redis is not enough: by the old numbers the same slice would be there to be spent once more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from metering.caps import Candidate, Cap, CapState, Hold, Vector
from metering.money import PPM
from metering.window import NOTHING, minus, plus


@dataclass(slots=True)
class KnownTenant:
    """What Redis said last of a tenant's caps, and what was admitted here since."""

    states: dict[Cap, CapState] = field(default_factory=dict)
    used: dict[Cap, Vector] = field(default_factory=dict)
    unseen: dict[Cap, Vector] = field(default_factory=dict)
    """The part of `used` that Redis has by now, though `states` does not show it yet."""

    def note(self, states: Sequence[CapState]) -> None:
        """Redis has said this just now, so it shows all that it has."""
        for state in states:
            cap = state.cap
            self.states[cap] = state
            if cap in self.unseen:
                self.used[cap] = minus(self.used[cap], self.unseen.pop(cap))

    def fits(self, hold: Hold, wanted: Vector, *, share_ppm: int, processes: int) -> bool:
        """Whether one process' slice of every cap has room for this; each must be known."""
        for cap in hold.caps:
            state, used = self.states[cap], self.used.get(cap, NOTHING)
            for name in ("nano", "tokens", "requests"):
                limit = getattr(cap.limit, name)
                if limit is None:
                    continue
                left = limit - getattr(state.spent, name) - getattr(state.held, name)
                share = max(0, left) * share_ppm // PPM // processes
                if getattr(used, name) + getattr(wanted, name) > share:
                    return False
        return True


@dataclass(slots=True)
class LocalExchange:
    """An exchange admitted here; ended means that its true amounts wait in the spool."""

    hold: Hold
    tenant: KnownTenant
    candidate: Candidate
    asked: Mapping[str, Any]
    """What else `reserve` was given, to place the hold in Redis later."""
    was_asked: bool
    """Whether Redis may have placed the hold all the same: its answer never came."""
    vector: Vector = NOTHING
    """What it uses of the slices now."""
    is_ended: bool = False

    def use(self, vector: Vector) -> None:
        """It uses so much of the slices now."""
        used = self.tenant.used
        for cap in self.hold.caps:
            used[cap] = plus(minus(used.get(cap, NOTHING), self.vector), vector)
        self.vector = vector

    def leave(self) -> None:
        """Redis has it: what it uses counts until the caps' next numbers, which show it."""
        if self.vector != NOTHING:
            unseen = self.tenant.unseen
            for cap in self.hold.caps:
                unseen[cap] = plus(unseen.get(cap, NOTHING), self.vector)
        self.vector = NOTHING
