"""Money: integers, rounded half-even once, never a float."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Context, Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering import money

QUANTITIES = st.integers(min_value=0, max_value=10**12)
RATES = st.integers(min_value=0, max_value=10**9)
EXACT = Context(prec=80)


@given(QUANTITIES, RATES)
def test_amounts_round_half_even(quantity: int, rate_pico: int) -> None:
    """An amount is quantity x rate in nano-USD, as Decimal rounds half-even."""
    with localcontext(EXACT):
        exact = Decimal(quantity) * rate_pico / money.PICO_PER_NANO

        assert money.amount_nano(quantity, rate_pico) == exact.to_integral_value(ROUND_HALF_EVEN)


@given(QUANTITIES, RATES)
def test_holds_round_up(quantity: int, rate_pico: int) -> None:
    """A hold is never below the amount, and less than one nano-USD above it."""
    with localcontext(EXACT):
        exact = Decimal(quantity) * rate_pico / money.PICO_PER_NANO

        assert money.hold_nano(quantity, rate_pico) == exact.to_integral_value(ROUND_CEILING)
    assert money.hold_nano(quantity, rate_pico) - money.amount_nano(quantity, rate_pico) in (0, 1)


@given(st.integers(), st.integers(min_value=1))
def test_division_is_decimals(numerator: int, denominator: int) -> None:
    """Half-even division errs by at most a half, and exact halves go to the even neighbour."""
    quotient = money.divide_half_even(numerator, denominator)
    twice_off = 2 * (numerator - quotient * denominator)

    assert abs(twice_off) <= denominator
    assert abs(twice_off) < denominator or quotient % 2 == 0


@given(st.integers(min_value=-(10**18), max_value=10**18), st.integers(min_value=0, max_value=9))
def test_formatting_rounds_like_decimal(nano: int, places: int) -> None:
    """A formatted amount reads back as the Decimal rounded half-even to that many places."""
    with localcontext(EXACT):
        exact = Decimal(nano).scaleb(-9).quantize(Decimal(1).scaleb(-places), ROUND_HALF_EVEN)

    assert Decimal(money.format_usd(nano, places=places)) == exact
    assert "E" not in money.format_usd(nano, places=places)


@given(st.integers(min_value=-(10**18), max_value=10**18))
def test_usd_reads_back(nano: int) -> None:
    """Nine places hold an amount exactly, there and back."""
    assert money.usd_to_nano(Decimal(money.format_usd(nano, places=9))) == nano


@pytest.mark.parametrize(
    ("per_token", "per_mtok"),
    [("0.0000025", "2.50"), ("5e-6", "5"), ("0", "0"), ("1.5e-7", "0.15")],
)
def test_both_ways_of_writing_a_rate_agree(per_token: str, per_mtok: str) -> None:
    """USD per token and USD per million tokens give the same pico-USD per token."""
    assert money.rate_pico_per_token(Decimal(per_token)) == money.rate_pico_per_mtok(
        Decimal(per_mtok)
    )


TOO_FINE = {
    "half a pico": (money.rate_pico_per_token, "5e-13"),
    "half a nano": (money.usd_to_nano, "0.0000000005"),
    "beyond 28 digits": (money.usd_to_nano, "1.00000000000000000000000000000000001"),
    "infinite": (money.usd_to_nano, "Infinity"),
    "ppm": (money.to_ppm, "0.00000001"),
}


@pytest.mark.parametrize(("convert", "text"), TOO_FINE.values(), ids=TOO_FINE)
def test_nothing_is_rounded_on_the_way_in(convert: object, text: str) -> None:
    """What cannot be held exactly is refused, however many digits it has."""
    with pytest.raises(ValueError, match=r"finer|finite"):
        convert(Decimal(text))  # type: ignore[operator]


@pytest.mark.parametrize("text", ["", "NaN", "inf", "5 USD", "0x10", "1,5"])
def test_only_numbers_are_numbers(text: str) -> None:
    """Text that is no finite number is refused by name."""
    with pytest.raises(ValueError, match="number"):
        money.parse_decimal(text)


@pytest.mark.parametrize(
    ("nano", "text"),
    [(5_000_000, "0.00"), (15_000_000, "0.02"), (-5_000_001, "-0.01"), (0, "0.00"), (-1, "0.00")],
)
def test_cents(nano: int, text: str) -> None:
    """Cents are rounded half-even and signed; nothing is ever minus zero."""
    assert money.format_cents(nano) == text


def test_scaling_a_rate() -> None:
    """A multiplier scales a rate to whole pico-USD, half-even."""
    assert [money.scale_rate(5, 500_000), money.scale_rate(7, 500_000)] == [2, 4]
