"""Rates as they are written: exact, or a fault that says what was meant."""

from __future__ import annotations

from decimal import Decimal

import pytest

from proxy.config_decode import Findings
from proxy.config_rates import checked_pico, checked_unit_pico
from proxy.config_yaml import parse

ROWS: dict[str, tuple[str, str, bool, int | None]] = {
    "per million": ("input_per_mtok", "2.50", False, 2_500_000),
    "per token": ("input_rate", "0.0000025", False, 2_500_000),
    "zero": ("input_rate", "0", False, None),
    "free": ("input_rate", "0", True, 0),
    "negative": ("input_per_mtok", "-1", True, None),
    "too dear": ("input_per_mtok", "1000.01", False, None),
    "too fine": ("input_per_mtok", "0.0000001", False, None),
}


def findings() -> Findings:
    return Findings(parse("{}", {}))


@pytest.mark.parametrize("name", ROWS)
def test_a_rate_of_tokens(name: str) -> None:
    """The key says for how many tokens it is."""
    key, rate, is_free, pico = ROWS[name]
    found = findings()

    assert checked_pico(Decimal(rate), (key,), found, is_free=is_free) == pico
    assert bool(found.faults) == (pico is None)


@pytest.mark.parametrize(
    ("rate", "pico"), [("0.01", 10**10), ("1001", None), ("0", None), ("1e-13", None)]
)
def test_a_rate_of_a_unit(rate: str, pico: int | None) -> None:
    """What lies above is an amount, and no rate."""
    found = findings()

    assert checked_unit_pico(Decimal(rate), ("image",), found, is_free=False) == pico
    assert bool(found.faults) == (pico is None)
