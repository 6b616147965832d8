"""Statements against a second implementation, which knows nothing of ours."""

from __future__ import annotations

from dataclasses import replace

from charge_samples import one_term, portion
from hypothesis import given
from hypothesis import strategies as st
from naive_plans import naive_total

from metering.plans import (
    API_CALLS,
    LIST_USAGE,
    LLM_TOKENS,
    Cell,
    ChargeKind,
    Component,
    Coupon,
    Plan,
    Tier,
)
from metering.settlement.metered import Portion
from metering.settlement.statements import make_statement, new_usage

_TIERS = st.lists(
    st.tuples(st.integers(1, 60), st.integers(0, 9_999), st.integers(0, 500)), max_size=3
).map(
    lambda found: (
        *(
            Tier(sum(size for size, _, _ in found[: n + 1]), rate, flat)
            for n, (_, rate, flat) in enumerate(found)
        ),
        Tier(None, 777, 5),
    )
)
_CALLS = st.one_of(
    st.builds(
        lambda rate, n: Component(
            "c", ChargeKind.PER_UNIT, meter="api-calls", rate_pico=rate, included=n
        ),
        st.integers(0, 10**7),
        st.integers(0, 20),
    ),
    st.builds(
        lambda kind, tiers, n: Component("c", kind, meter="api-calls", tiers=tiers, included=n),
        st.sampled_from([ChargeKind.GRADUATED, ChargeKind.VOLUME]),
        _TIERS,
        st.integers(0, 20),
    ),
    st.builds(
        lambda size, amount: Component(
            "c", ChargeKind.PACKAGE, meter="api-calls", package_size=size, amount_nano=amount
        ),
        st.integers(1, 30),
        st.integers(0, 10**6),
    ),
)
_CELLS = st.sampled_from(
    [
        (Cell({"model": "model-a"}, 1_234_567),),
        (Cell({"model": "model-*", "type": "input"}, 7), Cell({"type": "output"}, 2_000_001)),
        (Cell({}, 999_999_999),),
    ]
)
_TOKENS = st.one_of(
    st.builds(
        lambda cells: Component("t", ChargeKind.MATRIX, meter="llm-tokens", cells=cells), _CELLS
    ),
    st.builds(
        lambda cells, amount: Component(
            "t", ChargeKind.CREDITS, meter="llm-tokens", cells=cells, amount_nano=amount
        ),
        _CELLS,
        st.integers(0, 10**6),
    ),
    st.builds(
        lambda tiers: Component("t", ChargeKind.VOLUME, meter="llm-tokens", tiers=tiers), _TIERS
    ),
    st.builds(
        lambda ppm: Component("t", ChargeKind.PERCENTAGE, meter="list-price", percent_ppm=ppm),
        st.integers(0, 2_000_000),
    ),
)
_DRAWN = st.builds(
    lambda components, other, minimum: Plan(
        "p",
        "P",
        tuple(c for c in components if c is not None),
        (API_CALLS, LLM_TOKENS, LIST_USAGE),
        (Coupon("tenth", percent_ppm=100_000), Coupon("some", amount_nano=100_000)),
        minimum,
        0,
        other,
    ),
    st.tuples(
        st.none() | st.just(Component("f", ChargeKind.FLAT, amount_nano=1_234_567)),
        st.none() | _CALLS,
        st.none() | _TOKENS,
    ),
    st.sampled_from(["list_price", "included"]),
    st.integers(0, 10**7),
)
_SMALL = st.lists(
    st.builds(
        lambda unit, n, model: portion(unit, n, model=model),
        st.sampled_from(["input_uncached", "input_cache_read", "output_text", "api_call"]),
        st.integers(1, 90),
        st.sampled_from(["model-a", "model-b"]),
    ),
    max_size=12,
)


@given(_DRAWN, _SMALL, st.lists(st.sampled_from(["tenth", "some"]), unique=True))
def test_a_month_agrees_with_a_naive_one(
    plan: Plan, portions: list[Portion], coupons: list[str]
) -> None:
    """Whatever a plan is made of: event by event in fractions it comes to the same.

    What may differ is half a nano for each line, and half a millionth of a credit for each row.
    """
    terms = one_term(plan)
    assert terms[0].assigned is not None
    terms[0] = replace(terms[0], assigned=replace(terms[0].assigned, coupons=tuple(coupons)))
    usage = new_usage(terms[0])
    for each in portions:
        usage.add(each)

    statement = make_statement("acme", "2026-11", terms, [usage])

    lines = len(statement.charged)
    assert abs(statement.total_nano - naive_total(plan, portions, coupons)) <= lines
