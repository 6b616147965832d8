"""`passthrough` of the file: read exactly, and refused where it is absurd or unsafe."""

from __future__ import annotations

from pathlib import Path

import pytest
from config_samples import BASE, faults, loaded

from metering.money import NANO_PER_USD
from proxy.passthrough_rules import ALLOWED, Terms

KEYS = "keys: [{id: %s, sha256: %s}]"
TENANTS = f"""\
tenants:
  - {{id: acme, name: Acme, {KEYS % ("a", "a" * 64)}}}
  - {{id: other, name: Other, models: [small], {KEYS % ("b", "b" * 64)}}}
"""
OWN = BASE.replace(
    "  sim: {type: simulator}\n", "  sim: {type: simulator}\n  own: {type: simulator}\n"
)


def test_everything_written(tmp_path: Path) -> None:
    """Amounts are exact, a price that is left out is the hold, and the book has both."""
    text = (
        OWN
        + TENANTS
        + """\
passthrough:
  provider: sim
  hold_usd: 0.10
  allow: [images, batches]
  paths: {images: {hold_usd: 0.25, price_usd: 0.04}, batches: {hold_usd: 20}}
  tenants: {acme: own}
  objects_max: 7
"""
    )

    settings = loaded(tmp_path, text).settings

    found = settings.passthrough
    assert found is not None
    assert (found.provider, found.hold_nano, found.objects_max) == ("sim", 10**8, 7)
    assert found.terms == {
        "images": Terms(NANO_PER_USD // 4, NANO_PER_USD // 25),
        "batches": Terms(20 * NANO_PER_USD),
    }
    assert found.allowed == {"images", "batches"}
    assert (found.provider_for("acme"), found.provider_for("other")) == ("own", "sim")
    price = settings.prices.find(provider="sim", model="path:batches", public_name="path:batches")
    assert price is not None
    assert price.sell.total_nano({"api_call": 1}) == 20 * NANO_PER_USD


def test_the_least_that_can_be_written(tmp_path: Path) -> None:
    """A provider is enough; keys past us are not given out."""
    settings = loaded(tmp_path, f"{BASE}passthrough: {{provider: sim}}\n").settings

    assert settings.passthrough is not None
    assert settings.passthrough.allowed == set(ALLOWED)
    assert "realtime_secrets" not in ALLOWED
    assert loaded(tmp_path, BASE).settings.passthrough is None


def test_a_rule_of_ones_own_goes_first(tmp_path: Path) -> None:
    """A margin on a flat price is a rule with its name."""
    text = BASE.replace(
        "  rules:\n",
        "  rules:\n    - {model: 'path:images', unit_rates: {image: 0.04}, multiplier: 1.5}\n",
    )

    settings = loaded(
        tmp_path, f"{text}passthrough: {{provider: sim, paths: {{images: {{hold_usd: 1}}}}}}\n"
    ).settings

    price = settings.prices.find(provider="sim", model="path:images", public_name="path:images")
    assert price is not None
    assert price.sell.total_nano({"image": 1}) == 60_000_000


FAULTS = {
    "provider": ("passthrough: {provider: simm}", "did you mean 'sim'?"),
    "family": ("passthrough: {provider: sim, paths: {image: {}}}", "did you mean 'images'?"),
    "allow": ("passthrough: {provider: sim, allow: [imagess]}", "did you mean 'images'?"),
    "negative": ("passthrough: {provider: sim, hold_usd: -1}", "from 0 to 1000 USD"),
    "month": ("passthrough: {provider: sim, hold_usd: 5000}", "from 0 to 1000 USD"),
    "fine": ("passthrough: {provider: sim, hold_usd: 1e-12}", "finer than one"),
    "price": (
        "passthrough: {provider: sim, paths: {images: {hold_usd: 1, price_usd: 2}}}",
        "hold at least the price",
    ),
    "tenant": ("passthrough: {provider: sim, tenants: {acmee: own}}", "did you mean 'acme'?"),
    "shared": ("passthrough: {provider: sim, tenants: {acme: sim}}", "credential of its own"),
    "twice": (
        "passthrough: {provider: sim, tenants: {acme: own, other: own}}",
        "is the account of tenant 'acme'",
    ),
    "unknown_key": ("passthrough: {provider: sim, hold: 1}", "hold_usd"),
}


@pytest.mark.parametrize(("section", "said"), FAULTS.values(), ids=FAULTS)
def test_faults(tmp_path: Path, section: str, said: str) -> None:
    """Each names the key and what to write."""
    found = faults(tmp_path, f"{OWN}{TENANTS}{section}\n")

    assert len(found) == 1
    assert said in found[0]
    assert "passthrough" in found[0]


def test_an_account_that_others_reach_by_a_model(tmp_path: Path) -> None:
    """What they store there the tenant could read; whoever may not use the model does not count."""
    text = OWN.replace("sim, model: up-big", "own, model: up-big")
    section = "passthrough: {provider: sim, tenants: {%s: own}}\n"

    assert (
        "model 'big' has an upstream at 'own'"
        in faults(tmp_path, text + TENANTS + section % "other")[0]
    )
    assert loaded(tmp_path, text + TENANTS + section % "acme").settings.passthrough is not None
