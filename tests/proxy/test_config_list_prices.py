"""List prices for models that a file serves without a rule."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config import ConfigFaults, Loaded, load

FILE = """
providers:
  openai: {type: openai, api_key: "${KEY}"}
  own: {type: openai, api_key: "${KEY}", base_url: "http://localhost:9000/v1"}
models:
  gpt-4o: {upstreams: [{provider: PROVIDER, model: gpt-4o}]}
tenants: [{id: acme, limits: {tenant: {daily_cap: 5}}}]
"""


def _load(folder: Path, pricing: str, provider: str = "openai") -> Loaded:
    path = folder / "config.yaml"
    path.write_text(FILE.replace("PROVIDER", provider) + pricing, encoding="utf-8")
    return load(path, {"KEY": "sk-x"})


def _faults(folder: Path, pricing: str, provider: str = "openai") -> list[str]:
    with pytest.raises(ConfigFaults) as caught:
        _load(folder, pricing, provider)
    return [str(each) for each in caught.value.faults]


def test_without_the_setting_nothing_has_a_list_price(tmp_path: Path) -> None:
    """A release that knows new prices changes nobody's by itself."""
    assert "no price for openai:gpt-4o" in _faults(tmp_path, "")[0].replace("/", ":")


def test_a_served_model_has_its_vendors_price(tmp_path: Path) -> None:
    """For its own account, at the multiplier of the list; other models are in no book."""
    book = _load(tmp_path, "pricing: {list_prices: true, list_multiplier: 1.2}").settings.prices

    [rule] = book.rules
    assert (rule.model, rule.provider, rule.multiplier_ppm) == ("gpt-4o", "openai", 1_200_000)
    price = book.find(provider="openai", model="gpt-4o", public_name="gpt-4o")
    assert price is not None
    assert (price.cost.rates_pico["output_text"], price.sell.rates_pico["output_text"]) == (
        10_000_000,
        12_000_000,
    )


def test_a_rule_goes_before_the_list(tmp_path: Path) -> None:
    """Even a pattern: who wrote a rule meant it."""
    rules = '[{model: "gpt-*", input_per_mtok: 1, output_per_mtok: 2}]'

    book = _load(tmp_path, f"pricing: {{list_prices: true, rules: {rules}}}").settings.prices

    assert [each.model for each in book.rules] == ["gpt-*"]


def test_an_own_server_needs_a_rule(tmp_path: Path) -> None:
    """That it speaks a vendor's format does not make it cost the vendor's price."""
    assert "no price for" in _faults(tmp_path, "pricing: {list_prices: true}", "own")[0]


@pytest.mark.parametrize("multiplier", ["0", "-1", "1001", "0.0000001"])
def test_the_multiplier_is_checked(tmp_path: Path, multiplier: str) -> None:
    """More than nothing, and no slip."""
    found = _faults(tmp_path, f"pricing: {{list_prices: true, list_multiplier: {multiplier}}}")

    assert any("list_multiplier" in each for each in found)
