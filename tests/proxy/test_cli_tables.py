"""Tables: what people read agrees with the body that programs read."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console, RenderableType

from proxy.cli_tables import invoice, money, per_million, usage


def _text(table: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=160)
    console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


ROW = {
    "tenant": "acme",
    "model": "gpt-4o",
    "requests": 1234,
    "units": {
        "input_uncached": 1_000_000,
        "input_cache_read": 5,
        "output_text": 7,
        "image": 2,
        "api_call": 9,
    },
    "cost_nano": 2_500_000_000,
    "admission_nano": 3_000_000_001,
    "margin_nano": 500_000_001,
    "margin_ppm": 166_666,
}
USAGE: dict[str, Any] = {
    "by": ["tenant", "model"],
    "more": 0,
    "rows": [ROW],
    "totals": ROW,
    "settled_through": "2026-11-21T00:00:00.000000Z",
    "pending": 3,
}
LINE = {
    "kind": "usage",
    "project": "web",
    "model": "gpt-4o",
    "unit": "output_reasoning",
    "quantity": 1_000_000,
    "rate_pico": 10_000_000,
    "amount_nano": 10_000_000_000,
    "price_version": "abc123abc123",
}
INVOICE: dict[str, Any] = {
    "tenant": "acme",
    "period": "2026-11",
    "currency": "USD",
    "lines": [LINE],
    "total_nano": 10_000_000_000,
    "total": "10.00",
    "settled_through": None,
    "pending": None,
    "unpriced": 1,
}


def test_usage_by_something_else() -> None:
    """A column for each dimension, a dash for what an event does not say or nothing was sold."""
    row = ROW | {"feature": None, "request": "req_1", "at": "2026-11-21T00:00:00Z"}
    row |= {"admission_nano": 0, "margin_nano": -2_500_000_000, "margin_ppm": None}

    text = _text(usage(USAGE | {"by": ["request", "feature"], "rows": [row], "more": 1_200}))

    [line] = [line for line in text.splitlines() if "req_1" in line]
    assert line.split()[1::2][:3] == ["2026-11-21T00:00:00", "req_1", "-"]
    assert "-2.500000" in line
    assert line.split()[-2] == "-"
    assert "1,200 more rows" in text
    assert "16.7 %" in text


def test_usage() -> None:
    """Counts are grouped, money is to the right, and other units have columns of their own."""
    text = _text(usage(USAGE))

    for part in ("1,234", "1,000,000", "image", "2.500000", "3.000000001", "Total"):
        assert part in text
    assert "unpriced" not in text


THROUGH = "2026-11-21T00:00:00.000000Z"
SETTLED = [
    (THROUGH, 0, f"settled through {THROUGH}, 0 pending"),
    (THROUGH, 3, f"settled through {THROUGH}, 3 pending (not in these numbers)"),
    (THROUGH, None, f"settled through {THROUGH}, pending unknown (Redis is away)"),
    (None, 0, "nothing settled yet, 0 pending"),
    (None, 2, "nothing settled yet, 2 pending (not in these numbers)"),
]


@pytest.mark.parametrize(("through", "pending", "line"), SETTLED)
def test_settled(through: str | None, pending: int | None, line: str) -> None:
    """Through when everything is settled is only said when nothing is pending."""
    report = USAGE | {"settled_through": through, "pending": pending}

    assert _text(usage(report)).splitlines()[-1].rstrip() == line


def test_unpriced_events() -> None:
    """Events without a price are counted below the table, with where to look."""
    text = _text(usage(USAGE | {"totals": ROW | {"unpriced": 2}}))

    assert "2 events are unpriced" in text
    assert "`weir config check`" in text


def test_invoice() -> None:
    """A line can be checked by hand, and the total is in cents."""
    text = _text(invoice(INVOICE))

    for part in ("output, reasoning", "10.00 USD", "10.000000", "abc123abc123", "2026-11 (UTC)"):
        assert part in text
    assert "nothing settled yet, pending unknown (Redis is away)" in text
    assert "1 event is unpriced: some of the units found no rate; on no line" in text


def test_an_invoice_of_nothing() -> None:
    """No lines, a total of nothing."""
    assert "0.00 USD" in _text(invoice(INVOICE | {"lines": [], "total": "0.00", "unpriced": 0}))


@pytest.mark.parametrize(
    ("rate_pico", "text"), [(2_500_000, "2.50"), (75_000, "0.075"), (1, "0.000001"), (0, "0.00")]
)
def test_rates_read_as_in_price_lists(rate_pico: int, text: str) -> None:
    """A rate is shown per million units, exactly."""
    assert per_million(rate_pico) == text


@pytest.mark.parametrize(
    ("nano", "text"), [(1_000, "0.000001"), (1, "0.000000001"), (-5_000, "-0.000005")]
)
def test_money_is_never_rounded_away(nano: int, text: str) -> None:
    """An amount is shown to the nano when it needs it."""
    assert money(nano) == text


def test_what_is_counted_beside_tokens_has_a_heading() -> None:
    """`api_call` is a word of the ledger's; a unit of somebody's own keeps its name."""
    text = _text(usage(USAGE))

    assert "Calls" in text
    assert "image" in text
    assert "api_call" not in text
