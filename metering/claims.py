"""Claims: how an event that is reported twice counts once, and a repeat is told from a conflict.

An event from outside has an id that its sender chose, and that id alone names its exchange. Before
it is committed its digest is claimed under that exchange; once it is recorded, the claim is kept.
Rules:

- A claim that was not kept is open: whoever comes with the same digest commits again, which is
  idempotent while the marker of the commit lives. An open claim is forgotten before that marker is,
  so a sender whose proxy died between the two loses nothing and pays nothing twice.
- A claim that was kept answers for `keep_ms`. What comes later is the ledger's to judge.
- While Redis is away nothing can be claimed; the exchange's id is the same all the same, so what
  was spooled twice is recorded once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol

from metering import clock

OPEN_MS = 3_000_000
"""How long an open claim stands: less than a commit is remembered (`redis_caps.MARKER_TTL_MS`)."""


class Claim(NamedTuple):
    """One event: the exchange that its id names, and the digest of what its sender said."""

    exchange_id: str
    digest: str


class Claimed(StrEnum):
    """What came of a claim."""

    FREE = "free"
    """Nobody has recorded it, as far as is known: commit it."""
    RECORDED = "recorded"
    """The very same was recorded before."""
    OTHER = "other"
    """Something else was reported under this id."""


class Claims(Protocol):
    """Where claims are; CapsUnavailableError when they cannot be looked at."""

    async def claim(self, tenant: str, claims: Sequence[Claim]) -> list[Claimed]:
        """Claim each of these, in their order."""
        ...

    async def keep(self, tenant: str, claims: Sequence[Claim], *, keep_ms: int) -> None:
        """Note that these were recorded; known as such for `keep_ms`."""
        ...


@dataclass(slots=True)
class MemoryClaims:
    """Claims of one process, forgotten with it: for tests and for trying things out."""

    now_ms: Callable[[], int] = clock.now_ms
    known: dict[tuple[str, str], tuple[str, bool, int]] = field(default_factory=dict)
    """By tenant and exchange: the digest, whether it was recorded, and until when (Unix ms)."""

    async def claim(self, tenant: str, claims: Sequence[Claim]) -> list[Claimed]:
        """As `Claims.claim`."""
        now_ms = self.now_ms()
        found = []
        for claim in claims:
            key = (tenant, claim.exchange_id)
            digest, is_recorded, until_ms = self.known.get(key, ("", False, 0))
            if until_ms <= now_ms:
                self.known[key] = (claim.digest, False, now_ms + OPEN_MS)
                found.append(Claimed.FREE)
            elif digest != claim.digest:
                found.append(Claimed.OTHER)
            else:
                found.append(Claimed.RECORDED if is_recorded else Claimed.FREE)
        return found

    async def keep(self, tenant: str, claims: Sequence[Claim], *, keep_ms: int) -> None:
        """As `Claims.keep`."""
        for claim in claims:
            until_ms = self.now_ms() + keep_ms
            self.known[tenant, claim.exchange_id] = (claim.digest, True, until_ms)
