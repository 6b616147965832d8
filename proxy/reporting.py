"""What a proxy process says of itself in Redis, in the background, for the worker that watches.

One field of the hash `P:proxies` per process: small JSON with the time and how deep its spool is.
A report that fails is passed over; the next one says the same and more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

import orjson

from metering.caps import CapsUnavailableError
from metering.clock import now_ns
from metering.redis_keys import RedisKeys
from metering.redis_wire import RedisReplyError
from metering.scripts import ScriptRunner

REPORT_EVERY_S = 10.0


class Depth(Protocol):
    """What waits in a spool."""

    @property
    def records(self) -> int:
        """Commits that wait."""
        ...

    @property
    def bytes(self) -> int:
        """What they take on disk."""
        ...

    @property
    def oldest_s(self) -> float:
        """How long the oldest one has waited; 0 when none does."""
        ...


class HasDepth(Protocol):
    """A spool that knows how deep it is, without asking the disk."""

    @property
    def depth(self) -> Depth:
        """What waits now."""
        ...


async def report_spools(
    runner: ScriptRunner, keys: RedisKeys, spools: Mapping[str, HasDepth], log: Any
) -> None:
    """Report again and again, each spool under its proxy's id. Runs until it is cancelled."""
    while True:
        try:
            for proxy_id, spool in spools.items():
                await report_once(runner, keys, proxy_id, spool, now_ms=now_ns() // 1_000_000)
        except (CapsUnavailableError, RedisReplyError) as error:
            log.debug("report_failed", cause=str(error))
        await asyncio.sleep(REPORT_EVERY_S)


async def report_once(
    runner: ScriptRunner, keys: RedisKeys, proxy_id: str, spool: HasDepth, *, now_ms: int
) -> None:
    """Say once how this process stands."""
    depth = spool.depth
    waiting = {"records": depth.records, "bytes": depth.bytes, "oldest_s": depth.oldest_s}
    await runner.call(
        "HSET", keys.proxies, proxy_id, orjson.dumps({"at_ms": now_ms, "spool": waiting})
    )
