"""The registry's way from the ledger to Redis, where every proxy looks for it.

Rules:
- Whoever has changed the ledger publishes, and looks once more: of two that publish at once, the
  one that finds the ledger changed since does it again. So an older snapshot does not stay.
- Whoever has the ledger looks now and then whether Redis still has what it says, and publishes
  again where it was emptied, or changed by another hand.
- A ledger whose registry was never changed publishes nothing: it may be another's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from metering.redis_keys import RedisKeys
from metering.registry_body import Snapshot, version_of
from metering.settlement.ledger.registry_books import knows_registry, number, snapshot
from metering.settlement.ledger.store import Ledger

Call: TypeAlias = Callable[..., Awaitable[Any]]
"""Sends one command to Redis; its words are the arguments."""

_ROUNDS_MAX = 10
"""So many times in a row the ledger changes under a publisher at most; others publish as well."""


async def publish(call: Call, keys: RedisKeys, ledger: Ledger) -> Snapshot:
    """Put what the ledger says into Redis; what was published."""
    for _ in range(_ROUNDS_MAX):
        found = await asyncio.to_thread(snapshot, ledger)
        await call("HSET", keys.registry, "version", found.version, "body", found.body)
        if await asyncio.to_thread(number, ledger) == found.number:
            break
    return found


async def heal(
    call: Call, keys: RedisKeys, ledger: Ledger, *, is_thorough: bool
) -> Snapshot | None:
    """Publish again where Redis does not say what the ledger says; what was published.

    `is_thorough` compares the body as well, else the number alone.
    """
    if not await asyncio.to_thread(knows_registry, ledger):
        return None
    counted = await asyncio.to_thread(number, ledger)
    if not counted:
        return None
    told = await call("HGET", keys.registry, "version")
    is_same = told is not None and told.partition(b"-")[0] == str(counted).encode()
    if is_same and is_thorough:
        body = await call("HGET", keys.registry, "body")
        is_same = isinstance(body, bytes) and version_of(counted, body).encode() == told
    return None if is_same else await publish(call, keys, ledger)
