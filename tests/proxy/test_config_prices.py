"""Price rules: slips that would bill wrongly are caught, and what is right is exact."""

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


_ONE_METER = (
    "model: a rule without token rates is for one meter, and for no model that is served here "
    "(name the meter, or give input and output rates)"
)

RULES: dict[str, tuple[str, str | None]] = {
    "a meter": ("{model: web_search, unit_rates: {custom: 0.01, api_call: 0.5}}", None),
    "images of a model": (
        "{model: m, input_rate: 1e-6, output_rate: 1e-6, unit_rates: {image: 0.04}}",
        None,
    ),
    "calls of a model": (
        "{model: m, input_rate: 1e-6, output_rate: 1e-6, unit_rates: {api_call: 0.01}}",
        (
            "unit_rates.api_call: a call to a model is billed by its tokens, and no hold has room "
            "for more (put it into a rule of its own, without token rates)"
        ),
    ),
    "meters by a glob": ('{model: "web_*", unit_rates: {custom: 0.01}}', _ONE_METER),
    "negative unit": (
        "{model: w, unit_rates: {custom: -1}}",
        "unit_rates.custom: a rate of -1 is negative",
    ),
    "free unit": (
        "{model: w, unit_rates: {custom: 0}}",
        "unit_rates.custom: a rate of zero bills nothing (say `free: true` if it is meant)",
    ),
    "dear unit": (
        "{model: w, unit_rates: {custom: 1001}}",
        "unit_rates.custom: 1001 USD per unit is more than 1000",
    ),
    "fine unit": (
        "{model: w, unit_rates: {custom: 1e-13}}",
        "unit_rates.custom: rate 1E-13 is finer than one pico-USD per token",
    ),
    "per token in the place of per million": (
        "{model: m, input_rate: 2.50, output_per_mtok: 1}",
        (
            "input_rate: 2,500,000 USD per million tokens is more than 1000 "
            "(did you mean input_per_mtok: 2.50?)"
        ),
    ),
    "too dear": (
        "{model: m, input_per_mtok: 1001, output_per_mtok: 1}",
        "input_per_mtok: 1,001 USD per million tokens is more than 1000",
    ),
    "the dearest": ("{model: m, input_per_mtok: 1000, output_rate: 0.001}", None),
    "both forms": (
        "{model: m, input_rate: 1e-6, input_per_mtok: 1, output_rate: 1e-6}",
        "input_per_mtok: input_rate gives the same rate already (keep one of the two)",
    ),
    "neither form": (
        "{model: m, output_rate: 1e-6}",
        "input_rate or input_per_mtok is missing",
    ),
    "negative": (
        "{model: m, input_rate: -1e-6, output_rate: 1e-6}",
        "input_rate: a rate of -0.000001 is negative",
    ),
    "zero": (
        "{model: m, input_rate: 0, output_rate: 1e-6}",
        "input_rate: a rate of zero bills nothing (say `free: true` if it is meant)",
    ),
    "free": ("{model: m, free: true}", None),
    "free by numbers": ("{model: m, free: true, input_rate: 0, output_rate: 0}", None),
    "too fine": (
        "{model: m, input_rate: 1.0000001e-6, output_rate: 1e-6}",
        "input_rate: rate 0.0000010000001 is finer than one pico-USD per token",
    ),
    "multiplier": (
        "{model: m, input_rate: 1e-6, output_rate: 1e-6, multiplier: 0}",
        "multiplier: must be more than zero (say `free: true` for no charge)",
    ),
    "provider": (
        "{model: m, provider: opena, input_rate: 1e-6, output_rate: 1e-6}",
        "provider: unknown provider 'opena' (did you mean 'openai'?)",
    ),
}


@pytest.mark.parametrize(("rule", "expected"), RULES.values(), ids=RULES)
def test_price_rules(tmp_path: Path, rule: str, expected: str | None) -> None:
    """A rate that would bill wrongly is refused with what was probably meant."""
    text = f"providers: {{openai: {{type: openai}}}}\npricing:\n  rules:\n    - {rule}\n"

    if expected is None:
        assert len(loaded(tmp_path, text).settings.prices.rules) == 1
    else:
        head, found = "pricing.rules[0]", faults(tmp_path, text)
        assert [each.partition(head)[2].lstrip(".: ") for each in found] == [expected]


def test_a_meter_has_the_rates_of_its_units_and_no_others(tmp_path: Path) -> None:
    """A token finds no rate there, so it is not free by mistake."""
    rule = "{model: web_search, unit_rates: {custom: 0.01}, multiplier: 1.5}"
    prices = loaded(tmp_path, f"pricing: {{rules: [{rule}]}}").settings.prices

    price = prices.find(provider="external", model="web_search", public_name="web_search")

    assert price is not None
    assert dict(price.cost.rates_pico) == {"custom": 10_000_000_000}
    assert dict(price.sell.rates_pico) == {"custom": 15_000_000_000}


def test_a_served_model_has_token_rates(tmp_path: Path) -> None:
    """By its public name or its upstream's: its requests would find a price without tokens."""
    text = """
providers: {one: {type: simulator}}
models: {big: {upstreams: [{provider: one, model: up}]}}
pricing: {rules: [{model: big, unit_rates: {image: 1}}, {model: up, unit_rates: {image: 1}}]}
"""

    assert [fault.rpartition("rules")[2] for fault in faults(tmp_path, text)] == [
        f"[{at}].{_ONE_METER}" for at in range(2)
    ]
