"""Other prices than the list price: which hold, how they combine, what they are called."""

from __future__ import annotations

import pytest
from hypothesis import given
from price_samples import VARIANTS

from metering.money import PPM
from metering.price_variants import (
    OTHERWISE,
    ContextTier,
    Overlay,
    TierChoice,
    Variants,
    choose_tier,
    is_standard,
    read_variants,
)

LIST = {"input_uncached": 2_500_000, "input_cache_read": 250_000, "output_text": 15_000_000}
GPT = Variants(
    context=(ContextTier(272_000, Overlay(None, 2_000_000, 1_500_000)),),
    tiers={
        "flex": Overlay(None, 500_000, 500_000),
        "batch": Overlay(None, 500_000, 500_000),
        "priority": Overlay(
            {"input_uncached": 5_000_000, "input_cache_read": 500_000, "output_text": 30_000_000}
        ),
    },
    regions={"eu": Overlay(None, 1_100_000, 1_100_000)},
)

COMBINED: dict[str, tuple[str | None, str | None, int, tuple[int, int, int], str | None]] = {
    "the list price": (None, None, 272_000, (2_500_000, 250_000, 15_000_000), None),
    "a long prompt": (
        None,
        None,
        272_001,
        (5_000_000, 500_000, 22_500_000),
        "prompts above 272000 tokens",
    ),
    "flex": ("flex", None, 1, (1_250_000, 125_000, 7_500_000), "service tier flex"),
    "a batch": ("batch", None, 1, (1_250_000, 125_000, 7_500_000), "service tier batch"),
    "priority, by rates": (
        "priority",
        None,
        1,
        (5_000_000, 500_000, 30_000_000),
        "service tier priority",
    ),
    "a region": (None, "eu", 1, (2_750_000, 275_000, 16_500_000), "region eu"),
    "a region without a factor": (None, "us", 1, (2_500_000, 250_000, 15_000_000), None),
    "a tier that is not there": ("x", None, 1, (2_500_000, 250_000, 15_000_000), None),
    "all at once": (
        "flex",
        "eu",
        300_000,
        (2_750_000, 275_000, 12_375_000),
        "service tier flex, prompts above 272000 tokens, region eu",
    ),
    "rates times factors": (
        "priority",
        "eu",
        300_000,
        (11_000_000, 1_100_000, 49_500_000),
        "service tier priority, prompts above 272000 tokens, region eu",
    ),
}


@pytest.mark.parametrize("name", COMBINED)
def test_conditions_combine(name: str) -> None:
    """Rates take the place of the list price, factors of all conditions are multiplied."""
    tier, region, tokens, rates, words = COMBINED[name]

    key = GPT.key(tier, region, tokens)

    assert tuple(GPT.rates(LIST, key).values()) == rates
    assert GPT.words(key) == words


def test_the_highest_border_that_is_passed_holds() -> None:
    """It holds for the whole, and not on top of the lower one."""
    steps = tuple(ContextTier(n, Overlay(None, n * PPM, PPM)) for n in (2, 3, 5))

    found = [
        Variants(steps).rates({"input_uncached": 1}, Variants(steps).key(None, None, tokens))
        for tokens in (2, 3, 4, 5, 6)
    ]

    assert [each["input_uncached"] for each in found] == [1, 2, 3, 3, 5]


def test_factors_are_rounded_once() -> None:
    """1 pico x 0.5 x 1.1 x 2 is 1.1, hence 1; half of one, rounded first, would have been 0."""
    made = Variants(
        (ContextTier(1, Overlay(None, 2 * PPM, PPM)),),
        {"flex": Overlay(None, 500_000, PPM)},
        {"eu": Overlay(None, 1_100_000, PPM)},
    )

    assert made.rates({"input_uncached": 1}, made.key("flex", "eu", 2)) == {"input_uncached": 1}


def test_what_is_no_token_costs_the_same_everywhere() -> None:
    """An image or a search has no tier."""
    rates = GPT.rates({**LIST, "image": 7, "web_search": 9}, GPT.key("flex", "eu", 300_000))

    assert (rates["image"], rates["web_search"]) == (7, 9)


@given(VARIANTS)
def test_what_is_published_is_read_back(made: Variants) -> None:
    """The worker has the conditions that the proxy has."""
    assert read_variants(made.body()) == made


def test_a_rule_without_conditions_has_none() -> None:
    """Most rules."""
    assert read_variants(None) is None


CHOICES: dict[str, tuple[str | None, str | None, str | None, str | None, bool]] = {
    # reported, asked, usual -> chosen, doubted
    "nothing said": (None, None, None, None, False),
    "nothing said, an account that is on flex": (None, None, "flex", "flex", False),
    "automatic, an account that is on flex": ("auto", "auto", "flex", "flex", False),
    "reported as usual, whatever was asked": ("default", "priority", "flex", None, False),
    "another vendor's word for it": ("standard", "flex", None, None, False),
    "reported goes before asked": ("flex", "priority", None, "flex", False),
    "in capitals": ("FLEX", None, None, "flex", False),
    "asked and not reported": (None, "priority", None, "priority", False),
    "asked for the list price": (None, "standard_only", "flex", None, False),
    "reported without a price, asked with one": ("scale", "flex", None, "flex", True),
    "reported without a price": ("scale", None, None, "priority", True),
    "asked without a price": (None, "scale", None, "priority", True),
}


@pytest.mark.parametrize("name", CHOICES)
def test_the_tier_that_is_billed(name: str) -> None:
    """What was reported, else what was asked for; what has no price is doubted and never cheap."""
    reported, asked, usual, tier, is_doubted = CHOICES[name]

    choice = choose_tier(GPT, LIST, reported=reported, asked=asked, usual=usual)

    assert choice.tier == tier
    assert (choice.doubt is not None) == is_doubted


def test_otherwise_stands_for_every_tier_that_is_not_named() -> None:
    """Nothing is doubted then."""
    made = Variants(tiers={"flex": Overlay(None, 1, 1), OTHERWISE: Overlay(None, 3 * PPM, PPM)})

    choice = choose_tier(made, LIST, reported="scale", asked=None, usual=None)

    assert choice == TierChoice(OTHERWISE)


def test_without_dearer_tiers_the_list_price_is_the_dearest() -> None:
    """An unknown tier is never billed at a discount; nor is one of a rule without tiers."""
    cheap = Variants(tiers={"flex": Overlay(None, 500_000, 500_000)})

    for made in (cheap, None):
        choice = choose_tier(made, LIST, reported="turbo", asked=None, usual=None)
        assert choice == TierChoice(None, "the service tier `turbo` has no price")


@pytest.mark.parametrize("word", [None, "default", "Standard", "auto", "on_demand"])
def test_words_for_the_list_price(word: str | None) -> None:
    """Vendors have several."""
    assert is_standard(word)
    assert not is_standard("flex")
