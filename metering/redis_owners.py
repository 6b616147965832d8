"""`RedisOwners`: whose objects at providers are, in Redis, where every proxy sees it."""

from __future__ import annotations

from collections.abc import Sequence

from metering.ownership import OBJECTS_MAX, PASSING_MS, Looked
from metering.redis_keys import RedisKeys
from metering.scripts import ScriptRunner, load_script

TOGETHER = 256
"""Names per script: Redis does nothing else meanwhile, about half a millisecond."""


class RedisOwners:
    """As `metering.ownership` says; two sorted sets per tenant, in its slot."""

    def __init__(
        self, runner: ScriptRunner, keys: RedisKeys, *, objects_max: int = OBJECTS_MAX
    ) -> None:
        self._runner, self._keys = runner, keys
        self._objects_max = objects_max
        self._look = load_script("look_owned")
        self._note = load_script("note_owned")
        self._forget = load_script("forget_owned")

    async def look(self, tenant: str, names: Sequence[str]) -> Looked:
        """As `Owners.look`."""
        owned: list[str] = []
        kept = 0
        for start in range(0, max(1, len(names)), TOGETHER):
            some = names[start : start + TOGETHER]
            args = [str(PASSING_MS), *some]
            kept, *found = await self._runner.eval(self._look, self._shelves(tenant), args)
            owned += [name for name, is_owned in zip(some, found, strict=True) if is_owned]
        return Looked(frozenset(owned), int(kept))

    async def note(self, tenant: str, names: Sequence[str], *, is_passing: bool) -> None:
        """As `Owners.note`."""
        key = self._shelves(tenant)[1 if is_passing else 0]
        bounds = (PASSING_MS, self._objects_max) if is_passing else (0, 0)
        for start in range(0, len(names), TOGETHER):
            some = names[start : start + TOGETHER]
            await self._runner.eval(self._note, [key], [*map(str, bounds), *some])

    async def forget(self, tenant: str, names: Sequence[str]) -> None:
        """As `Owners.forget`."""
        for start in range(0, len(names), TOGETHER):
            some = names[start : start + TOGETHER]
            await self._runner.eval(self._forget, self._shelves(tenant), some)

    def _shelves(self, tenant: str) -> list[str]:
        return [self._keys.owned(tenant), self._keys.owned_passing(tenant)]
