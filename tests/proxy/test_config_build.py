"""Checks that span sections: caps over prices, fallbacks, minted keys over the host."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config import ConfigFaults, Loaded, load


def loaded(directory: Path, text: str, **env: str) -> Loaded:
    path = directory / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path, env)


def faults(directory: Path, text: str, **env: str) -> list[str]:
    with pytest.raises(ConfigFaults) as caught:
        loaded(directory, text, **env)
    return [str(fault) for fault in caught.value.faults]


BASE = """\
providers:
  sim: {type: simulator}
models:
  big: {upstreams: [{provider: sim, model: up-big}], fallbacks: [small]}
  small: {upstreams: [{provider: sim, model: up-small}]}
pricing:
  rules:
    - {model: "up-*", input_per_mtok: 2, output_rate: 5e-6, cache_read_per_mtok: 0.5,
       multiplier: 1.25}
"""


CAPPED = "tenants: [{id: t, models: [big], limits: {tenant: {daily_cap: 5}}}]\n"


def test_a_money_cap_over_an_unpriced_model(tmp_path: Path) -> None:
    """What a capped tenant can reach, by fallbacks too, has a price; the rule to add is named."""
    unpriced = BASE.replace('"up-*"', "up-big")

    assert faults(tmp_path, unpriced + CAPPED) == [
        (
            "5:46 models.small.upstreams[0].model: no price for sim/up-small, which tenant 't' may "
            "use under a money cap (add to pricing.rules: {model: up-small, input_per_mtok: ..., "
            "output_per_mtok: ...})"
        )
    ]
    assert loaded(tmp_path, unpriced + CAPPED.replace("daily_cap: 5", "daily_cap: null"))
    assert loaded(tmp_path, BASE + CAPPED)


def test_a_fallback_cycle(tmp_path: Path) -> None:
    """Fallbacks that lead back are refused, with the circle written out."""
    text = BASE.replace("up-small}]}", "up-small}], fallbacks: [big]}")

    assert faults(tmp_path, text) == [
        (
            "4:54 models.big.fallbacks: the fallbacks run in a circle: big -> small -> big "
            "(take 'big' out of the fallbacks of 'small')"
        )
    ]


def test_the_example_of_a_minted_key_stays_at_home(tmp_path: Path) -> None:
    """A key that `serve` mints is refused when other machines could use it."""
    text = "tenants: [{id: t, keys: [{id: k, mint: true}]}]\nserver: {host: HOST}\n"

    for host in ("127.0.0.1", "localhost", '"::1"', "127.8.8.8"):
        assert loaded(tmp_path, text.replace("HOST", host)).settings.minted_keys
    for host in ("0.0.0.0", "10.0.0.1", "proxy.internal", '"::"'):
        assert "a minted key is for trying out" in faults(tmp_path, text.replace("HOST", host))[0]
