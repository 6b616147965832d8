"""What the model of the caps keeps: per scope its windows and holds, per exchange a record.

A scope knows the amount and the expiry of each hold and drops by itself what has lapsed, whatever
other scopes a hold has; the record says what became of the exchange. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from metering.caps import Cap, Scope, Vector
from metering.recovery import Recovery
from metering.window import NOTHING, SlidingWindow, minus, plus

SWEEP = 64
"""Lapsed holds dropped per scope and call: bounds what one call costs."""


@dataclass(slots=True)
class ScopeState:
    """Windows and holds of one scope of one tenant."""

    windows: dict[str, SlidingWindow] = field(default_factory=dict)
    held: Vector = NOTHING
    holds: dict[str, Vector] = field(default_factory=dict)
    expiries_ms: dict[str, int] = field(default_factory=dict)
    told: dict[str, int] = field(default_factory=dict)
    """Per window the highest mark (nano-USD) that was told and is not armed again."""
    refused: dict[str, int] = field(default_factory=dict)
    """Per window the spend (nano-USD) under which a refusal is news again."""

    def place(self, exchange_id: str, vector: Vector, expires_ms: int) -> None:
        """Hold; what the exchange held before is replaced."""
        self.give_back(exchange_id)
        self.holds[exchange_id] = vector
        self.expiries_ms[exchange_id] = expires_ms
        self.held = plus(self.held, vector)

    def give_back(self, exchange_id: str) -> bool:
        """End a hold; False when there is none."""
        vector = self.holds.pop(exchange_id, None)
        self.expiries_ms.pop(exchange_id, None)
        if vector is not None:
            self.held = minus(self.held, vector)
        return vector is not None

    def lapsed(self, now_ms: int) -> list[str]:
        """The holds to drop in one call, those that ended first before the others."""
        due = sorted((ms, key) for key, ms in self.expiries_ms.items() if ms <= now_ms)
        return [key for _, key in due[:SWEEP]]


@dataclass(frozen=True, slots=True)
class HoldRecord:
    """What is known of an exchange between reserve and its end."""

    state: str
    upstream: str
    vector: Vector
    owner: str
    index: int
    stage: int
    is_shrunk: bool
    shadowed: tuple[int, ...]
    ttl_ms: int
    expires_ms: int
    caps: tuple[Cap, ...]
    facts: bytes = b""
    checkpoint: bytes = b""
    recovery: Recovery | None = None
    buckets: tuple[tuple[Scope, str, int], ...] = ()
    """Where the recovery was added: scope, label of the window, bucket."""
