"""What a process remembers for the time without Redis: what it holds there, and who is stopped.

Pure. `metering.outage_caps` fills and asks it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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


_Kept = tuple[str, Vector, str, bytes, bytes | None]
"""Upstream, vector, owner, facts, checkpoint: every request pays for this, and hardly one asks."""


@dataclass(slots=True)
class KnownHolds:
    """The open exchanges of this process that Redis holds: as many as are under way."""

    _by_exchange: dict[str, _Kept] = field(default_factory=dict)

    def find(self, hold: Hold) -> KnownHold | None:
        """What is held there; None of one that Redis did not admit, or that has ended."""
        kept = self._by_exchange.get(hold.exchange_id)
        if kept is None:
            return None
        upstream, vector, owner, facts, checkpoint = kept
        asked = {"owner": owner, "facts": facts}
        return KnownHold(Candidate(upstream, vector), asked, checkpoint)

    def held(
        self, hold: Hold, candidate: Candidate, vector: Vector | None, owner: str, facts: bytes
    ) -> None:
        """It was admitted with this candidate; `vector` where less than that is held."""
        held = candidate.vector if vector is None else vector
        self._by_exchange[hold.exchange_id] = (candidate.upstream, held, owner, facts, None)

    def moved(self, hold: Hold, candidate: Candidate, vector: Vector | None) -> None:
        """It holds this instead; what has ended meanwhile stays ended."""
        kept = self._by_exchange.get(hold.exchange_id)
        if kept is not None:
            held = candidate.vector if vector is None else vector
            _, _, owner, facts, checkpoint = kept
            facts = candidate.facts or facts
            self._by_exchange[hold.exchange_id] = candidate.upstream, held, owner, facts, checkpoint

    def noted(self, hold: Hold, checkpoint: bytes | None) -> None:
        """This is what it has come to."""
        kept = self._by_exchange.get(hold.exchange_id)
        if kept is not None and checkpoint is not None:
            self._by_exchange[hold.exchange_id] = (*kept[:4], checkpoint)

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
