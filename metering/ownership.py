"""Whose an object is that lives at a provider: a file, a batch, a stored response, a thread.

One account at a provider serves many tenants, and who knows an id could read what another tenant
has put there. So the ids that a tenant was given are kept, and only those go on for it. Rules:

- Unknown and foreign look alike: what is not known as the tenant's own is not there for it.
- Objects that stay until somebody deletes them are **kept** until then; at most `OBJECTS_MAX` of a
  tenant, after which it may make no more. What its provider forgets by itself (stored responses and
  completions) is **passing**: forgotten after `PASSING_MS`, and the oldest beyond `OBJECTS_MAX`.
- Names are `provider/id`, so that no id of one account opens anything in another.

An entry takes Redis about 150 bytes, so a tenant that has as many objects as it may takes about
3 MB of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from metering import clock

OBJECTS_MAX = 10_000
PASSING_MS = 30 * 24 * 3_600_000
"""For as long OpenAI keeps a stored response."""


@dataclass(frozen=True, slots=True)
class Looked:
    """Which of the names that were asked for are the tenant's, and how many objects it keeps."""

    owned: frozenset[str]
    kept: int


class Owners(Protocol):
    """Where it is known; CapsUnavailableError when it cannot be asked."""

    async def look(self, tenant: str, names: Sequence[str]) -> Looked:
        """Which of these are the tenant's."""
        ...

    async def note(self, tenant: str, names: Sequence[str], *, is_passing: bool) -> None:
        """These are the tenant's from now on. A repeat changes nothing but how long that is known
        of what is passing."""
        ...

    async def forget(self, tenant: str, names: Sequence[str]) -> None:
        """These are gone."""
        ...


@dataclass(slots=True)
class MemoryOwners:
    """What one process knows, forgotten with it: for tests and for trying things out."""

    objects_max: int = OBJECTS_MAX
    now_ms: Callable[[], int] = clock.now_ms
    kept: dict[str, dict[str, int]] = field(default_factory=dict)
    passing: dict[str, dict[str, int]] = field(default_factory=dict)

    async def look(self, tenant: str, names: Sequence[str]) -> Looked:
        """As `Owners.look`."""
        kept, passing = self.kept.get(tenant, {}), self.passing.get(tenant, {})
        since_ms = self.now_ms() - PASSING_MS
        owned = [each for each in names if each in kept or passing.get(each, -1) > since_ms]
        return Looked(frozenset(owned), len(kept))

    async def note(self, tenant: str, names: Sequence[str], *, is_passing: bool) -> None:
        """As `Owners.note`."""
        if not is_passing:
            shelf = self.kept.setdefault(tenant, {})
            for name in names:
                shelf.setdefault(name, self.now_ms())
            return
        shelf = self.passing.setdefault(tenant, {})
        for name in names:
            shelf.pop(name, None)
            shelf[name] = self.now_ms()
        for name in list(shelf)[: max(0, len(shelf) - self.objects_max)]:
            del shelf[name]

    async def forget(self, tenant: str, names: Sequence[str]) -> None:
        """As `Owners.forget`."""
        for shelf in (self.kept.get(tenant, {}), self.passing.get(tenant, {})):
            for name in names:
                shelf.pop(name, None)
