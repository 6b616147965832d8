"""What payment providers call us back with: no more than which event it was.

Nothing of a payment itself is kept on this way: whoever books it asks the provider.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Callback:
    """An event at a provider: its id there, its type, and when it was made, Unix s."""

    id: str
    type: str
    created_s: int


class Callbacks(Protocol):
    """Where callbacks wait for the settlement worker."""

    async def take(self, callback: Callback) -> None:
        """Keep it; CapsUnavailableError when it could not be kept, for all that is known."""
        ...


@dataclass(slots=True)
class MemoryCallbacks:
    """Those of one process, forgotten with it: for tests and for trying things out."""

    taken: list[Callback] = field(default_factory=list)

    async def take(self, callback: Callback) -> None:
        """As `Callbacks.take`."""
        self.taken.append(callback)
