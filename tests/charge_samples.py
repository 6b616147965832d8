"""Plans, portions of usage, and a charging that was written apart from ours: slowly, by units."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from fractions import Fraction

from metering.plans import (
    API_CALLS,
    LLM_TOKENS,
    Assignment,
    Cell,
    ChargeKind,
    Component,
    Plan,
    Term,
    Tier,
)
from metering.settlement.metered import Portion, Usage
from metering.settlement.statements import Statement, make_statement, new_usage

WORKED_EXAMPLE = Plan(
    "worked",
    "Worked example",
    components=(
        Component("calls", ChargeKind.PER_UNIT, meter="api-calls", rate_pico=10_000_000_000),
        Component(
            "tokens",
            ChargeKind.MATRIX,
            meter="llm-tokens",
            cells=(
                Cell({"model": "model-a", "type": "input"}, 10_000_000),
                Cell({"model": "model-a", "type": "output"}, 20_000_000),
                Cell({"model": "model-b", "type": "input"}, 5_000_000),
                Cell({"model": "model-b", "type": "output"}, 10_000_000),
            ),
        ),
    ),
    meters=(API_CALLS, LLM_TOKENS),
)


def portion(unit: str, quantity: int, **dimensions: str) -> Portion:
    """One unit of an event of model-a, unless said otherwise, at a list price of 3 nano each."""
    priced = 0 if unit == "api_call" else 3
    return Portion(
        unit,
        quantity,
        quantity * priced,
        quantity,
        {
            "kind": "usage",
            "project": "default",
            "model": "model-a",
            "price_version": "v1" if priced else "",
            "rate_pico": "3000" if priced else "",
            **dimensions,
        },
    )


def one_term(plan: Plan, *, days: int = 30, of: int = 30, since: date | None = None) -> list[Term]:
    """A month of `of` days in whose last `days` the plan holds."""
    start = date(2026, 11, 1)
    begin = date(2026, 11, 1 + of - days)
    end = date(2026, 12, 1)
    assigned = Assignment(plan.id, since or begin)
    before = [Term(start, begin)] if begin > start else []
    return [*before, Term(begin, end, plan, assigned)]


def stated(plan: Plan, portions: Iterable[Portion]) -> Statement:
    """A whole November with the plan."""
    terms = one_term(plan)
    usages = [new_usage(term) for term in terms]
    for each in portions:
        usages[-1].add(each)
    return make_statement("acme", "2026-11", terms, usages)


def usage_of(plan: Plan, portions: Iterable[Portion]) -> Usage:
    """These portions, summed for the plan's meters."""
    usage = Usage(plan.meters)
    for each in portions:
        usage.add(each)
    return usage


def naive_graduated(quantity: int, tiers: Sequence[Tier]) -> Fraction:
    """Unit by unit: each at the rate of the tier that it falls into, in nano-USD."""
    total, entered = Fraction(0), set()
    for unit in range(1, quantity + 1):
        number = next(n for n, tier in enumerate(tiers) if tier.up_to is None or unit <= tier.up_to)
        if number not in entered:
            entered.add(number)
            total += tiers[number].flat_nano
        total += Fraction(tiers[number].rate_pico, 1000)
    return total


def naive_matrix(units: Mapping[tuple[str, str], int], rates: Mapping[str, Fraction]) -> Fraction:
    """USD of quantities by (model, type) at rates by `model/side`."""
    return sum(
        (
            quantity * rates[f"{model}/{unit.split('_')[0]}"]
            for (model, unit), quantity in units.items()
        ),
        Fraction(0),
    )
