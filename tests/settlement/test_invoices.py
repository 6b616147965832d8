"""Invoices are functions of the ledger's rows."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.settlement.invoices import (
    Charge,
    events_digest,
    invoice_bytes,
    line_kind,
    make_invoice,
    period_bounds_ns,
)

_charges = st.builds(
    Charge,
    kind=st.sampled_from(["usage", "adjustment", "credit"]),
    project=st.sampled_from(["a", "b"]),
    model=st.sampled_from(["gpt-4o", "m"]),
    unit=st.sampled_from(["input_uncached", "output_text"]),
    quantity=st.integers(-(10**9), 10**9),
    rate_pico=st.integers(0, 10**9),
    amount_nano=st.integers(-(10**12), 10**12),
    price_version=st.sampled_from(["v1", "v2"]),
)


def _charge(amount_nano: int) -> Charge:
    return Charge("usage", "default", "gpt-4o", "output_text", 1, 1, amount_nano, "v1")


@given(st.lists(_charges), st.randoms())
def test_any_order_of_charges_gives_the_same_bytes(charges: list[Charge], random) -> None:
    shuffled = list(charges)
    random.shuffle(shuffled)

    one, other = (make_invoice("acme", "2026-11", some) for some in (charges, shuffled))

    assert invoice_bytes(one) == invoice_bytes(other)


@given(st.lists(_charges))
def test_lines_sum_to_the_total_and_to_their_charges(charges: list[Charge]) -> None:
    invoice = make_invoice("acme", "2026-11", charges)

    assert sum(line["amount_nano"] for line in invoice["lines"]) == invoice["total_nano"]
    assert invoice["total_nano"] == sum(charge.amount_nano for charge in charges)


@pytest.mark.parametrize(
    ("nano", "total"),
    [
        (0, "0.00"),
        (5_000_000, "0.00"),
        (5_000_001, "0.01"),
        (15_000_000, "0.02"),
        (25_000_000, "0.02"),
        (-5_000_000, "0.00"),
        (-15_000_000, "-0.02"),
        (-25_000_000, "-0.02"),
        (-25_000_001, "-0.03"),
        (1_234_567_890_123_456_789, "1234567890.12"),
    ],
)
def test_cents_are_half_even_once_and_signed(nano: int, total: str) -> None:
    assert make_invoice("acme", "2026-11", [_charge(nano)])["total"] == total


def test_an_empty_month_is_an_invoice_of_nothing() -> None:
    assert make_invoice("acme", "2026-11", []) == {
        "tenant": "acme",
        "period": "2026-11",
        "currency": "USD",
        "lines": [],
        "total_nano": 0,
        "total": "0.00",
    }


@pytest.mark.parametrize("period", ["2026-01", "2026-02", "2024-02", "2026-12"])
def test_a_period_is_a_utc_month(period: str) -> None:
    start_ns, end_ns = period_bounds_ns(period)

    start, end = (datetime.fromtimestamp(ns // 10**9, UTC) for ns in (start_ns, end_ns))
    assert f"{start:%Y-%m}" == period
    assert (start.day, start.hour, end.day, end.hour) == (1, 0, 1, 0)
    assert (end.year * 12 + end.month) - (start.year * 12 + start.month) == 1


@pytest.mark.parametrize("period", ["2026", "2026-13", "2026-1", "26-01", "0000-01", "2026-01-01"])
def test_anything_else_is_no_period(period: str) -> None:
    with pytest.raises(ValueError, match="not a month"):
        period_bounds_ns(period)


def test_corrections_are_adjustment_lines() -> None:
    assert [line_kind(kind) for kind in ("usage", "custom", "correction", "adjustment")] == [
        "usage",
        "usage",
        "adjustment",
        "adjustment",
    ]


def test_a_digest_names_a_set_of_events() -> None:
    assert events_digest(["b", "a"]) == events_digest(["a", "b"]) != events_digest(["a"])
