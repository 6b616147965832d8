"""Whose answers are kept, for how long, and what they cost when they are given again. Pure.

Rules: nothing is kept unless the file says so; what a model or a tenant forbids stays forbidden,
whoever allows it; answers are shared within a tenant at most, unless tenants name the same pool.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from metering.money import PPM
from metering.replies import Bounds, Shelf
from metering.tenants import ANY_FEATURE, ApiKey, Tenant

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ModelCache:
    """`models.NAME.cache`."""

    enabled: bool | None = None
    ttl_s: int | None = None
    temperature_max: Decimal | None = None


@dataclass(frozen=True, slots=True)
class TenantCache:
    """`tenants[].cache`."""

    enabled: bool | None = None
    ttl_s: int | None = None
    share: Literal["tenant", "project", "key"] = "tenant"
    pool: str | None = None
    """Tenants of one pool give each other's answers."""
    discount_ppm: int | None = None


_NO_MODEL, _NO_TENANT = ModelCache(), TenantCache()


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """Section `cache`, and what models and tenants write about it."""

    enabled: bool = False
    ttl_s: int = 3600
    temperature_max: Decimal | None = None
    """Only requests that ask for at most this much chance; None for all."""
    is_free: bool = True
    """Whether what comes from the cache is not billed."""
    discount_ppm: int = 0
    """Where it is, what it costs less than it did at first."""
    budget_mb: int = 256
    tenant_budget_mb: int | None = None
    max_entry_bytes: int = 262_144
    coalesce_wait_s: float = 60.0
    repeat_budget_mb: int = 64
    repeat_ttl_ms: int = 86_400_000
    repeat_entry_bytes: int = 1_048_576
    salt: bytes = b"weir"
    """What names are made with, beside what they stand for."""
    models: Mapping[str, ModelCache] = field(default_factory=dict)
    tenants: Mapping[str, TenantCache] = field(default_factory=dict)
    is_used: bool = field(init=False, default=False)
    """Whether anybody's answers are kept. Asked for with every request, so found once."""

    def __post_init__(self) -> None:
        """Frozen, so the only place where it can be set."""
        by_models = any(each.enabled for each in self.models.values())
        is_used = self.enabled or by_models or any(each.enabled for each in self.tenants.values())
        object.__setattr__(self, "is_used", is_used)

    def bounds(self, shards: int) -> Bounds:
        """What kept answers may take of a shard."""
        shard = self.budget_mb * _MIB // shards
        own = shard if self.tenant_budget_mb is None else self.tenant_budget_mb * _MIB
        return Bounds(shard, own, self.max_entry_bytes)

    def repeat_bounds(self, shards: int) -> Bounds:
        """The same for answers to requests with a key of their client's. A tenant has half of its
        shard: what it keeps must not have its neighbours' requests run and billed once more."""
        shard = self.repeat_budget_mb * _MIB // shards
        return Bounds(shard, shard // 2, self.repeat_entry_bytes)


NOTHING_KEPT = CacheSettings()


@dataclass(frozen=True, slots=True)
class CacheRule:
    """How the answers to one request are kept. `scope` is who shares them on the shelf."""

    shelf: Shelf
    scope: str
    ttl_ms: int
    billed_ppm: int
    """What is billed of an answer that is given again, as a share of its units."""
    temperature_max: Decimal | None = None


def rule_for(
    cache: CacheSettings, tenant: Tenant, key: ApiKey, model: str, feature: str | None
) -> CacheRule | None:
    """The rule for a request; None where nothing is kept.

    The longest word is the feature's, then the tenant's, the model's, the section's; a time of 0
    keeps nothing.
    """
    by_model = cache.models.get(model, _NO_MODEL)
    by_tenant = cache.tenants.get(tenant.id, _NO_TENANT)
    said = (by_model.enabled, by_tenant.enabled)
    if False in said or not (cache.enabled or True in said):
        return None
    limits = tenant.feature_limits.get(feature or ANY_FEATURE)
    limits = limits or tenant.feature_limits.get(ANY_FEATURE)
    found = limits.cache_ttl_seconds if limits is not None else None
    for ttl_s in (by_tenant.ttl_s, by_model.ttl_s, cache.ttl_s):
        found = ttl_s if found is None else found
    if not found:
        return None
    is_free = limits.exclude_cache_from_billing if limits is not None else None
    discount_ppm = by_tenant.discount_ppm
    if discount_ppm is None:
        discount_ppm = cache.discount_ppm
    at_most = by_model.temperature_max
    return CacheRule(
        shelf=_shelf(tenant, by_tenant),
        scope=scope_of(cache, tenant, key),
        ttl_ms=found * 1000,
        billed_ppm=0 if (cache.is_free if is_free is None else is_free) else PPM - discount_ppm,
        temperature_max=cache.temperature_max if at_most is None else at_most,
    )


def _shelf(tenant: Tenant, written: TenantCache) -> Shelf:
    if written.pool is not None:
        return Shelf("replies", written.pool, is_pool=True)
    return Shelf("replies", tenant.id)


def scope_of(cache: CacheSettings, tenant: Tenant, key: ApiKey) -> str:
    """Who of a tenant is given the same answers: all of it, or the project or key that asked."""
    written = cache.tenants.get(tenant.id, _NO_TENANT)
    if written.pool is not None or written.share == "tenant":
        return ""
    return f"{written.share}/{key.project if written.share == 'project' else key.id}"
