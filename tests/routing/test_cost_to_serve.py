"""The cost to serve the next request, its margin, and what follows."""

from dataclasses import replace

import pytest

from metering.money import PPM
from metering.prices import PriceBook, PriceRule
from routing.cost_to_serve import (
    MARGIN_MIN_PPM,
    CostRules,
    Estimate,
    Factor,
    Load,
    Mode,
    Verdict,
    decide,
    estimate,
)
from routing.history import NOTHING_KNOWN, Observed

RULES = CostRules(mode=Mode.ENFORCE)
PLAIN = replace(RULES, failure_buffer_ppm=PPM)
LOAD = Load(input_tokens=1_000, output_tokens=1_000)


def price(multiplier_ppm=2_000_000, rate_pico=1_000_000):
    """A micro-dollar per token, sold for twice that."""
    rule = PriceRule("m", rate_pico, rate_pico, multiplier_ppm=multiplier_ppm)
    return PriceBook((rule,)).find(provider="p", model="m", public_name="m")


def test_the_article_s_own_numbers():
    """2 micro-dollars per token, times 1.13 for a target under 150 ms, times 1.05."""
    free = price(rate_pico=0)

    found = estimate(RULES, free, Load(1_000, 0, target_ms=149), NOTHING_KNOWN)

    assert found.cost_nano == 2_000_000 * 113 * 105 // 10_000
    assert found.causes == (Factor.LATENCY,)


def test_a_price_goes_before_the_base_cost():
    """What the provider charges is the cost; the base is for models without a price of cost."""
    assert estimate(PLAIN, price(), LOAD, NOTHING_KNOWN).cost_nano == 2_000_000
    assert estimate(PLAIN, None, LOAD, NOTHING_KNOWN) == Estimate(None, 4_000_000, None)


@pytest.mark.parametrize(
    ("observed", "target_ms", "ppm", "causes"),
    [
        (NOTHING_KNOWN, None, PPM, ()),
        (NOTHING_KNOWN, 150, PPM, ()),
        (Observed(p95_ms=90), 100, PPM, ()),
        (Observed(p95_ms=101), 100, 1_130_000, (Factor.LATENCY,)),
        (Observed(p95_ms=5_000), None, PPM, ()),
        (Observed(failures_ppm=200_000), None, 1_250_000, (Factor.FAILURES,)),
        (Observed(failures_ppm=900_000), None, 2_000_000, (Factor.FAILURES,)),
        (Observed(slower_ppm=500_000), None, 1_065_000, (Factor.QUEUE,)),
        (Observed(cold_ppm=PPM), None, 1_130_000, (Factor.COLD_START,)),
        (
            Observed(p95_ms=200, cold_ppm=PPM),
            100,
            1_276_900,
            (Factor.LATENCY, Factor.COLD_START),
        ),
    ],
)
def test_each_factor(observed, target_ms, ppm, causes):
    """What was observed makes the same tokens dearer, by a factor that is told by its name."""
    found = estimate(PLAIN, price(), replace(LOAD, target_ms=target_ms), observed)

    assert found.cost_nano == 2_000_000 * ppm // PPM
    assert found.causes == causes
    assert found.sell_nano == 4_000_000


def test_the_buffer_holds_until_more_fails():
    """`failure_buffer` is the least; observed failures count once they come to more."""
    few = estimate(RULES, price(), LOAD, Observed(failures_ppm=10_000))
    many = estimate(RULES, price(), LOAD, Observed(failures_ppm=500_000))

    assert (few.cost_nano, few.causes) == (2_100_000, ())
    assert (many.cost_nano, many.causes) == (4_000_000, (Factor.FAILURES,))


@pytest.mark.parametrize(
    ("multiplier_ppm", "margin_ppm"),
    [(2_000_000, 500_000), (1_000_000, 0), (500_000, -PPM), (300_000, -PPM)],
)
def test_the_margin(multiplier_ppm, margin_ppm):
    """1 - cost / sell in parts per million, and no deeper than -1."""
    found = estimate(PLAIN, price(multiplier_ppm), LOAD, NOTHING_KNOWN)

    assert found.margin_ppm == margin_ppm


def test_what_is_given_away_has_the_least_margin():
    """A model that is free for tenants costs us its tokens all the same."""
    assert estimate(PLAIN, price(rate_pico=0), LOAD, NOTHING_KNOWN).margin_ppm == MARGIN_MIN_PPM


def at(margin_ppm, sell_nano=100):
    return Estimate(sell_nano, 0, margin_ppm)


@pytest.mark.parametrize(
    ("asked", "others", "verdict", "index"),
    [
        (at(350_000), [], Verdict.ALLOW, None),
        (at(349_999), [], Verdict.THROTTLE, None),
        (at(None, None), [], Verdict.ALLOW, None),
        (at(0), [at(349_999), at(350_000)], Verdict.ROUTE, 1),
        (at(0), [at(900_000, 101)], Verdict.THROTTLE, None),
        (at(0), [at(None, None)], Verdict.THROTTLE, None),
        (at(0), [at(400_000, 90), at(400_000, 50), at(900_000, 60)], Verdict.ROUTE, 1),
    ],
)
def test_the_decision(asked, others, verdict, index):
    """Under the threshold: the cheapest that keeps it and is no dearer, or a throttle."""
    found = decide(RULES, asked, others)

    assert (found.verdict, found.index) == (verdict, index)
    assert found.reason == ("" if verdict is Verdict.ALLOW else "margin")
