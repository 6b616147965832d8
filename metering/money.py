"""Money as integers: nano-USD for amounts, pico-USD for rates, parts per million for multipliers.

Rules: no float ever; an (event, token class) is rounded half-even to nano once and every total is
a sum of those; a hold is rounded up; cents appear once, at an invoice's total. USD only.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from functools import lru_cache

NANO_PER_USD = 1_000_000_000
PICO_PER_USD = 1_000_000_000_000
PICO_PER_NANO = 1_000
NANO_PER_CENT = 10_000_000
PPM = 1_000_000

AMOUNT_NANO_MAX = 2**53 - 1
"""Largest amount a cap may have: Lua compares doubles. About 9.007 million USD."""


def divide_half_even(numerator: int, denominator: int) -> int:
    """Integer quotient, ties to the even neighbour; `denominator` > 0, any sign above."""
    quotient, rest = divmod(numerator, denominator)
    twice = 2 * rest
    if twice > denominator or (twice == denominator and quotient & 1):
        quotient += 1
    return quotient


def divide_up(numerator: int, denominator: int) -> int:
    """Integer quotient rounded towards plus infinity; `denominator` > 0."""
    return -(-numerator // denominator)


def amount_nano(quantity: int, rate_pico: int) -> int:
    """What `quantity` units cost at `rate_pico` each: nano-USD, rounded half-even, once."""
    return divide_half_even(quantity * rate_pico, PICO_PER_NANO)


def hold_nano(quantity: int, rate_pico: int) -> int:
    """The same amount for a hold: rounded up, so that room is never promised twice."""
    return -(-quantity * rate_pico // PICO_PER_NANO)  # `divide_up`, in the path of each request


def scale_rate(rate_pico: int, multiplier_ppm: int) -> int:
    """A rate times a multiplier in parts per million, half-even to whole pico-USD."""
    return divide_half_even(rate_pico * multiplier_ppm, PPM)


def _whole(value: Decimal, scale: int, what: str, unit: str) -> int:
    if not value.is_finite():
        raise ValueError(f"{what} {value} is not a finite number")
    # As a ratio: Decimal arithmetic rounds to 28 digits and would let a finer value pass.
    numerator, denominator = value.as_integer_ratio()
    whole, rest = divmod(numerator * scale, denominator)
    if rest:
        raise ValueError(f"{what} {value} is finer than one {unit}")
    return whole


def rate_pico_per_token(usd_per_token: Decimal) -> int:
    """Pico-USD per token from USD per token; ValueError when it is finer than a pico-USD."""
    return _whole(usd_per_token, PICO_PER_USD, "rate", "pico-USD per token")


def rate_pico_per_mtok(usd_per_mtok: Decimal) -> int:
    """Pico-USD per token from USD per million tokens; ValueError when finer than a pico-USD."""
    return _whole(usd_per_mtok, PICO_PER_USD // 1_000_000, "rate", "pico-USD per token")


def usd_to_nano(usd: Decimal) -> int:
    """Nano-USD from USD; ValueError when the amount is finer than a nano-USD."""
    return _whole(usd, NANO_PER_USD, "amount", "nano-USD")


def to_ppm(ratio: Decimal) -> int:
    """Parts per million from a plain ratio (0.8 -> 800000); ValueError when finer."""
    return _whole(ratio, PPM, "ratio", "part per million")


def parse_decimal(text: str) -> Decimal:
    """A Decimal from the source text of a number; ValueError for anything else, NaN included."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text!r} is not a number") from None
    if not value.is_finite():
        raise ValueError(f"{text!r} is not a finite number")
    return value


@lru_cache(maxsize=4096)
def format_usd(nano: int, *, places: int = 6) -> str:
    """USD as a plain decimal string with `places` (0 to 9) digits, rounded half-even, signed."""
    scaled = divide_half_even(nano, 10 ** (9 - places))
    sign = "-" if scaled < 0 else ""
    if places == 0:
        return f"{sign}{abs(scaled)}"
    whole, part = divmod(abs(scaled), 10**places)
    return f"{sign}{whole}.{part:0{places}d}"


def format_short(nano: int) -> str:
    """USD with as many digits as the amount has, at least two: 10.00, 0.004."""
    text = format_usd(nano, places=9).rstrip("0")
    whole, _, part = text.partition(".")
    return f"{whole}.{part.ljust(2, '0')}"


def format_cents(nano: int) -> str:
    """USD with two digits, half-even, signed: the form of an invoice's total."""
    return format_usd(nano, places=2)
