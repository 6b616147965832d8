"""What `weir doctor` asks Redis. Reads only; `doctor_flow` judges.

Rule: nobody waits. Everything together is bounded by one timeout, and of what may be long (waiting
events, keys under other prefixes) only a part is read, which is said.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from metering.clock import monotonic_s, now_ns
from metering.flags import flags
from metering.redis_keys import GROUP, RedisKeys
from metering.redis_url import parse_redis_url
from metering.settlement.crossings import Marks, spool_readings
from metering.settlement.doctor_facts import (
    FlagUp,
    Reached,
    ShardStream,
    SpoolFiles,
    Streams,
    Unknown,
)
from metering.settlement.redis_client import connect, servers
from metering.settlement.redis_stream import StreamStanding, stream_standings

PART_S = 5.0
"""For each of the three questions; a Redis that is there answers in milliseconds."""

PEEK = 200
"""Waiting events that are read per shard, the oldest first."""

BACK = 1_000
"""Entries of the tenant's shard that are read backwards for its newest event."""

SCANNED = 50_000
"""Keys that are looked at for other prefixes."""

PREPAID = 500
"""Prepaid tenants that are looked at."""

_T = TypeVar("_T")


async def ask_redis(
    url: str, keys: RedisKeys, tenant: str | None, prepaid: Sequence[str] = ()
) -> tuple[Reached | Unknown, Streams | Unknown, tuple[FlagUp, ...] | Unknown | None]:
    """What Redis says; each part by itself, so that one that fails leaves the others."""
    try:
        address = str(parse_redis_url(url))
        client = connect(url)
    except (ValueError, OSError) as error:
        away = Unknown(f"redis.url is not usable: {error}")
        return away, away, None if tenant is None else away
    try:
        reached = await _part(address, lambda: _reach(client, keys, address, prepaid))
        if isinstance(reached, Unknown):
            away = Unknown("Redis is away")
            return reached, away, None if tenant is None else away
        streams = await _part(address, lambda: _read_streams(client, keys, tenant))
        if tenant is None:
            return reached, streams, None
        return reached, streams, await _part(address, lambda: _flags(client, keys, tenant))
    finally:
        await client.aclose()


async def _part(address: str, ask: Callable[[], Awaitable[_T]]) -> _T | Unknown:
    try:
        async with asyncio.timeout(PART_S):
            return await ask()
    except TimeoutError:
        return Unknown(f"{address} gave no answer within {PART_S:.0f} s")
    except (RedisError, OSError, ValueError) as error:
        return Unknown(f"{address}: {str(error) or type(error).__name__}")


async def _reach(client: Redis, keys: RedisKeys, address: str, prepaid: Sequence[str]) -> Reached:
    await client.time()  # the connection is made, so the next one measures the clock
    began_s, began_ns = monotonic_s(), now_ns()
    seconds, micros = await client.time()
    took_s = monotonic_s() - began_s
    there_ns = int(seconds) * 10**9 + int(micros) * 1_000
    skew_ns = there_ns - (began_ns + int(took_s * 1e9) // 2)
    found: Any = await client.hgetall(keys.meta)
    meta = {_text(name): _text(value) for name, value in found.items()}
    missing = [n for n in range(keys.shards) if not await client.exists(keys.epoch(n))]
    return Reached(
        address,
        skew_ns // 10**6,
        int(took_s * 1_000),
        keys.prefix,
        keys.shards,
        meta,
        () if meta else await _other_prefixes(client),
        tuple(missing) if meta else (),
        await _without_balance(client, keys, prepaid) if meta else (),
    )


async def _without_balance(
    client: Redis, keys: RedisKeys, prepaid: Sequence[str]
) -> tuple[str, ...]:
    """Who of these nobody has published a limit of; of many the first few are enough to look at."""
    lacking = [
        tenant
        for tenant in prepaid[:PREPAID]
        if not await client.hexists(keys.balances(keys.shard(tenant)), tenant)
    ]
    return tuple(lacking)


async def _other_prefixes(client: Redis) -> tuple[str, ...]:
    found, looked = set(), 0
    for server in await servers(client):
        async for key in server.scan_iter(match="*:meta", count=1_000):
            found.add(_text(key).removesuffix(":meta"))
            looked += 1
            if looked >= SCANNED:
                break
    return tuple(sorted(found))


async def _read_streams(client: Redis, keys: RedisKeys, tenant: str | None) -> Streams:
    seconds, _ = await client.time()
    standings = await stream_standings(client, keys)
    workers: dict[str, int] = {}
    has_group = False
    shards = []
    for shard, standing in enumerate(standings):
        length = int(await client.xlen(keys.stream(shard)))
        dead = int(await client.xlen(keys.dead(shard)))
        shards.append(_shard(shard, standing, length, dead))
        for name, idle_ms in (await _consumers(client, keys.stream(shard))).items():
            workers[name] = min(idle_ms, workers.get(name, idle_ms))
        has_group = has_group or await _has_group(client, keys.stream(shard))
    waiting = [at for at in shards if at.waiting]
    prices, tenants, looked = await _peek(client, keys, [each.shard for each in waiting])
    return Streams(
        shards=tuple(shards),
        workers=workers,
        has_group=has_group,
        now_ms=int(seconds) * 1_000,
        wanted_prices=await _unpublished(client, keys, prices),
        looked_at=looked,
        of_tenant=0 if tenant is None else tenants[tenant],
        newest_of_tenant_ms=None if tenant is None else await _newest(client, keys, tenant),
        spools=await _spools(client, keys),
    )


def _shard(shard: int, standing: StreamStanding, length: int, dead: int) -> ShardStream:
    newest_ms = int(standing.newest.partition("-")[0])
    return ShardStream(shard, length, standing.waiting, standing.since_ms, newest_ms, dead)


async def _consumers(client: Redis, stream: str) -> dict[str, int]:
    """The workers of a stream, and how long each has been silent."""
    if not await _has_group(client, stream):
        return {}
    found: Any = await client.xinfo_consumers(stream, GROUP)
    return {_text(each["name"]): int(each["idle"]) for each in found}


async def _has_group(client: Redis, stream: str) -> bool:
    if not await client.exists(stream):
        return False
    found: Any = await client.xinfo_groups(stream)
    return any(_text(each["name"]) == GROUP for each in found)


async def _peek(
    client: Redis, keys: RedisKeys, shards: list[int]
) -> tuple[Counter[str], Counter[str], int]:
    """Of the waiting events, which price versions they name, whose they are, and how many."""
    prices: Counter[str] = Counter()
    tenants: Counter[str] = Counter()
    looked = 0
    for shard in shards:
        for event in await _waiting(client, keys.stream(shard)):
            looked += 1
            tenants[str(event.get("tenant"))] += 1
            for name in {event.get("cost_version"), event.get("sell_version")} - {None, ""}:
                prices[str(name)] += 1
    return prices, tenants, looked


async def _waiting(client: Redis, stream: str) -> list[Mapping[str, Any]]:
    """The oldest entries that are not settled: pending ones, then unread ones."""
    entries: list[Any] = []
    delivered = "-"
    if await _has_group(client, stream):
        pending: Any = await client.xpending_range(stream, GROUP, min="-", max="+", count=PEEK)
        for each in pending:
            at = each["message_id"]
            entries += await client.xrange(stream, min=at, max=at, count=1) or []
        groups: Any = await client.xinfo_groups(stream)
        for each in groups:
            if _text(each["name"]) == GROUP:
                delivered = "(" + _text(each["last-delivered-id"])
    entries += await client.xrange(stream, min=delivered, max="+", count=PEEK) or []
    return [event for _, fields in entries if (event := _event(fields)) is not None]


async def _unpublished(client: Redis, keys: RedisKeys, prices: Mapping[str, int]) -> dict[str, int]:
    return {
        version: count
        for version, count in prices.items()
        if not await client.exists(keys.prices(version))
    }


async def _newest(client: Redis, keys: RedisKeys, tenant: str) -> int | None:
    """When the tenant's newest entry came, as far as the stream reaches back."""
    stream = keys.stream(keys.shard(tenant))
    entries: Any = await client.xrevrange(stream, count=BACK)
    for at, fields in entries:
        event = _event(fields)
        if event is not None and event.get("tenant") == tenant:
            return int(_text(at).partition("-")[0])
    return None


async def _spools(client: Redis, keys: RedisKeys) -> tuple[SpoolFiles, ...]:
    found: Any = await client.hgetall(keys.proxies)
    reports = {_text(name): body for name, body in found.items()}
    readings, _ = spool_readings(reports, Marks(), now_ms=now_ns() // 10**6)
    return tuple(
        SpoolFiles(each.subject, each.body["records"], each.body["bytes"], each.body["waited_s"])
        for each in readings
    )


async def _flags(client: Redis, keys: RedisKeys, tenant: str) -> tuple[FlagUp, ...]:
    found = await flags(client.execute_command, keys, tenant)
    return tuple(
        FlagUp(
            str(each.kind),
            f"{each.scope.kind} {each.scope.id}" if each.scope.id else "",
            each.by,
            each.why,
            each.at_ms,
        )
        for each in found
    )


def _event(fields: Mapping[bytes, bytes]) -> Mapping[str, Any] | None:
    """An entry's event as it was written; None for what is none: the dead letters tell of it."""
    try:
        found = orjson.loads(fields.get(b"e", b""))
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
