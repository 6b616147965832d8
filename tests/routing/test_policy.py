"""Ranking and admission: order kept, reasons given, stages that come to the same made one."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from metering.caps import (
    Vector,
)
from metering.money import PPM, rate_pico_per_mtok
from metering.price_variants import ContextTier, Overlay, Variants
from metering.prices import Price, PriceBook, PriceRule
from routing.degrade import Changes
from routing.policy import DISABLED, Option, admission, rank
from routing.upstreams import Terms, Upstream

RATE = rate_pico_per_mtok(Decimal(1))
A, B, C = (Upstream(name, "m", "m") for name in "abc")


def price() -> Price:
    found = PriceBook((PriceRule("*", RATE, RATE),)).find(provider="", model="", public_name="")
    assert found is not None
    return found


def option(upstream: Upstream, nano: int, *, priced: bool = True) -> Option:
    return Option(upstream, price() if priced else None, Vector(nano=nano))


def test_rank_keeps_the_order_and_names_the_losers() -> None:
    """What cannot be called or has no price is passed over, with the reason."""
    ranking = rank(
        {A: price(), B: price(), C: None}, unavailable={"a": "no key"}, must_be_priced=True
    )

    assert ranking.upstreams == (B,)
    assert [(loser.upstream, loser.reason) for loser in ranking.losers] == [
        (A, "no key"),
        (C, "it has no price"),
    ]


def test_without_a_cap_a_price_is_not_needed() -> None:
    """Only a money cap makes a price a condition."""
    assert rank({C: None}, unavailable={}, must_be_priced=False).upstreams == (C,)


def test_an_option_is_allowed_up_to_the_last_stage_that_has_it() -> None:
    """Stages that come to the same are one step, and the first step is the request as asked."""
    own, cheap = option(A, 100), option(B, 10)
    shorter = replace(cheap, changes=Changes(max_tokens=5))

    made = admission([[own], [own], [cheap, shorter], [cheap, shorter], [shorter]])

    assert made.options == (own, cheap, shorter, shorter)
    assert [each.stage for each in made.candidates] == [1, 3, 3, 4]
    assert made.steps == (0, 1, 1, 2)


def test_a_step_is_in_force_or_was_taken_for_want_of_room() -> None:
    """Above the last stage of the step before it is called for; else what was asked did not fit."""
    made = admission([[option(A, 100)], [option(A, 100)], [option(B, 10)]])

    assert made.is_in_force(1, 2)
    assert not made.is_in_force(1, 1)
    assert not made.is_in_force(0, 2)


def test_an_option_says_how_it_differs() -> None:
    """The model, a bound and an instruction, never the instruction's text."""
    changed = replace(option(A, 1), changes=Changes(5, "secret words"))

    assert option(A, 1).text_for("m") is None
    assert changed.text_for("m") == "max_tokens=5; instruct"
    assert changed.text_for("other") == "m; max_tokens=5; instruct"


def test_what_is_switched_off_is_a_loser() -> None:
    """Whatever else would speak against it."""
    off = replace(A, terms=Terms(is_enabled=False))

    ranking = rank({off: None, B: price()}, unavailable={"a": "no key"}, must_be_priced=True)

    assert ranking.upstreams == (B,)
    assert [loser.reason for loser in ranking.losers] == [DISABLED]


def test_the_price_of_an_option_is_that_of_its_request() -> None:
    """At the tier it names, in the region of its upstream, for the length of its prompt."""
    variants = Variants(
        context=(ContextTier(100, Overlay(None, 3 * PPM, PPM)),),
        tiers={"flex": Overlay(None, PPM // 2, PPM // 2)},
        regions={"eu": Overlay(None, 10 * PPM, PPM)},
    )
    rules = (PriceRule("*", RATE, RATE, variants=variants),)
    found = PriceBook(rules).find(provider="", model="", public_name="")
    made = Option(A, found, Vector(), prompt_tokens=101, asked_tier="flex")
    there = replace(made, upstream=replace(A, region="eu"), prompt_tokens=100)

    rates = [each.price_asked.sell.rates_pico for each in (made, there) if each.price_asked]

    assert [each["input_uncached"] for each in rates] == [RATE * 3 // 2, RATE * 5]
    assert option(A, 1).price_asked == price()
    assert option(A, 1, priced=False).price_asked is None
