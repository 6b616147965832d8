"""What a proxy process says of itself in Redis, in the background, for the worker that watches.

One field of the hash `P:proxies` per process: small JSON with the time and how deep its spool is.
A report that fails is passed over; the next one says the same and more. Each run of a process has
a mark of its own in it: where another's stands after ours, two processes go by one name, which a
copied `data_dir` does, and each takes what the other has spooled for its own.
"""

from __future__ import annotations

import asyncio
import secrets
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
    run = secrets.token_hex(8)
    has_said = has_told = False
    while True:
        try:
            for proxy_id, spool in spools.items():
                other = await _said_by(runner, keys, proxy_id)
                if has_said and other not in {None, run} and not has_told:
                    has_told = True
                    log.error("proxy_id_shared", proxy_id=proxy_id, cause=_SHARED)
                now_ms = now_ns() // 1_000_000
                await report_once(runner, keys, proxy_id, spool, now_ms=now_ms, run=run)
            has_said = True
        except (CapsUnavailableError, RedisReplyError) as error:
            log.debug("report_failed", cause=str(error))
        await asyncio.sleep(REPORT_EVERY_S)


_SHARED = (
    "another process reports under this name: a data_dir must not be copied; stop one of the two, "
    "and give it an empty data_dir once its spool is replayed"
)


async def _said_by(runner: ScriptRunner, keys: RedisKeys, proxy_id: str) -> str | None:
    """The mark of the run that reported last under this name."""
    found = await runner.call("HGET", keys.proxies, proxy_id)
    try:
        return str(orjson.loads(found)["run"])
    except (ValueError, TypeError, KeyError):
        return None


async def report_once(
    runner: ScriptRunner,
    keys: RedisKeys,
    proxy_id: str,
    spool: HasDepth,
    *,
    now_ms: int,
    run: str = "",
) -> None:
    """Say once how this process stands."""
    depth = spool.depth
    waiting = {"records": depth.records, "bytes": depth.bytes, "oldest_s": depth.oldest_s}
    said = {"at_ms": now_ms, "run": run, "spool": waiting}
    await runner.call("HSET", keys.proxies, proxy_id, orjson.dumps(said))


async def report_end(runner: ScriptRunner, keys: RedisKeys, spools: Mapping[str, HasDepth]) -> None:
    """Take back what a process that ends has said, or say last what it leaves on its disk.

    Of a process that just fell silent nobody knows what it left: the end of a month waits for it.
    """
    try:
        for proxy_id, spool in spools.items():
            if spool.depth.records:
                now_ms = now_ns() // 1_000_000
                await report_once(runner, keys, proxy_id, spool, now_ms=now_ms)
            else:
                await runner.call("HDEL", keys.proxies, proxy_id)
    except (CapsUnavailableError, RedisReplyError):  # then it is forgotten after a day
        return
