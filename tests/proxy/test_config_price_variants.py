"""Conditions of a price, written as a list price is: exact, or a fault by its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from metering.price_variants import ContextTier, Overlay, Variants
from proxy.config import ConfigFaults, Loaded, load

BASE = "model: m, input_per_mtok: 2.50, cache_read_per_mtok: 0.25, output_per_mtok: 15"


def loaded(directory: Path, rule: str) -> Loaded:
    path = directory / "config.yaml"
    path.write_text(f"pricing:\n  rules:\n    - {rule}\n", encoding="utf-8")
    return load(path, {})


def faults(directory: Path, rule: str) -> list[str]:
    with pytest.raises(ConfigFaults) as caught:
        loaded(directory, rule)
    return [
        str(fault).partition("pricing.rules[0]")[2].lstrip(".: ") for fault in caught.value.faults
    ]


def test_a_list_price_as_it_is_published(tmp_path: Path) -> None:
    """Factors are exact parts per million, rates pico-USD per token."""
    (rule,) = loaded(
        tmp_path,
        f"{{{BASE}, "
        "context_tiers: [{above_tokens: 272000, input_factor: 2, output_factor: 1.5}], "
        "service_tier: {flex: {factor: 0.5}, Priority: {input_per_mtok: 5, "
        "cache_read_per_mtok: 0.5, output_per_mtok: 30}}, usual_service_tier: FLEX, "
        "region: {eu: {factor: 1.1}}, per_thousand: {web_search: 10.00, code_session: 30}}",
    ).settings.prices.rules

    assert rule.variants is not None
    assert rule.variants.context == (ContextTier(272_000, Overlay(None, 2_000_000, 1_500_000)),)
    assert rule.variants.tiers["flex"] == Overlay(None, 500_000, 500_000)
    assert rule.variants.regions == {"eu": Overlay(None, 1_100_000, 1_100_000)}
    priority = rule.variants.tiers["priority"].rates_pico
    assert priority is not None
    assert priority["input_cache_read"] == 500_000
    assert priority["input_cache_write_5m"] == priority["input_uncached"] == 5_000_000
    assert priority["output_reasoning"] == 30_000_000
    assert rule.usual_tier == "flex"
    assert rule.cost_rates()["web_search"] == 10_000_000_000
    assert rule.cost_rates()["code_session"] == 30_000_000_000


def test_a_rule_without_conditions_has_none(tmp_path: Path) -> None:
    """So its version stays what it was; the usual tier may be the list price."""
    (rule,) = loaded(tmp_path, f"{{{BASE}, usual_service_tier: default}}").settings.prices.rules

    assert rule.variants is None
    assert rule.usual_tier is None


ROWS: dict[str, tuple[str, str]] = {
    "nothing said": (
        "service_tier: {flex: {}}",
        "service_tier.flex: says no price (write `factor: 0.5`, or rates)",
    ),
    "both": (
        "service_tier: {flex: {factor: 0.5, input_per_mtok: 1}}",
        "service_tier.flex: has rates and factors (keep one of the two)",
    ),
    "two factors": (
        "region: {eu: {factor: 1.1, input_factor: 2}}",
        "region.eu: has `factor` and one for a side (keep one of the two)",
    ),
    "a line left out": (
        "service_tier: {flex: {input_per_mtok: 1, output_per_mtok: 7}}",
        (
            "service_tier.flex: cache_read_per_mtok is missing: the rule has a rate for it "
            "(write every rate that the rule has, or factors)"
        ),
    ),
    "two lists": (
        (
            "service_tier: {flex: {input_per_mtok: 1, cache_read_per_mtok: 1, output_per_mtok: 7}},"
            " context_tiers: [{above_tokens: 9, input_per_mtok: 1, cache_read_per_mtok: 1,"
            " output_per_mtok: 7}]"
        ),
        (
            "service_tier: 'flex' has rates, and so have context_tiers: a long prompt at this tier "
            "would have two prices (write one of the two as factors: input_factor: 2, "
            "output_factor: 1.5)"
        ),
    ),
    "zero": (
        "service_tier: {flex: {factor: 0}}",
        "service_tier.flex.factor: must be more than zero (half the list price is 0.5)",
    ),
    "in percent": (
        "region: {eu: {factor: 110}}",
        "region.eu.factor: must be at most 100 (10 % on top is 1.1)",
    ),
    "too fine": (
        "region: {eu: {input_factor: 1.0000001}}",
        "region.eu.input_factor: ratio 1.0000001 is finer than one part per million (1/1000000)",
    ),
    "a rate too dear": (
        (
            "context_tiers: [{above_tokens: 9, input_per_mtok: 2500, cache_read_per_mtok: 1,"
            " output_per_mtok: 7}]"
        ),
        "context_tiers[0].input_per_mtok: 2,500 USD per million tokens is more than 1000",
    ),
    "the list price as a tier": (
        "service_tier: {default: {factor: 1}}",
        (
            "service_tier.default: 'default' is the list price "
            "(write its rates into the rule itself)"
        ),
    ),
    "a tier twice": (
        "service_tier: {flex: {factor: 1}, FLEX: {factor: 1}}",
        "service_tier.FLEX: service tier 'flex' is there twice (keep one of the two)",
    ),
    "no such usual tier": (
        "service_tier: {flex: {factor: 1}}, usual_service_tier: flx",
        "usual_service_tier: the rule has no service tier 'flx' (did you mean 'flex'?)",
    ),
    "down": (
        "context_tiers: [{above_tokens: 9, factor: 2}, {above_tokens: 9, factor: 3}]",
        "context_tiers[1].above_tokens: must be more than that of the tier before",
    ),
    "none": (
        "context_tiers: [{above_tokens: 0, factor: 2}]",
        "context_tiers[0].above_tokens: must be at least 1",
    ),
    "the multiplier's place": (
        "service_tier: {flex: {multiplier: 0.5, factor: 1}}",
        "service_tier.flex.multiplier: unknown key",
    ),
    "a fee too dear": (
        "per_thousand: {web_search: 1000001}",
        "per_thousand.web_search: 1000.001 USD per unit is more than 1000",
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, name: str) -> None:
    """Each slip is one fault, at its place, with what to write."""
    written, expected = ROWS[name]

    assert faults(tmp_path, f"{{{BASE}, {written}}}") == [expected]


def test_a_meter_has_no_conditions(tmp_path: Path) -> None:
    """They are about tokens."""
    found = faults(
        tmp_path, "{model: w, unit_rates: {custom: 1}, service_tier: {flex: {factor: 1}}}"
    )

    assert found == ["service_tier: is about tokens, and this rule has no rates for them"]


def test_a_tier_that_we_do_not_know_is_taken_and_doubted(tmp_path: Path) -> None:
    """It may be right: vendors think of new ones. One letter beside `priority` hardly is."""
    made = loaded(
        tmp_path, f"{{{BASE}, service_tier: {{priorty: {{factor: 2}}, gold: {{factor: 3}}}}}}"
    )

    said = [str(each) for each in made.warnings if "service tier" in str(each)]
    assert len(said) == 2
    assert "did you mean 'priority'?" in said[0]
    assert "known: batch, fast, flex" in said[1]
    assert set((made.settings.prices.rules[0].variants or Variants()).tiers) == {"priorty", "gold"}


@pytest.mark.parametrize(
    ("tier", "expected"),
    [("flx", "(did you mean 'flex'?)"), ("gold", "(known: batch, fast, flex, "), ("flex", "")],
)
def test_a_tier_that_no_vendor_has_is_warned_of(tmp_path: Path, tier: str, expected: str) -> None:
    """It would never be met, and what was meant is billed at another."""
    found = loaded(tmp_path, f"{{{BASE}, service_tier: {{{tier}: {{factor: 0.5}}}}}}").warnings
    told = [str(each) for each in found if "service tier" in str(each)]

    assert [expected in each for each in told] == ([True] if expected else [])
