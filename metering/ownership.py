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

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

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
