"""Two books side by side."""

from __future__ import annotations

from dataclasses import replace

import pytest

from metering.price_diff import CONDITIONS, RateChange, compare
from metering.price_variants import Overlay, Variants
from metering.prices import PriceBook, PriceRule
from metering.usage import INPUT_CLASSES

RULE = PriceRule("m", 1_000, 4_000, class_rates_pico={"input_cache_read": 100})
BOOK = PriceBook((RULE, PriceRule("n", 1, 1, provider="p")))


def _body(*rules: PriceRule, sell: bool = False) -> bytes:
    return PriceBook(rules).body(sell=sell)


def test_the_same_book_has_no_difference() -> None:
    """Nor has one whose rules stand in another order."""
    assert compare(BOOK.body(sell=True), _body(*reversed(BOOK.rules), sell=True)) == []


def test_a_rate_that_changed_is_told_with_its_share() -> None:
    """Classes that changed alike are one row."""
    dearer = replace(RULE, input_rate_pico=1_250)

    [found] = compare(_body(RULE), _body(dearer))

    units = tuple(sorted(unit for unit in INPUT_CLASSES if unit != "input_cache_read"))
    assert found == RateChange("m", "", "cost", units, 1_000, 1_250)
    assert found.change_ppm == 250_000


def test_what_comes_and_goes_has_no_share() -> None:
    """A new model has no price before, a dropped one none after."""
    found = compare(_body(RULE), _body(replace(RULE, model="new")))

    assert {each.model for each in found if each.before_pico is None} == {"new"}
    assert {each.model for each in found if each.after_pico is None} == {"m"}
    assert {each.change_ppm for each in found} == {None}
    assert compare(None, None) == []


def test_conditions_that_changed_are_told() -> None:
    """Without numbers: they have many."""
    flex = Variants(tiers={"flex": Overlay(None, 500_000, 500_000)})

    [found] = compare(_body(RULE), _body(replace(RULE, variants=flex)))

    assert found.units == (CONDITIONS,)


def test_sides_are_not_mixed() -> None:
    """What it costs us is not compared with what it sells for."""
    with pytest.raises(ValueError, match="cannot be compared"):
        compare(_body(RULE), _body(RULE, sell=True))
