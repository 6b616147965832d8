"""`MemoryOwners`: whose objects at providers are, as one process knows it. For tests, and for
trying things out; as `metering.ownership` says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from metering import clock
from metering.ownership import OBJECTS_MAX, PASSING_MS, Looked


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
