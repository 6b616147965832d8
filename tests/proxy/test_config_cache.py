"""`cache` in the configuration."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from config_samples import BASE, faults, loaded

from proxy.cache_rules import NOTHING_KEPT, CacheSettings, ModelCache, TenantCache

ALL = """\
cache:
  enabled: true
  ttl_seconds: 60
  temperature_max: 0.5
  exclude_cache_from_billing: false
  discount: 0.25
  budget_mb: 512
  tenant_budget_mb: 8
  max_entry_bytes: 2048
  coalesce_wait_s: 5
  url: redis://127.0.0.1:6380/1
  salt: ${SALT}
  idempotency_budget_mb: 32
  idempotency_entry_bytes: 4096
metering: {idempotency_window_hours: 2}
tenants:
  - {id: a, cache: {enabled: true, ttl_seconds: 5, share: key, discount: 0.5}}
  - {id: b, cache: {pool: common}}
  - {id: c}
"""


def test_without_a_section_nothing_is_kept(tmp_path: Path) -> None:
    """The defaults are those of the room."""
    made = loaded(tmp_path, BASE).settings

    assert made.cache == CacheSettings(salt=b"weir:weir")
    assert not made.cache.is_used
    assert not NOTHING_KEPT.is_used
    assert made.cache_url is None


def test_every_key_reaches_its_place(tmp_path: Path) -> None:
    """As somebody who wants all of it writes it."""
    text = BASE.replace(
        "  small: {", "  small: {cache: {enabled: false, ttl_seconds: 9, temperature_max: 1}, ", 1
    )
    made = loaded(tmp_path, text + ALL, SALT="0123456789abcdef").settings

    assert made.cache == CacheSettings(
        enabled=True,
        ttl_s=60,
        temperature_max=Decimal("0.5"),
        is_free=False,
        discount_ppm=250_000,
        budget_mb=512,
        tenant_budget_mb=8,
        max_entry_bytes=2048,
        coalesce_wait_s=5.0,
        repeat_budget_mb=32,
        repeat_ttl_ms=7_200_000,
        repeat_entry_bytes=4096,
        salt=b"0123456789abcdef",
        models={"small": ModelCache(enabled=False, ttl_s=9, temperature_max=Decimal(1))},
        tenants={
            "a": TenantCache(enabled=True, ttl_s=5, share="key", discount_ppm=500_000),
            "b": TenantCache(pool="common"),
        },
    )
    assert made.cache_url is not None
    assert made.cache_url.reveal() == "redis://127.0.0.1:6380/1"
    assert "6380" not in repr(made.cache_url)


WRONG: dict[str, tuple[str, str]] = {
    "url": ("cache: {url: ftp://x}", "cache.url"),
    "salt": ("cache: {salt: short}", "cache.salt: has 5 characters"),
    "too large": ("cache: {budget_mb: 1, max_entry_bytes: 65537}", "cache.max_entry_bytes"),
    "a tenant's": (
        "cache: {tenant_budget_mb: 1, max_entry_bytes: 1048577}",
        "cache.max_entry_bytes",
    ),
    "a repeat": (
        "cache: {idempotency_budget_mb: 1}",
        "cache.idempotency_entry_bytes: 1048576 bytes are more than a tenant's part",
    ),
    "pool": ("tenants: [{id: a, cache: {pool: 'a b'}}]", "'a b' cannot be the name of a pool"),
    "both": ("tenants: [{id: a, cache: {pool: x, share: key}}]", "a pool is shared by whole"),
    "discount": ("cache: {discount: 0.00000001}", "cache.discount"),
    "unknown": ("cache: {ttl: 5}", "cache.ttl"),
}


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    """Is told with its place."""
    assert any(message in each for each in faults(tmp_path, BASE + text + "\n"))


def test_what_does_nothing_without_a_cache(tmp_path: Path) -> None:
    """A time to live, a share of the bill and a step that lets kept answers through."""
    text = (
        "tenants:\n"
        "  - {id: b, cache: {share: key}}\n"
        "  - {id: a, cache: {discount: 0.5, pool: x}, limits: {feature: {cache_ttl_seconds: 5},\n"
        "     tenant: {daily_cap: 5, degrade: [{at: 0.9, cache_only: true}]}}}\n"
    )

    def warned(head: str) -> set[str]:
        warnings = loaded(tmp_path, BASE + head + text).warnings
        return {each.path.rpartition(".")[2] for each in warnings if "no answers" in each.message}

    assert warned("") == {"discount", "pool", "share", "cache_ttl_seconds", "cache_only"}
    assert warned("cache: {ttl_seconds: 5}\n") == warned("") | {"ttl_seconds"}
    assert warned("cache: {enabled: false, ttl_seconds: 5}\n") == warned("")
    assert warned("cache: {enabled: true}\n") == set()
