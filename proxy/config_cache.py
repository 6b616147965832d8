"""Section `cache`, with what models and tenants write about it, to settings."""

from __future__ import annotations

from decimal import Decimal

from metering.ids import is_id
from metering.money import to_ppm
from metering.redis_url import parse_redis_url, redis_url_shape
from proxy.cache_rules import CacheSettings, ModelCache, TenantCache
from proxy.config_cache_shape import NO_MODEL_CACHE, NO_TENANT_CACHE, TenantCacheShape
from proxy.config_decode import Findings
from proxy.config_network import check_redis_files
from proxy.config_shape import FileShape
from proxy.config_tenants import ID_RULE
from proxy.config_yaml import Path
from proxy.settings import Secret

SALT_LENGTH_MIN = 16


def build_cache(shape: FileShape, findings: Findings) -> CacheSettings:
    """Whose answers are kept, and how."""
    written = shape.cache
    made = CacheSettings(
        enabled=written.enabled,
        ttl_s=written.ttl_seconds,
        temperature_max=written.temperature_max,
        is_free=written.exclude_cache_from_billing,
        discount_ppm=_ppm(("cache", "discount"), written.discount, findings),
        budget_mb=written.budget_mb,
        tenant_budget_mb=written.tenant_budget_mb,
        max_entry_bytes=written.max_entry_bytes,
        coalesce_wait_s=float(written.coalesce_wait_s),
        repeat_budget_mb=written.idempotency_budget_mb,
        repeat_ttl_ms=shape.metering.idempotency_window_hours * 3_600_000,
        repeat_entry_bytes=written.idempotency_entry_bytes,
        salt=_salt(shape, findings),
        models={
            name: ModelCache(each.enabled, each.ttl_seconds, each.temperature_max)
            for name, model in shape.models.items()
            if (each := model.cache) != NO_MODEL_CACHE
        },
        tenants={
            tenant.id: _tenant(("tenants", index, "cache"), tenant.cache, findings)
            for index, tenant in enumerate(shape.tenants)
            if tenant.cache != NO_TENANT_CACHE
        },
    )
    _check(shape, made, findings)
    return made


def build_cache_url(shape: FileShape, findings: Findings) -> Secret | None:
    """The Redis that answers are kept in, where it is one of its own."""
    url = shape.cache.url
    if url is None:
        return None
    try:
        check_redis_files(parse_redis_url(url))
    except ValueError as error:
        findings.fault(("cache", "url"), str(error), f"write it like {redis_url_shape(url)}")
    return Secret(url)


def _tenant(path: Path, written: TenantCacheShape, findings: Findings) -> TenantCache:
    if written.pool is not None:
        if not is_id(written.pool):
            problem = f"{written.pool!r} cannot be the name of a pool"
            findings.fault((*path, "pool"), problem, f"use {ID_RULE}")
        if written.share != "tenant":
            problem = f"a pool is shared by whole tenants, not by a {written.share}"
            findings.fault((*path, "share"), problem, "leave one of the two out")
    discount = written.discount
    discount_ppm = None if discount is None else _ppm((*path, "discount"), discount, findings)
    return TenantCache(
        written.enabled, written.ttl_seconds, written.share, written.pool, discount_ppm
    )


def _ppm(path: Path, share: Decimal, findings: Findings) -> int:
    try:
        return to_ppm(share)
    except ValueError as error:
        findings.fault(path, str(error))
        return 0


def _salt(shape: FileShape, findings: Findings) -> bytes:
    """Without one of its own, what tells this installation from another on the same Redis."""
    salt = shape.cache.salt
    if salt is None:
        return f"weir:{shape.redis.prefix}".encode()
    if len(salt) < SALT_LENGTH_MIN:
        problem = f"has {len(salt)} characters"
        findings.fault(("cache", "salt"), problem, f"use at least {SALT_LENGTH_MIN}")
    if findings.document.literal(("cache", "salt")):
        findings.secret(("cache", "salt"), "a salt in clear text", "write `${NAME}`")
    return salt.encode()


def _check(shape: FileShape, made: CacheSettings, findings: Findings) -> None:
    cache, shards = shape.cache, shape.redis.shards
    for key, size, bounds in (
        ("max_entry_bytes", cache.max_entry_bytes, made.bounds(shards)),
        ("idempotency_entry_bytes", cache.idempotency_entry_bytes, made.repeat_bounds(shards)),
    ):
        if size > (most := min(bounds.shard, bounds.owner)):
            findings.fault(
                ("cache", key),
                f"{size} bytes are more than a tenant's part of the budget in its shard, {most}",
                f"the budget is shared by {shards} shards (`redis.shards`)",
            )
    if made.is_used:
        return
    places = findings.document.places
    for at in places:
        name = at[-1] if at else None
        if name == "cache_only" and findings.document.at(at) is True:
            problem = "no answers are kept: from here on every request is refused"
            findings.warn(at, problem, "set cache.enabled")
        elif _is_for_kept(at) and not (at[0] == "cache" and ("cache", "enabled") in places):
            findings.warn(at, "does nothing: no answers are kept", "set cache.enabled")


def _is_for_kept(at: Path) -> bool:
    """Whether this key says something of answers that are kept, and of nothing else."""
    if len(at) < 2:
        return False
    section, name = at[-2:]
    if section == "cache":
        return name in _OF_CACHE
    return name in _OF_FEATURES


_OF_CACHE = frozenset(
    {"ttl_seconds", "temperature_max", "share", "pool", "discount", "exclude_cache_from_billing"}
)
_OF_FEATURES = frozenset({"cache_ttl_seconds", "exclude_cache_from_billing"})
