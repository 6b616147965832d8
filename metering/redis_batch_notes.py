"""`RedisBatchNotes`: what is to be billed of batches, in Redis, where every proxy sees it."""

from __future__ import annotations

from collections.abc import Sequence

from metering.batch_notes import NAMES_MAX, NOTE_MS
from metering.redis_keys import RedisKeys
from metering.scripts import ScriptRunner, load_script


class RedisBatchNotes:
    """As `metering.batch_notes` says; a key with an expiry for each batch, in its tenant's slot."""

    def __init__(self, runner: ScriptRunner, keys: RedisKeys, *, ttl_ms: int = NOTE_MS) -> None:
        self._runner, self._keys, self._ttl_ms = runner, keys, ttl_ms
        self._look = load_script("look_notes")
        self._swap = load_script("swap_note")

    async def look(self, tenant: str, names: Sequence[str]) -> list[bytes]:
        """As `BatchNotes.look`."""
        found: list[bytes] = []
        for start in range(0, len(names), NAMES_MAX):
            keys = [self._keys.batch(tenant, name) for name in names[start : start + NAMES_MAX]]
            found += await self._runner.eval(self._look, keys, [])
        return found

    async def swap(self, tenant: str, name: str, *, was: bytes, becomes: bytes) -> bytes:
        """As `BatchNotes.swap`."""
        args: list[str | bytes | int] = [was, becomes, str(self._ttl_ms)]
        there: bytes = await self._runner.eval(self._swap, [self._keys.batch(tenant, name)], args)
        return there
