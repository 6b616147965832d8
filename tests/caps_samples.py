"""Caps, holds and a clock for tests, and one subject per implementation of `Caps`."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from metering.caps import (
    ROLLING_DAY,
    AnyWindow,
    CalendarUnit,
    CalendarWindow,
    Candidate,
    Cap,
    CapMode,
    Caps,
    Elastic,
    Hold,
    Limit,
    Scope,
    ScopeKind,
    Stage,
    Stairs,
    Vector,
    Window,
)
from metering.ids import uuid7
from metering.memory_caps import MemoryCaps
from metering.recovery import LostHold, Recovery
from metering.redis_caps import RedisCaps
from metering.redis_events import mark_epoch
from metering.redis_keys import RedisKeys
from metering.redis_recovery import KEEP_MS, RedisRecovery
from metering.scripts import ScriptRunner

NOW_MS = 1_763_700_000_000
MINUTE_MS = 60_000
DAY_MS = 86_400_000
TENANT = Scope(ScopeKind.TENANT)
KEY = Scope(ScopeKind.KEY, "k1")
USER = Scope(ScopeKind.USER, "u1")
PARIS_DAY = CalendarWindow(CalendarUnit.DAY, "Europe/Paris")
UTC_MONTH = CalendarWindow(CalendarUnit.MONTH, "UTC")
HOURS = Window(label="hours", bucket_ms=3_600_000, buckets=3)
SHORT = Window(label="short", bucket_ms=1_000, buckets=3)

_numbers = itertools.count(1)


@dataclass
class ManualClock:
    """A clock that moves when told."""

    ms: int = NOW_MS

    def __call__(self) -> int:
        return self.ms


class Subject(Protocol):
    """A `Caps` with what a test must be able to do to it from outside."""

    caps: Caps
    clock: ManualClock

    async def set_flag(self, tenant: str, flag: str) -> None: ...
    async def set_stage_min(self, tenant: str, stage: int) -> None: ...
    async def notes(self, tenant: str) -> list[dict[str, Any]]: ...
    async def empty(self) -> None: ...
    async def events(self, tenant: str) -> list[bytes]: ...
    async def lost(self, tenant: str, *, grace_ms: int) -> list[LostHold]: ...
    async def recover(self, lost: LostHold, made: Recovery, *, grace_ms: int) -> bool: ...


@dataclass
class MemorySubject:
    clock: ManualClock = field(default_factory=ManualClock)

    def __post_init__(self) -> None:
        self.caps = MemoryCaps(now_ms=self.clock)

    async def set_flag(self, tenant: str, flag: str) -> None:
        self.caps.model.flags.setdefault(tenant, set()).add(flag)

    async def set_stage_min(self, tenant: str, stage: int) -> None:
        self.caps.model.book.stage_min[tenant] = stage

    async def notes(self, tenant: str) -> list[dict[str, Any]]:
        return [note for note in self.caps.model.book.notes if note["tenant"] == tenant]

    async def empty(self) -> None:
        self.caps.model.is_rebuilt = False

    async def events(self, tenant: str) -> list[bytes]:
        return self.caps.model.events

    async def lost(self, tenant: str, *, grace_ms: int) -> list[LostHold]:
        return self.caps.model.lost(grace_ms=grace_ms, now_ms=self.clock.ms)

    async def recover(self, lost: LostHold, made: Recovery, *, grace_ms: int) -> bool:
        return self.caps.model.recover(lost, made, grace_ms=grace_ms, now_ms=self.clock.ms)


@dataclass
class RedisSubject:
    link: ScriptRunner
    keys: RedisKeys
    clock: ManualClock = field(default_factory=ManualClock)

    def __post_init__(self) -> None:
        self.caps = RedisCaps(self.link, self.keys, now_ms=self.clock, local_ms=self.clock)
        self.recoveries = RedisRecovery(self.link, self.keys, now_ms=self.clock)

    def with_clock(self, local_ms: Callable[[], int]) -> RedisSubject:
        """The same Redis as a process sees it whose own clock says this."""
        other = RedisSubject(self.link, self.keys, self.clock)
        other.caps = RedisCaps(self.link, self.keys, now_ms=self.clock, local_ms=local_ms)
        return other

    async def mark(self) -> None:
        for shard in range(self.keys.shards):
            await mark_epoch(self.link, self.keys, shard, now_ms=NOW_MS)

    async def set_flag(self, tenant: str, flag: str) -> None:
        await self.link.call("HSET", self.keys.state(tenant), flag, "1")

    async def set_stage_min(self, tenant: str, stage: int) -> None:
        await self.link.call("HSET", self.keys.state(tenant), "stage_min", str(stage))

    async def notes(self, tenant: str) -> list[dict[str, Any]]:
        stream = self.keys.notes(self.keys.shard(tenant))
        entries = await self.link.call("XRANGE", stream, "-", "+")
        return [orjson.loads(fields[1]) for _, fields in entries]

    async def empty(self) -> None:
        await self.link.call_each("FLUSHALL")

    async def events(self, tenant: str) -> list[bytes]:
        stream = self.keys.stream(self.keys.shard(tenant))
        return [fields[1] for _, fields in await self.link.call("XRANGE", stream, "-", "+")]

    async def lost(self, tenant: str, *, grace_ms: int) -> list[LostHold]:
        shard = self.keys.shard(tenant)
        return await self.recoveries.lost(shard, grace_ms=grace_ms, limit=1_000)

    async def recover(
        self, lost: LostHold, made: Recovery, *, grace_ms: int, keep_ms: int = KEEP_MS
    ) -> bool:
        return await self.recoveries.recover(lost, made, grace_ms=grace_ms, keep_ms=keep_ms)


def exchange_id(number: int | None = None) -> str:
    """A UUIDv7 nobody else has; the same number gives the same id."""
    count = next(_numbers) if number is None else number
    return uuid7(NOW_MS, count.to_bytes(10, "big"))


def cap(
    nano: int | None = None,
    *,
    scope: Scope = TENANT,
    window: AnyWindow = ROLLING_DAY,
    tokens: int | None = None,
    requests: int | None = None,
    concurrent: int | None = None,
    mode: CapMode = CapMode.ENFORCE,
    marks: tuple[float, ...] = (),
) -> Cap:
    """A cap, of the tenant's rolling day unless told otherwise."""
    limit = Limit(nano, tokens, requests, concurrent)
    return Cap(scope, window, limit, mode, tuple(round(each * 1e6) for each in marks))


def hold(
    *caps: Cap, tenant: str = "acme", number: int | None = None, stops: tuple[Scope, ...] = ()
) -> Hold:
    """A hold of a new exchange under these caps."""
    return Hold(tenant, exchange_id(number), caps, stops)


def ask(nano: int = 0, tokens: int = 0, requests: int = 1, *, stage: int = 0) -> Candidate:
    """A candidate of this degradation stage."""
    return Candidate("acme/model", Vector(nano, tokens, requests), stage)


def shrinking(
    nano: int, tokens: int, *, rate_pico: int, least: int = 1, stage: int = 0
) -> Candidate:
    """A candidate of a base of `nano` and no tokens, and output that may shrink."""
    base = Vector(nano, 0, 1)
    elastic = Elastic(base, rate_pico, least)
    full = Vector(nano + -(-tokens * rate_pico // 1_000), tokens, 1)
    return Candidate("acme/model", full, stage, elastic)


def stairs(
    *shares: float,
    leave: float | None = None,
    dwell_ms: int = 0,
    is_shadow: bool = False,
    name: str = "burst",
) -> Stairs:
    """Stages that begin at these shares of a cap; each ends there, too, or `leave` below."""
    stages = [Stage(round(each * 1e6), round((each - (leave or 0)) * 1e6)) for each in shares]
    return Stairs(name, tuple(stages), dwell_ms, is_shadow)
