"""Whose answers are kept: who allows it, who forbids it, who shares them, what they cost."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from fixtures_door import tenant

from metering.money import PPM
from metering.replies import Bounds, Shelf
from metering.tenants import ANY_FEATURE, FeatureLimits
from proxy.cache_rules import CacheRule, CacheSettings, ModelCache, TenantCache, rule_for

WHO = tenant()


def found(cache: CacheSettings, feature: str | None = None, **limits: FeatureLimits) -> CacheRule:
    rule = maybe(cache, feature, **limits)
    assert rule is not None
    return rule


def maybe(
    cache: CacheSettings, feature: str | None = None, **limits: FeatureLimits
) -> CacheRule | None:
    named = {ANY_FEATURE if name == "any_" else name: each for name, each in limits.items()}
    return rule_for(cache, replace(WHO, feature_limits=named), WHO.keys[0], "m", feature)


@pytest.mark.parametrize(
    ("top", "model", "tenant_says", "is_kept"),
    [
        (False, None, None, False),
        (True, None, None, True),
        (False, True, None, True),
        (False, None, True, True),
        (True, False, True, False),
        (True, True, False, False),
        (False, True, False, False),
    ],
)
def test_who_decides(
    *, top: bool, model: bool | None, tenant_says: bool | None, is_kept: bool
) -> None:
    """Somebody has to allow it, and neither the model nor the tenant may forbid it."""
    cache = CacheSettings(
        enabled=top, models={"m": ModelCache(model)}, tenants={"acme": TenantCache(tenant_says)}
    )

    assert (maybe(cache) is not None) is is_kept
    assert cache.is_used is (top or model is True or tenant_says is True)


def test_the_time() -> None:
    """The most specific writer's: feature, tenant, model, section; 0 keeps nothing."""
    cache = CacheSettings(enabled=True, ttl_s=1)
    by_model = replace(cache, models={"m": ModelCache(ttl_s=2)})
    by_tenant = replace(by_model, tenants={"acme": TenantCache(ttl_s=3)})
    limits = {"chat": FeatureLimits(cache_ttl_seconds=4), "any_": FeatureLimits(5)}

    assert found(cache).ttl_ms == 1000
    assert found(by_model).ttl_ms == 2000
    assert found(by_tenant).ttl_ms == 3000
    assert found(by_tenant, "chat", **limits).ttl_ms == 4000
    assert found(by_tenant, "other", **limits).ttl_ms == 3000
    assert maybe(by_tenant, "chat", chat=FeatureLimits(cache_ttl_seconds=0)) is None


def test_who_shares() -> None:
    """The tenant; its project or key alone; or a pool that tenants have named."""
    cache = CacheSettings(enabled=True)

    def shared(**written: str) -> tuple[Shelf, str]:
        rule = found(replace(cache, tenants={"acme": TenantCache(**written)}))  # type: ignore[arg-type]
        return rule.shelf, rule.scope

    assert shared() == (Shelf("replies", "acme"), "")
    assert shared(share="project") == (Shelf("replies", "acme"), "project/default")
    assert shared(share="key") == (Shelf("replies", "acme"), "key/k1")
    assert shared(pool="all") == (Shelf("replies", "all", is_pool=True), "")
    assert Shelf("replies", "acme").head != Shelf("replies", "acme", is_pool=True).head


def test_what_it_costs() -> None:
    """Nothing, unless the section or the feature says so; then the share that is not discounted."""
    cache = CacheSettings(enabled=True, discount_ppm=250_000)
    charged = replace(cache, is_free=False)
    paid, free = (FeatureLimits(exclude_cache_from_billing=each) for each in (False, True))

    assert found(cache).billed_ppm == 0
    assert found(charged).billed_ppm == 750_000
    assert found(cache, "paid", paid=paid).billed_ppm == 750_000
    assert found(charged, "free", free=free).billed_ppm == 0
    own = replace(charged, tenants={"acme": TenantCache(discount_ppm=0)})
    assert found(own).billed_ppm == PPM


def test_chance() -> None:
    """The model's bound goes before the section's."""
    cache = CacheSettings(enabled=True, temperature_max=Decimal(1))
    own = replace(cache, models={"m": ModelCache(temperature_max=Decimal(0))})

    assert (found(cache).temperature_max, found(own).temperature_max) == (1, 0)


def test_bounds() -> None:
    """A budget is for all shards; a tenant's part is at most a shard's."""
    cache = CacheSettings(budget_mb=16, tenant_budget_mb=2, max_entry_bytes=9, repeat_budget_mb=8)

    assert cache.bounds(16) == Bounds(1024 * 1024, 2 * 1024 * 1024, 9)
    assert replace(cache, tenant_budget_mb=None).bounds(4).owner == 4 * 1024 * 1024
    assert cache.repeat_bounds(8) == Bounds(1024 * 1024, 512 * 1024, 1_048_576)
