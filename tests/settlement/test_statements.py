"""Statements: the worked example to the cent, and sums that hold whatever the plan."""

from __future__ import annotations

import random as chance
from dataclasses import replace
from datetime import date
from fractions import Fraction
from typing import Any

import pytest
from charge_samples import (
    WORKED_EXAMPLE,
    naive_matrix,
    one_term,
    portion,
    stated,
)
from hypothesis import given
from hypothesis import strategies as st

from metering.plans import (
    API_CALLS,
    LLM_TOKENS,
    Assignment,
    ChargeKind,
    Component,
    Coupon,
    Plan,
    Term,
    Tier,
    terms_of_month,
)
from metering.settlement.metered import Portion, Usage
from metering.settlement.statements import (
    Statement,
    make_statement,
    new_usage,
    read_terms,
    statement_bytes,
)

USD = 1_000_000_000

EXAMPLE = [
    *[portion("api_call", 1)] * 10,
    portion("input_uncached", 1000),
    portion("output_text", 500),
    portion("input_uncached", 2000, model="model-b"),
    portion("output_text", 1000, model="model-b"),
]


def test_the_worked_example() -> None:
    """Ten calls at a cent, and two models by two kinds of tokens: 14 cents."""
    body = stated(WORKED_EXAMPLE, EXAMPLE).body()

    assert [
        (line["component"], line["model"], line["unit"], line["quantity"], line["cents"])
        for line in body["lines"]
    ] == [
        ("calls", "", "api_call", 10, 10),
        ("tokens", "model-a", "input_uncached", 1000, 1),
        ("tokens", "model-a", "output_text", 500, 1),
        ("tokens", "model-b", "input_uncached", 2000, 1),
        ("tokens", "model-b", "output_text", 1000, 1),
    ]
    assert body["total"] == "0.14"
    assert body["lines"][1]["formula"] == "1,000 x 0.00001 USD"


_RATES = {
    "model-a/input": Fraction(1, 10**5),
    "model-a/output": Fraction(2, 10**5),
    "model-b/input": Fraction(5, 10**6),
    "model-b/output": Fraction(1, 10**5),
}

_portions = st.lists(
    st.builds(
        lambda unit, quantity, model: portion(unit, quantity, model=model),
        st.sampled_from(["input_uncached", "input_cache_read", "output_text", "output_reasoning"]),
        st.integers(1, 10**7),
        st.sampled_from(["model-a", "model-b"]),
    ),
    max_size=20,
)


@given(_portions)
def test_the_matrix_agrees_with_a_naive_one(portions: list[Portion]) -> None:
    """The rates of the example are whole nano per token, so the two agree to the last digit."""
    units: dict[tuple[str, str], int] = {}
    for each in portions:
        key = each.dimensions["model"], each.unit
        units[key] = units.get(key, 0) + each.quantity

    assert stated(WORKED_EXAMPLE, portions).total_nano == naive_matrix(units, _RATES) * USD


_RICH = replace(
    WORKED_EXAMPLE,
    components=(
        Component("base", ChargeKind.FLAT, amount_nano=49 * USD),
        Component(
            "tokens",
            ChargeKind.GRADUATED,
            meter="llm-tokens",
            included=10_000,
            tiers=(Tier(100_000, 2_000), Tier(None, 700, 10)),
        ),
    ),
    coupons=(
        Coupon("fifth", percent_ppm=200_000),
        Coupon("ten", amount_nano=10 * USD, components=("base",), months=1),
    ),
)


def _with(plan: Plan, **changes: Any) -> Statement:
    """A whole month of the plan with 110,001 tokens, assigned as `changes` say."""
    terms = one_term(plan)
    term = terms[-1]
    assert term.assigned is not None
    trial = bool(changes.pop("trial", False))
    terms[-1] = replace(term, assigned=replace(term.assigned, **changes), is_trial=trial)
    usage = new_usage(terms[-1])
    usage.add(portion("input_uncached", 110_001))
    usage.add(portion("api_call", 1))
    return make_statement("acme", "2026-11", terms, [usage])


_TIERED = 200_000 + 11  # 100,000 at 2 nano; 1 at 0.7 and the tier's ten


@pytest.mark.parametrize(
    ("plan", "changes", "nano"),
    [
        pytest.param(_RICH, {}, 49 * USD + _TIERED, id="base and tiers"),
        pytest.param(
            _RICH,
            {"coupons": ("fifth",)},
            49 * USD + _TIERED - (49 * USD + _TIERED + 2) // 5,
            id="a percentage off",
        ),
        pytest.param(_RICH, {"coupons": ("ten",)}, 39 * USD + _TIERED, id="an amount off"),
        pytest.param(
            _RICH,
            {"coupons": ("ten",), "since": date(2026, 10, 31)},
            49 * USD + _TIERED,
            id="the month of a coupon is over",
        ),
        pytest.param(
            replace(_RICH, minimum_nano=60 * USD), {}, 60 * USD, id="trued up to the minimum"
        ),
        pytest.param(
            replace(_RICH, minimum_nano=60 * USD),
            {"coupons": ("fifth", "ten")},
            60 * USD,
            id="no coupon goes below the minimum",
        ),
        pytest.param(_RICH, {"trial": True}, 0, id="trial"),
        pytest.param(
            replace(_RICH, components=_RICH.components[:1]),
            {},
            49 * USD + 330_003,
            id="what nothing covers costs its list price",
        ),
        pytest.param(
            replace(_RICH, components=_RICH.components[:1], other_usage="included"),
            {},
            49 * USD,
            id="or is included",
        ),
    ],
)
def test_statements(plan: Plan, changes: dict[str, Any], nano: int) -> None:
    """What a month comes to; and the books differ from the events by just that."""
    statement = _with(plan, **changes)

    assert statement.total_nano == nano
    assert sum(statement.entries.values()) == nano - 330_003


def test_an_add_on_is_for_who_takes_it() -> None:
    """A component that is an add-on is charged where the assignment names it."""
    support = Component("support", ChargeKind.FLAT, amount_nano=USD, add_on=True)
    plan = replace(_RICH, components=(*_RICH.components, support))

    assert _with(plan, add_ons=("support",)).total_nano - _with(plan).total_nano == USD


def test_coupons_of_all_and_of_one_never_take_more_than_is_due() -> None:
    """What the first has taken off everything is off each component for the next."""
    plan = replace(
        _RICH,
        coupons=(
            Coupon("all", percent_ppm=1_000_000),
            Coupon("base", percent_ppm=500_000, components=("base",)),
        ),
    )

    assert _with(plan, coupons=("all", "base")).total_nano == 0


_plans = st.builds(
    lambda included, border, other, minimum, days: (
        replace(
            _RICH,
            components=(
                _RICH.components[0],
                replace(
                    _RICH.components[1],
                    included=included,
                    tiers=(Tier(border, 2_345), Tier(None, 1)),
                ),
                replace(WORKED_EXAMPLE.components[0], included=included % 3),
            ),
            other_usage=other,
            minimum_nano=minimum,
        ),
        days,
    ),
    st.integers(0, 10**6),
    st.integers(1, 10**6),
    st.sampled_from(["list_price", "included"]),
    st.integers(0, 60 * USD),
    st.integers(1, 30),
)


@given(_plans, _portions, st.randoms())
def test_sums_hold_and_order_does_not_matter(
    drawn: tuple[Plan, int], portions: list[Portion], random: chance.Random
) -> None:
    """Lines sum to the total, entries to its difference from the list prices; same bytes."""
    plan, days = drawn

    def made(found: list[Portion]) -> Statement:
        terms = one_term(plan, days=days)
        terms = [
            replace(t, assigned=t.assigned and replace(t.assigned, coupons=("fifth", "ten")))
            for t in terms
        ]
        usages = [new_usage(term) for term in terms]
        for each in found:
            usages[each.quantity % len(usages)].add(each)
        return make_statement("acme", "2026-11", terms, usages)

    statement, body = made(portions), made(portions).body()
    shuffled = list(portions)
    random.shuffle(shuffled)
    listed = sum(each.list_nano for each in portions)
    assert statement.list_nano == listed
    assert sum(line["amount_nano"] for line in body["lines"]) == body["total_nano"]
    assert sum(statement.sums.values()) == statement.total_nano
    assert sum(statement.entries.values()) == statement.total_nano - listed
    assert statement_bytes(made(shuffled).body()) == statement_bytes(body)


@given(_plans, _portions)
def test_splitting_events_changes_nothing(drawn: tuple[Plan, int], portions: list[Portion]) -> None:
    """A request in two parts comes to what it came to in one."""
    plan, _ = drawn
    halves = [
        replace(each, quantity=part, list_nano=3 * part, cost_nano=part)
        for each in portions
        for part in (each.quantity // 2, each.quantity - each.quantity // 2)
    ]

    assert stated(plan, halves).sums == stated(plan, portions).sums


def test_a_change_of_plans_is_charged_by_the_days_of_each() -> None:
    """Ten days without a plan, ten days of one, ten of another: thirds of fees, own usage."""
    small = Plan("s", "S", (Component("base", ChargeKind.FLAT, amount_nano=30 * USD),))
    big = Plan(
        "b",
        "B",
        (
            Component("base", ChargeKind.FLAT, amount_nano=300 * USD),
            Component("calls", ChargeKind.PER_UNIT, meter="api-calls", rate_pico=10**12),
        ),
        meters=(API_CALLS, LLM_TOKENS),
        other_usage="included",
    )
    terms = terms_of_month(
        date(2026, 11, 1),
        date(2026, 12, 1),
        [Assignment("s", date(2026, 11, 11)), Assignment("b", date(2026, 11, 21))],
        [small, big],
    )
    usages = [Usage(), Usage(), new_usage(terms[2])]
    for usage in usages:
        usage.add(portion("api_call", 1))
        usage.add(portion("output_text", 100))

    statement = make_statement("acme", "2026-11", terms, usages)

    assert statement.total_nano == 300 + (10 * USD + 300) + (100 * USD + USD)


def test_trial_proration_tiers_and_coupons_by_hand() -> None:
    """October: ten days without a plan, seven of trial, fourteen of the plan. By hand: 2 million
    tokens at list, 16 USD; nothing; 49 x 14/31 = 22.129032258, ten calls at 0.10 and eighteen at
    0.05, 1.90, tokens at list, 22.40, of which a fifth is 9.285806452 off, then 5.00 off."""
    plan = Plan(
        "pro",
        "Pro",
        (
            Component("base", ChargeKind.FLAT, amount_nano=49 * USD),
            Component(
                "calls",
                ChargeKind.GRADUATED,
                meter="api-calls",
                tiers=(Tier(10, 100_000_000_000), Tier(None, 50_000_000_000)),
            ),
        ),
        (API_CALLS,),
        (Coupon("launch", percent_ppm=200_000, months=1), Coupon("five", amount_nano=5 * USD)),
        trial_days=7,
    )
    assigned = [Assignment("pro", date(2026, 10, 11), coupons=("launch", "five"))]
    terms = terms_of_month(date(2026, 10, 1), date(2026, 11, 1), assigned, [plan])
    usages = [new_usage(term) for term in terms]
    for usage, calls in zip(usages, (20, 14, 28), strict=True):
        for _ in range(calls):
            usage.add(replace(portion("input_uncached", 100_000), list_nano=800_000_000))
            usage.add(portion("api_call", 1))

    made = make_statement("acme", "2026-10", terms, usages)

    assert [term.days for term in terms] == [10, 7, 14]
    assert [(each.line.component, each.line.amount_nano) for each in made.charged] == [
        ("", 16_000_000_000),
        ("", 0),
        ("base", 22_129_032_258),
        ("calls", 1_000_000_000),
        ("calls", 900_000_000),
        ("", 22_400_000_000),
        ("coupon:launch", -9_285_806_452),
        ("coupon:five", -5_000_000_000),
    ]
    assert made.body()["total"] == "48.14"
    assert made.total_nano == made.list_nano + sum(made.entries.values())


def test_terms_come_back_from_a_statement() -> None:
    """What was closed can be charged again by the terms it was closed with."""
    terms = (Term(date(2026, 11, 1), date(2026, 11, 2)), *one_term(_RICH))
    statement = make_statement("acme", "2026-11", terms, [new_usage(term) for term in terms])

    assert read_terms(statement.body()["terms"], {_RICH.version: _RICH}) == terms
