"""Checks that span sections: caps over prices, fallbacks, minted keys over the host."""

from __future__ import annotations

from pathlib import Path

import pytest
from config_samples import BASE, faults, loaded

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
    assert loaded(tmp_path, BASE + CAPPED).warnings == ()


def test_an_unpriced_model_without_a_money_cap(tmp_path: Path) -> None:
    """It is served for nothing, so its author is warned, with the rule to add."""
    unpriced = BASE.replace('"up-*"', "up-big")

    found = loaded(tmp_path, unpriced + CAPPED.replace("daily_cap: 5", "daily_cap: null"))

    assert [str(each) for each in found.warnings] == [
        (
            "5:46 models.small.upstreams[0].model: no price for sim/up-small, which tenant 't' may "
            "use without a money cap: served unpriced, billed nothing, listed as unpriced "
            "(add to pricing.rules: {model: up-small, input_per_mtok: ..., output_per_mtok: ...})"
        )
    ]


def test_models_are_suggested_by_either_name(tmp_path: Path) -> None:
    """Who writes an upstream's name, or other capitals, is told the name of the route."""
    text = BASE + "tenants: [{id: t, models: [up-big, SMALL]}]\n"

    assert [each.partition("unknown model ")[2] for each in faults(tmp_path, text)] == [
        "'up-big' (the route to it is called 'big')",
        "'SMALL' (did you mean 'small'?)",
    ]


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
    """A key that `serve` mints is switched off when other machines could use it: a warning."""
    text = "tenants: [{id: t, keys: [{id: k, mint: true}]}]\nserver: {host: HOST}\n"

    def is_warned_of(host: str) -> bool:
        warnings = loaded(tmp_path, text.replace("HOST", host)).warnings
        return any("it is switched off there" in each.message for each in warnings)

    for host in ("127.0.0.1", "localhost", '"::1"', "127.8.8.8"):
        assert not is_warned_of(host)
    for host in ("0.0.0.0", "10.0.0.1", "proxy.internal", '"::"'):
        assert is_warned_of(host)


def test_the_share_of_an_outage(tmp_path: Path) -> None:
    """A share of one, exact to a millionth; what is no share is told with its place."""
    written = "redis: {{outage_share: {}}}\n"

    share = loaded(tmp_path, BASE + written.format("0.025")).settings.redis.outage_share_ppm
    [beyond] = faults(tmp_path, BASE + written.format("1.5"))
    [finer] = faults(tmp_path, BASE + written.format("0.12345678"))

    assert share == 25_000
    assert "redis.outage_share" in beyond
    assert "redis.outage_share" in finer


@pytest.mark.parametrize("model", [".", "..", "a/../b"])
def test_a_models_name_is_no_step_of_a_path(tmp_path: Path, model: str) -> None:
    """Vendors put it into their URLs, where such a step would lead elsewhere."""
    text = f"""
providers: {{one: {{type: openai, base_url: "http://localhost:1/v1"}}}}
models: {{m: {{upstreams: [{{provider: one, model: "{model}"}}]}}}}
"""

    assert any("must have no `.` or `..`" in fault for fault in faults(tmp_path, text))
