"""Tenants of the registry beside those of the file."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from config_samples import BASE

from metering.registry_body import BrokenRegistryError, Snapshot
from proxy.config import ConfigFaults, Loaded, load

FILE = BASE + "\nlimits: {tenant: {daily_cap: 50}}\ntenants: [{id: ours, name: Ours}]\n"
KEY = {"id": "k1", "sha256": "a" * 64, "project": "web", "expires_at": "2026-01-31T00:00:00Z"}
ACME = {"id": "acme", "projects": [{"id": "web"}], "keys": [KEY]}


def read(folder: Path, *tenants: dict[str, Any], text: str = FILE) -> Loaded:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path, {}, data_dir=folder, registry=lambda _: Snapshot(3, tenants))


def test_a_tenant_of_the_registry_is_one_like_any(tmp_path: Path) -> None:
    """Limits at the top of the file are its own, too; what it is made of is in one place only."""
    made = read(tmp_path, ACME)
    settings = made.settings

    acme = settings.tenants["acme"]
    assert (acme.limits.daily_cap_nano, acme.is_registered) == (50_000_000_000, True)
    [key] = acme.keys
    assert (key.project, key.sha256) == ("web", "a" * 64)
    assert key.expires_ns == 1_769_817_600_000_000_000
    assert not settings.tenants["ours"].is_registered
    assert settings.registry == made.registry.version == Snapshot(3, (ACME,)).version
    assert made.warnings == ()


def test_the_file_goes_before(tmp_path: Path) -> None:
    """Of two with one id the file's is served, and that is said."""
    made = read(tmp_path, {"id": "ours", "name": "Theirs"}, ACME)

    assert made.settings.tenants["ours"].name == "Ours"
    assert "acme" in made.settings.tenants
    [warning] = made.warnings
    assert "registry.ours: stands in the file, too" in str(warning)


def test_a_fault_stops_its_tenant_alone(tmp_path: Path) -> None:
    """It is named with its reason; the file is sound, and so are the others."""
    made = read(
        tmp_path,
        {"id": "a", "models": ["smal"]},
        {"id": "b", "limits": {"tenant": {"daily_cap": "10"}}},
        {"id": "c", "colour": 1},
        {"id": "d", "name": "${HOME}", "limits": {"tenant": {"daily_cap": Decimal("1.50")}}},
        {"id": "e", "keys": [{**KEY, "project": "default"}, {**KEY, "id": "k2"}]},
        {"no": "id"},
        {**ACME, "keys": [{**KEY, "sha256": "b" * 64, "expires_at": "soon"}]},
    )

    assert sorted(made.settings.tenants) == ["d", "ours"]
    assert made.settings.tenants["d"].name == "${HOME}"
    assert made.settings.tenants["d"].limits.daily_cap_nano == 1_500_000_000
    left_out = dict(made.registry.left_out)
    assert left_out["a"] == "models[0]: unknown model 'smal' (did you mean 'small'?)"
    assert left_out["c"].startswith("colour: unknown key")
    assert "must be a number" in left_out["b"]
    assert "no RFC 3339 time" in left_out["acme"]
    assert sorted(left_out) == ["None", "a", "acme", "b", "c", "e"]


def test_a_fault_of_the_file_is_the_files(tmp_path: Path) -> None:
    """Nobody who edits it is told of the registry's."""
    with pytest.raises(ConfigFaults) as caught:
        read(tmp_path, {"id": "a", "colour": 1}, text=FILE + "colour: 1\n")

    assert [each.path for each in caught.value.faults] == ["colour"]


def test_a_model_without_a_price_stops_nobody_elsewhere(tmp_path: Path) -> None:
    """For a tenant of the file that is a fault; one of the registry is refused by the model."""
    text = FILE.replace("{id: ours, name: Ours}", "{id: ours, limits: {tenant: {daily_cap: null}}}")
    text = text.replace("models:\n", "models:\n  dear: {upstreams: [{provider: sim, model: x9}]}\n")
    made = read(tmp_path, ACME, text=text)

    assert "acme" in made.settings.tenants
    assert any("acme" in str(each) and "no price" in str(each) for each in made.warnings)


def test_a_cap_of_a_key_that_is_gone_counts_nothing(tmp_path: Path) -> None:
    """Revoking a key must not take its tenant from service."""
    cap = {"scope": "key", "window": "day", "usd": 1}
    tenant = {**ACME, "limits": {"caps": [{**cap, "id": "k1"}, {**cap, "id": "gone"}]}}
    made = read(tmp_path, tenant)

    assert [each.id for each in made.settings.tenants["acme"].cap_rules] == ["k1"]


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    """The file is served without it."""

    def broken(folder: Path) -> Snapshot:
        raise BrokenRegistryError("half of it is missing")

    path = tmp_path / "config.yaml"
    path.write_text(FILE, encoding="utf-8")
    made = load(path, {}, data_dir=tmp_path, registry=broken)

    assert list(made.settings.tenants) == ["ours"]
    assert "half of it is missing" in str(made.warnings[0])


PLANS = """
plans:
  - {id: pro, charges: [{id: base, kind: flat, amount: 49}]}
"""


def test_the_worker_knows_them_like_any(tmp_path: Path) -> None:
    """Plan, prepaid credit and the party of invoices are read from the same places."""
    tenant = {
        **ACME,
        "plan": [{"id": "pro", "from": "2026-01-01"}],
        "prepaid": {"hard_stop": True},
        "billing": {"name": "Acme Ltd"},
    }
    settings = read(tmp_path, tenant, text=FILE + PLANS).settings

    assert settings.tenants["acme"].is_stopped_by_balance
    assert [each.plan for each in settings.assignments["acme"]] == ["pro"]
    assert settings.invoicing.customers["acme"].name == "Acme Ltd"
