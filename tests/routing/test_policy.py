"""Ranking and admission: order kept, reasons given, cheaper only when it is cheaper."""

from __future__ import annotations

from decimal import Decimal

from metering.caps import (
    Stage,
    Stairs,
    Vector,
)
from metering.money import rate_pico_per_mtok
from metering.prices import Price, PriceBook, PriceRule
from routing.policy import Option, admission, rank
from routing.upstreams import Upstream

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


def test_own_options_go_up_to_the_threshold() -> None:
    """With something cheaper to degrade to, the own options stop at the threshold."""
    made = admission([option(A, 100)], [option(B, 10)], threshold_ppm=800_000)

    assert [candidate.stage for candidate in made.candidates] == [0, 1]
    assert made.stairs == Stairs("burst", (Stage(800_000, 800_000),))
    assert made.steps == (False, True)


def test_a_dearer_or_unpriced_model_is_no_degradation() -> None:
    """What is not cheaper, or has no price, is not degraded to; the own options use the cap."""
    made = admission(
        [option(A, 100)], [option(B, 100), option(C, 1, priced=False)], threshold_ppm=800_000
    )

    assert ([candidate.stage for candidate in made.candidates], made.stairs) == ([0], None)
    assert made.options == (option(A, 100),)


def test_a_degradation_is_cheaper_than_what_would_have_been_used() -> None:
    """With a dear second upstream, what is dearer than the first one is no degradation."""
    made = admission(
        [option(A, 1_000), option(B, 10_000)], [option(C, 5_000)], threshold_ppm=800_000
    )

    assert made.steps == (False, False)
