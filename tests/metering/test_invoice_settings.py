"""Numbers of invoices."""

from __future__ import annotations

import pytest

from metering.invoice_settings import has_seq, is_unique, number_of


@pytest.mark.parametrize(
    ("written", "number", "unique"),
    [
        ("{tenant}-{period}", "acme-2026-10", True),
        ("{year}{month}-{tenant}", "202610-acme", True),
        ("INV-{seq:06}", "INV-000007", True),
        ("{tenant}-{year}", "acme-2026", False),
        ("{period}", "2026-10", False),
        ("{{x}}{seq}", "{x}7", True),
    ],
)
def test_numbers(written: str, number: str, unique: bool) -> None:
    assert number_of(written, tenant="acme", period="2026-10", seq=7) == number
    assert is_unique(written) is unique
    assert has_seq(written) is ("7" in number)


@pytest.mark.parametrize(
    "written",
    ["{name}", "{}", "{tenant.__class__}", "{0}", "{seq", "{tenant!r}", "{seq:x}y{seq:q}"],
)
def test_what_is_no_format(written: str) -> None:
    """Nothing but the five names, and nothing of what lies behind them."""
    with pytest.raises((ValueError, KeyError, IndexError)):
        number_of(written, tenant="acme", period="2026-10", seq=7)
