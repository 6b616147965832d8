"""What a process remembers for the time without Redis: what it holds there, and who is stopped.

Pure. `metering.outage_caps` fills and asks it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from metering.caps import Candidate, Hold, Scope, Vector

STOPPED_MAX = 100_000
"""Paused and killed scopes that are remembered."""


@dataclass(frozen=True, slots=True)
class KnownHold:
    """What Redis holds of an open exchange, by its last answer."""

    candidate: Candidate
    """With the vector that is held."""
    asked: Mapping[str, Any]
    """What else `reserve` was given."""
    checkpoint: bytes | None = None


@dataclass(slots=True)
class KnownHolds:
    """The open exchanges of this process that Redis holds: as many as are under way."""

    _by_exchange: dict[str, KnownHold] = field(default_factory=dict)

    def find(self, hold: Hold) -> KnownHold | None:
        """What is held there; None of one that Redis did not admit, or that has ended."""
        return self._by_exchange.get(hold.exchange_id)

    def held(
        self, hold: Hold, candidate: Candidate, vector: Vector | None, asked: Mapping[str, Any]
    ) -> None:
        """It was admitted with this candidate; `vector` where less than that is held."""
        kept = {"owner": asked["owner"], "facts": asked.get("facts", b"")}
        self._by_exchange[hold.exchange_id] = KnownHold(_with(candidate, vector), kept)

    def moved(self, hold: Hold, candidate: Candidate, vector: Vector | None) -> None:
        """It holds this instead; what has ended meanwhile stays ended."""
        known = self._by_exchange.get(hold.exchange_id)
        if known is not None:
            moved = replace(known, candidate=_with(candidate, vector))
            self._by_exchange[hold.exchange_id] = moved

    def noted(self, hold: Hold, checkpoint: bytes | None) -> None:
        """This is what it has come to."""
        known = self._by_exchange.get(hold.exchange_id)
        if known is not None and checkpoint is not None:
            self._by_exchange[hold.exchange_id] = replace(known, checkpoint=checkpoint)

    def ended(self, hold: Hold) -> None:
        """It holds nothing any more."""
        self._by_exchange.pop(hold.exchange_id, None)

    def __len__(self) -> int:
        return len(self._by_exchange)


@dataclass(slots=True)
class Stopped:
    """What was paused or killed when Redis was asked last."""

    _scopes: set[tuple[str, Scope | None]] = field(default_factory=set)

    def add(self, tenant: str, scope: Scope | None) -> None:
        """This scope is; None is the tenant itself."""
        if len(self._scopes) < STOPPED_MAX:
            self._scopes.add((tenant, scope))

    def clear(self, hold: Hold) -> None:
        """Nothing is that this exchange runs in."""
        if self._scopes:
            self._scopes -= {(hold.tenant, each) for each in (None, *hold.stops)}

    def stops(self, hold: Hold) -> bool:
        """Whether something is that this exchange runs in."""
        scopes = self._scopes
        return bool(scopes) and any((hold.tenant, each) in scopes for each in (None, *hold.stops))


def _with(candidate: Candidate, vector: Vector | None) -> Candidate:
    return Candidate(candidate.upstream, candidate.vector if vector is None else vector)
