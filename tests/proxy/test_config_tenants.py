"""Tenants: their limits over those at the top, their keys apart from each other."""

from __future__ import annotations

from pathlib import Path

import pytest
from config_samples import BASE, faults, loaded

from metering.tenants import ANY_FEATURE, FeatureLimits, SpendLimits

OWN_LIMITS = """
limits:
  tenant: {daily_cap: 50, burst_threshold: 0.8, fallback_model: small}
  feature: {max_context_tokens: 1000, cache_ttl_seconds: 60}
  features: {chat: {cache_ttl_seconds: 0}}
tenants:
  - {id: plain}
  - {id: more, limits: {tenant: {daily_cap: 100}, features: {chat: {max_context_tokens: 9}}}}
  - {id: free, limits: {tenant: {daily_cap: null, fallback_model: null}}}
"""


def test_own_limits_override_key_by_key(tmp_path: Path) -> None:
    """A tenant inherits what it does not write; a null takes a limit away."""
    tenants = loaded(tmp_path, BASE + OWN_LIMITS).settings.tenants

    assert {each.id: each.limits for each in tenants.values()} == {
        "plain": SpendLimits(50_000_000_000, 800_000, "small"),
        "more": SpendLimits(100_000_000_000, 800_000, "small"),
        "free": SpendLimits(None, 800_000, None),
    }
    assert tenants["more"].feature_limits == {
        ANY_FEATURE: FeatureLimits(1000, 60, None),
        "chat": FeatureLimits(9, 0, None),
    }


TENANTS: dict[str, tuple[str, list[str]]] = {
    "id": ("- {id: 'a/b'}", ["tenants[0].id: 'a/b' cannot be the id of a tenant"]),
    "id twice": (
        "- {id: a}\n- {id: a}",
        ["tenants[1].id: a tenant with the id 'a' exists already"],
    ),
    "model": ("- {id: a, models: [smal]}", ["tenants[0].models[0]: unknown model 'smal'"]),
    "fallback model": (
        "- {id: a, limits: {tenant: {fallback_model: smal}}}",
        ["tenants[0].limits.tenant.fallback_model: unknown model 'smal' (did you mean 'small'?)"],
    ),
    "cap too high": (
        "- {id: a, limits: {tenant: {daily_cap: 9007199.3}}}",
        ["tenants[0].limits.tenant.daily_cap: a cap is at most 9007199.25 USD"],
    ),
    "cap negative": (
        "- {id: a, limits: {tenant: {daily_cap: -1}}}",
        ["tenants[0].limits.tenant.daily_cap: a cap of -1 USD is negative"],
    ),
    "threshold": (
        "- {id: a, limits: {tenant: {burst_threshold: 80}}}",
        ["tenants[0].limits.tenant.burst_threshold: must be above 0 and at most 1, not 80"],
    ),
    "sha256": (
        "- {id: a, keys: [{id: k, sha256: abc}]}",
        ["tenants[0].keys[0].sha256: a SHA-256 has 64 hexadecimal digits"],
    ),
    "no form": (
        "- {id: a, keys: [{id: k}]}",
        ["tenants[0].keys[0]: needs exactly one of sha256, key and mint, has none"],
    ),
    "two forms": (
        "- {id: a, keys: [{id: k, key: x, mint: true}]}",
        ["tenants[0].keys[0]: needs exactly one of sha256, key and mint, has key and mint"],
    ),
    "key id twice": (
        "- {id: a, keys: [{id: k, key: x}, {id: k, key: y}]}",
        ["tenants[0].keys[1].id: a key with the id 'k' exists already"],
    ),
    "key twice": (
        "- {id: a, keys: [{id: k, key: x}]}\n- {id: b, keys: [{id: k, key: x}]}",
        ["tenants[1].keys[0].key: the same key stands on line"],
    ),
    "unset key": (
        "- {id: a, keys: [{id: k, key: '${NOPE}'}]}",
        ["tenants[0].keys[0].key: environment variable NOPE is not set"],
    ),
    "project": (
        "- {id: a, keys: [{id: k, key: x, project: web}]}",
        ["tenants[0].keys[0].project: unknown project 'web' (known: default)"],
    ),
}


@pytest.mark.parametrize(("tenants", "expected"), TENANTS.values(), ids=TENANTS)
def test_tenants(tmp_path: Path, tenants: str, expected: list[str]) -> None:
    """What would mix tenants up or leave a cap without effect is refused."""
    found = faults(tmp_path, f"{BASE}tenants:\n{tenants}\n")

    assert len(found) == len(expected)
    for one, start in zip(found, expected, strict=True):
        assert one.partition(" ")[2].startswith(start)


def test_secrets_in_the_file_are_warned_about(tmp_path: Path) -> None:
    """A literal provider key or client key works, with a warning that does not repeat it."""
    text = """
providers: {openai: {type: openai, api_key: sk-secret}}
tenants: [{id: t, keys: [{id: k, key: sk-client}]}]
"""

    warnings = [str(each) for each in loaded(tmp_path, text).warnings]

    assert any("providers.openai.api_key: a credential in clear text" in each for each in warnings)
    assert any("tenants[0].keys[0].key: a key in clear text" in each for each in warnings)
    assert any("tenants[0].keys[0].key: a short key can be guessed" in each for each in warnings)
    assert not any("sk-secret" in each or "sk-client" in each for each in warnings)
