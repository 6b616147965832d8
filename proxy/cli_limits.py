"""`weir limits` and `weir holds`: what caps allow now and what is held, read live from Redis.

Nothing is written: what has lapsed is left for admission and the worker to drop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from proxy.cli_options import FAILED, NOT_FOUND, echo_json, fail, load_config, shared_options

if TYPE_CHECKING:
    from metering.caps import Scope
    from metering.tenants import Tenant
    from proxy.limits_report import Look
    from proxy.settings import Settings

TIMEOUT_S = 5.0

_CHUNK = 500
"""Records asked for at once."""


@click.command()
@click.option("--tenant", "tenant_id", required=True, help="Id of the tenant.")
@click.option("--key", help="Id of a key; its project and pins come along.")
@click.option("--project", help="Id of a project.")
@click.option("--feature", help="A feature, as in x-weir-feature.")
@click.option("--user", help="A user, as in x-weir-user or the body's `user`.")
@click.option("--session", help="A session, as in x-weir-session.")
@click.option("--run", help="A run, as in x-weir-run.")
@shared_options
def limits(
    *,
    tenant_id: str,
    key: str | None,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
    **named: str | None,
) -> None:
    """The caps that a request stands under: what is spent, held and left, and when room frees."""
    settings = load_config(config_file, data_dir, as_json).settings
    from proxy import cli_tables
    from proxy.limits_report import limits_body, limits_table

    tenant = settings.tenants.get(tenant_id)
    if tenant is None:
        fail(NOT_FOUND, f"no tenant {tenant_id!r} in {settings.source}", as_json)
    scopes = scopes_named(settings, tenant, key, named, as_json)
    body = limits_body(_reading(read_limits(settings, tenant, scopes), as_json))
    if as_json:
        echo_json(body)
    else:
        cli_tables.console().print(limits_table(body))


@click.command()
@click.option("--tenant", "tenant_id", help="Only of this tenant.")
@click.option("--limit", type=click.IntRange(1), default=1000, help="Show at most so many.")
@shared_options
def holds(
    *,
    tenant_id: str | None,
    limit: int,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """The open holds, oldest first: who holds what, where, and until when."""
    settings = load_config(config_file, data_dir, as_json).settings
    from proxy import cli_tables
    from proxy.limits_report import holds_table

    rows, unreadable = _reading(read_holds(settings, tenant_id), as_json)
    rows.sort(key=lambda row: (row["created_at"], row["exchange_id"]))
    shown, more = rows[:limit], max(0, len(rows) - limit)
    if as_json:
        echo_json({"holds": shown, "more": more, "unreadable": unreadable})
    else:
        cli_tables.console().print(holds_table(shown, unreadable, more))


def scopes_named(
    settings: Settings,
    tenant: Tenant,
    key_id: str | None,
    named: dict[str, str | None],
    as_json: bool,
) -> tuple[Scope, ...]:
    """The scopes that were named, the widest first; what a key is pinned to goes before."""
    from metering.caps import Scope, ScopeKind
    from metering.ids import is_id, scope_id

    found = {ScopeKind(name): value for name, value in named.items() if value is not None}
    if key_id is not None:
        keys = {key.id: (key.project, key.pins) for key in tenant.keys}
        for minted in settings.minted_keys:
            if minted.tenant == tenant.id:
                keys.setdefault(minted.key_id, (minted.project, minted.pins))
        if key_id not in keys:
            fail(NOT_FOUND, f"tenant {tenant.id!r} has no key {key_id!r}", as_json)
        own_project, pins = keys[key_id]
        found |= {ScopeKind.PROJECT: own_project, ScopeKind.KEY: key_id, **pins}
    if found.get(ScopeKind.PROJECT, "default") not in tenant.projects:
        fail(
            NOT_FOUND, f"tenant {tenant.id!r} has no project {found[ScopeKind.PROJECT]!r}", as_json
        )
    for kind, value in found.items():
        if kind is not ScopeKind.USER and not is_id(value):
            raise click.UsageError(f"--{kind} {value!r} cannot be an id")
    return tuple(
        Scope(kind, scope_id(found[kind]) if kind is ScopeKind.USER else found[kind])
        for kind in ScopeKind
        if kind in found
    )


def _reading(work: Any, as_json: bool) -> Any:
    """Run it; a Redis that cannot be read ends the command with what is the matter."""
    from redis.exceptions import RedisError

    try:
        return asyncio.run(work)
    except (RedisError, OSError, ValueError) as error:  # ValueError: a path too long for a socket
        fail(FAILED, f"cannot read Redis: {error or type(error).__name__}", as_json)


def client_of(settings: Settings) -> Any:
    """The Redis of an installation, the embedded one where none is named."""
    from metering.settlement.redis_client import connect
    from proxy.embedded_redis import redis_url

    url = settings.redis.url
    return connect(redis_url(settings.data_dir) if url is None else url.reveal())


async def now_ms_of(client: Any) -> int:
    """Redis' own clock."""
    seconds, microseconds = await client.time()
    return int(seconds) * 1000 + int(microseconds) // 1000


async def read_limits(settings: Settings, tenant: Tenant, scopes: tuple[Scope, ...]) -> Look:
    """What Redis has of these scopes now."""
    from metering.caps import Scope, ScopeKind
    from metering.scope_reading import read_scope
    from metering.tenant_caps import caps_under
    from proxy.limits_report import Look
    from proxy.settings import redis_keys

    keys, readings = redis_keys(settings), {}
    caps = caps_under(tenant, scopes)
    async with client_of(settings) as client, asyncio.timeout(TIMEOUT_S):
        now_ms = await now_ms_of(client)
        for scope in (Scope(ScopeKind.TENANT), *scopes):
            windows = [cap.window for cap in caps if cap.scope == scope]
            fields = await client.hgetall(keys.scope(tenant.id, scope))
            expiries = await client.zrange(
                keys.scope_holds(tenant.id, scope), 0, -1, withscores=True
            )
            readings[scope] = read_scope(windows, fields, dict(expiries), now_ms)
        flags = await client.hgetall(keys.state(tenant.id))
        shard = keys.shard(tenant.id)
        is_whole = await client.exists(keys.epoch(shard))
        told = await client.hget(keys.balances(shard), tenant.id)
    texts = {name.decode(): value.decode() for name, value in flags.items()}
    balance_nano = None if told is None else int(told)
    looked = (tenant, scopes, readings, texts, now_ms, not is_whole, settings.models)
    return Look(*looked, balance_nano=balance_nano)


async def read_holds(settings: Settings, tenant_id: str | None) -> tuple[list[dict[str, Any]], int]:
    """Every record of a hold that is indexed, and how many could not be read."""
    from proxy.limits_report import hold_row
    from proxy.settings import redis_keys

    keys = redis_keys(settings)
    shards = range(keys.shards) if tenant_id is None else [keys.shard(tenant_id)]
    rows: list[dict[str, Any]] = []
    unreadable = 0
    async with client_of(settings) as client, asyncio.timeout(TIMEOUT_S * 4):
        now_ms = await now_ms_of(client)
        for shard in shards:
            indexed = await client.zrange(keys.open_holds(shard), 0, -1)
            for tenant, found in _by_tenant(indexed, tenant_id).items():
                async for exchange_id, raw in _records(client, keys.holds(tenant), found):
                    row = hold_row(tenant, exchange_id, raw, now_ms)
                    rows += [] if row is None else [row]
                    unreadable += row is None
    return rows, unreadable


def _by_tenant(members: list[bytes], only: str | None) -> dict[str, list[str]]:
    """The exchanges of an index of holds, by their tenant."""
    found: dict[str, list[str]] = {}
    for member in members:
        tenant, _, exchange_id = member.decode().partition("/")
        if only in (None, tenant):
            found.setdefault(tenant, []).append(exchange_id)
    return found


async def _records(
    client: Any, key: str, exchange_ids: list[str]
) -> AsyncIterator[tuple[str, bytes]]:
    """The records of these exchanges; those that have ended since are left out."""
    for start in range(0, len(exchange_ids), _CHUNK):
        part = exchange_ids[start : start + _CHUNK]
        for exchange_id, raw in zip(part, await client.hmget(key, part), strict=True):
            if raw is not None:
                yield exchange_id, raw
