"""Charging: borders of tiers are exact, lines sum, and a second implementation agrees."""

from __future__ import annotations

from fractions import Fraction

import pytest
from charge_samples import naive_graduated
from hypothesis import given
from hypothesis import strategies as st

from metering.plans import (
    API_CALLS,
    COST_USAGE,
    LLM_TOKENS,
    Cell,
    ChargeKind,
    Component,
    Tier,
)
from metering.settlement.charges import (
    Line,
    Share,
    at_list,
    cell_of,
    cents_of,
    charge,
    portions,
    slices,
)
from metering.settlement.metered import MeterRow

MONTH = Share(30, 30)
TIERS = (Tier(100, 10_000), Tier(1000, 5_000, 300), Tier(None, 1_000))
_KINDS = (ChargeKind.GRADUATED, ChargeKind.VOLUME)


def _rated(component: Component, quantity: int, share: Share = MONTH) -> list[Line]:
    row = MeterRow((), quantity, 0, 1)
    return charge(component, API_CALLS, [row] if quantity else [], share)


def _amount(component: Component, quantity: int, share: Share = MONTH) -> int:
    return sum(line.amount_nano for line in _rated(component, quantity, share))


def _tiered(kind: ChargeKind, tiers: tuple[Tier, ...] = TIERS, **more: int) -> Component:
    return Component("c", kind, meter="api-calls", tiers=tiers, **more)


@pytest.mark.parametrize(
    ("component", "quantity", "nano"),
    [
        pytest.param(Component("c", ChargeKind.PER_UNIT, rate_pico=10**10), 10, 10**8, id="ten"),
        pytest.param(Component("c", ChargeKind.PER_UNIT, rate_pico=1), 500, 0, id="half to even"),
        pytest.param(Component("c", ChargeKind.PER_UNIT, rate_pico=1), 1500, 2, id="half up"),
        pytest.param(_tiered(ChargeKind.GRADUATED), 0, 0, id="nothing"),
        pytest.param(_tiered(ChargeKind.GRADUATED), 100, 1000, id="first border"),
        pytest.param(_tiered(ChargeKind.GRADUATED), 101, 1305, id="one into the second tier"),
        pytest.param(_tiered(ChargeKind.GRADUATED), 1000, 5800, id="second border"),
        pytest.param(_tiered(ChargeKind.GRADUATED), 1001, 5801, id="one into the last tier"),
        pytest.param(_tiered(ChargeKind.GRADUATED), -3, -30, id="more was taken back than came"),
        pytest.param(_tiered(ChargeKind.GRADUATED, included=50), 150, 1000, id="included first"),
        pytest.param(_tiered(ChargeKind.VOLUME), 100, 1000, id="volume at the border"),
        pytest.param(_tiered(ChargeKind.VOLUME), 101, 805, id="volume past the border"),
        pytest.param(_tiered(ChargeKind.VOLUME), 2000, 2000, id="volume, last tier"),
        pytest.param(
            Component("c", ChargeKind.PACKAGE, amount_nano=7, package_size=10), 20, 14, id="full"
        ),
        pytest.param(
            Component("c", ChargeKind.PACKAGE, amount_nano=7, package_size=10), 21, 21, id="begun"
        ),
        pytest.param(
            Component("c", ChargeKind.PACKAGE, amount_nano=7, package_size=10, included=5),
            25,
            14,
            id="packages past what is included",
        ),
    ],
)
def test_charges(component: Component, quantity: int, nano: int) -> None:
    """What a quantity comes to."""
    assert _amount(component, quantity) == nano


_tiers = st.lists(
    st.tuples(st.integers(1, 40), st.integers(0, 9_999), st.integers(0, 500)),
    min_size=1,
    max_size=4,
).map(
    lambda found: tuple(
        Tier(
            None if n == len(found) - 1 else sum(size for size, _, _ in found[: n + 1]), rate, flat
        )
        for n, (_, rate, flat) in enumerate(found)
    )
)


@given(_tiers, st.integers(0, 200))
def test_a_graduated_total_is_the_sum_of_its_units(tiers: tuple[Tier, ...], quantity: int) -> None:
    """A count unit by unit comes to the same, but for half a nano of rounding per tier."""
    exact = naive_graduated(quantity, tiers)

    assert abs(_amount(_tiered(ChargeKind.GRADUATED, tiers), quantity) - exact) <= Fraction(
        len(tiers), 2
    )
    assert sum(count for _, _, count in slices(quantity, tiers)) == quantity


@given(_tiers, st.integers(0, 200))
def test_a_graduated_total_grows_without_jumps(tiers: tuple[Tier, ...], quantity: int) -> None:
    """One unit more never costs less, and at a border at most its rate and the tier's fee more."""
    component = _tiered(ChargeKind.GRADUATED, tiers)

    step = _amount(component, quantity + 1) - _amount(component, quantity)

    dearest = max(tier.rate_pico for tier in tiers) // 1000 + 1
    assert 0 <= step <= dearest + max(tier.flat_nano for tier in tiers)


@given(_tiers, st.integers(1, 200))
def test_volume_picks_one_tier(tiers: tuple[Tier, ...], quantity: int) -> None:
    """All units have the rate of the tier that the last one lies in."""
    (line,) = _rated(_tiered(ChargeKind.VOLUME, tiers), quantity)

    number = next(n for n, tier in enumerate(tiers) if tier.up_to is None or quantity <= tier.up_to)
    assert (line.quantity, line.rate_pico) == (quantity, tiers[number].rate_pico)


_rows = st.lists(st.integers(-50, 500), min_size=1, max_size=6)


@given(_rows, st.integers(0, 900))
def test_included_units_are_given_out_once(weights: list[int], included: int) -> None:
    """Rows that share included units get all of them, and none more than it used."""
    parts = portions(included, weights)

    assert sum(parts) == min(included, sum(max(0, weight) for weight in weights))
    assert all(0 <= part <= max(0, weight) for part, weight in zip(parts, weights, strict=True))


_CELLS = (
    Cell({}, 9),
    Cell({"model": "gpt-*"}, 8),
    Cell({"model": "gpt-4*", "type": "tokens"}, 7),
    Cell({"model": "gpt-4*", "type": "input"}, 6),
    Cell({"model": "gpt-4*", "type": "input_cache_read"}, 5),
    Cell({"model": "gpt-4o"}, 4),
)


@pytest.mark.parametrize(
    ("model", "unit", "rate"),
    [
        ("gpt-4o", "input_uncached", 4),
        ("gpt-4x", "input_cache_read", 5),
        ("gpt-4x", "input_uncached", 6),
        ("gpt-4x", "output_text", 7),
        ("gpt-5", "output_text", 8),
        ("claude", "output_text", 9),
    ],
)
def test_the_closest_cell_wins(model: str, unit: str, rate: int) -> None:
    """A name goes before a glob, a class before a side, a side before nothing."""
    component = Component("c", ChargeKind.MATRIX, cells=_CELLS)

    found = cell_of(component, (("model", model), ("type", unit)))

    assert found is not None
    assert found.rate == rate


def _row(unit: str, quantity: int) -> MeterRow:
    return MeterRow((("model", "m"), ("type", unit)), quantity, 0, 1)


def test_a_row_without_a_cell_is_left_alone() -> None:
    """What the matrix says nothing of makes no line, and is not free by that."""
    component = Component("c", ChargeKind.MATRIX, cells=(Cell({"type": "input"}, 1000),))

    lines = charge(
        component, LLM_TOKENS, [_row("input_uncached", 5), _row("output_text", 7)], MONTH
    )

    assert [(line.unit, line.amount_nano) for line in lines] == [("input_uncached", 5)]


@pytest.mark.parametrize("kind", _KINDS)
def test_what_was_taken_back_in_another_row_is_no_line(kind: ChargeKind) -> None:
    """Rows that cancel out come to nothing."""
    rows = [_row("input_uncached", 5), _row("output_text", -5)]

    assert charge(_tiered(kind), LLM_TOKENS, rows, MONTH) == []


def test_credits_are_counted_then_priced() -> None:
    """Tokens become credits by the matrix, some of which are included; the rest has a price."""
    component = Component(
        "c",
        ChargeKind.CREDITS,
        cells=(Cell({"type": "input"}, 10**9), Cell({"type": "output"}, 4 * 10**9)),
        amount_nano=10_000_000,  # a cent
        included=3_000_000,
    )

    lines = charge(
        component, LLM_TOKENS, [_row("input_uncached", 2000), _row("output_text", 1000)], MONTH
    )

    assert [(line.tier, line.quantity, line.amount_nano) for line in lines] == [
        ("included", 1_000_000, 0),
        (None, 1_000_000, 10_000_000),
        ("included", 2_000_000, 0),
        (None, 2_000_000, 20_000_000),
    ]
    assert lines[1].formula == "1 credits x 0.01 USD"


def test_a_percentage_is_of_money() -> None:
    """Cost plus twenty percent."""
    component = Component("c", ChargeKind.PERCENTAGE, percent_ppm=1_200_000)

    (line,) = charge(component, COST_USAGE, [MeterRow((("model", "m"),), 1005, 0, 1)], MONTH)

    assert (line.amount_nano, line.formula) == (1206, "120 % of 0.000001005 USD")


@pytest.mark.parametrize(
    ("quantity", "amount", "formula"),
    [
        (-100, -302, "-100 x 0.000000003 USD at list price"),  # two events, rounded apart
        (-100, -250, "-100 x 0.000000003 USD at list price, + 0.00000005 USD rated again"),
        (-100, -360, "-100 x 0.000000003 USD at list price, - 0.00000006 USD rated again"),
        (0, 50, "rated again at 0.000000003 USD"),
    ],
)
def test_a_line_at_list_prices_says_what_it_comes_to(
    quantity: int, amount: int, formula: str
) -> None:
    """What was taken back and what another price changed may stand on one line; both are said."""
    assert at_list(quantity, 3000, amount, 2, "") == formula


@pytest.mark.parametrize(
    ("days", "nano"), [(30, 49_000_000_000), (15, 24_500_000_000), (1, 1_633_333_333)]
)
def test_a_fee_is_prorated_by_days(days: int, nano: int) -> None:
    """A whole period is the whole fee."""
    fee = Component("base", ChargeKind.FLAT, amount_nano=49_000_000_000)

    assert charge(fee, None, [], Share(days, 30))[0].amount_nano == nano


def test_a_fee_that_is_not_prorated_is_due_in_full() -> None:
    """A set-up fee does not shrink with the month."""
    fee = Component("setup", ChargeKind.FLAT, amount_nano=100, prorated=False)

    assert charge(fee, None, [], Share(1, 30))[0].amount_nano == 100


def test_included_units_are_prorated_too() -> None:
    """Half a month brings half of the included units."""
    component = Component("c", ChargeKind.PER_UNIT, rate_pico=1000, included=100)

    assert _amount(component, 80, Share(15, 30)) == 30


@given(st.lists(st.integers(-(10**11), 10**11), max_size=12))
def test_cents_of_lines_sum_to_the_rounded_total(amounts: list[int]) -> None:
    """Only the total is rounded, and no line is off by a cent."""
    cents = cents_of(amounts)

    total = Fraction(sum(amounts), 10**7)
    assert abs(sum(cents) - total) <= Fraction(1, 2)
    assert all(
        abs(cent - Fraction(amount, 10**7)) < 1 for cent, amount in zip(cents, amounts, strict=True)
    )
