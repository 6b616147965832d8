"""What people read on an invoice."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from invoice_samples import FEE, HEADING, LATE, document, line, mixed

from metering.settlement.document_rows import (
    Row,
    cents_text,
    day_text,
    facts_of,
    notes_of,
    party_lines,
    sections_of,
    subtotals_of,
    title_of,
    totals_of,
    unit_text,
)


def test_lines_stand_under_their_kinds() -> None:
    found = sections_of(mixed())

    titles = [each.title for each in found]
    assert titles == ["Usage", "Fees", "Discounts", "Credits", "Adjustments"]
    assert found[0].rows[0] == Row(
        "1", "gpt-4o, input tokens", "project default", "123,456", "2.50 / 1M", "0.31"
    )
    assert found[0].rows[2].detail == "project default; service tier flex"
    assert found[1].rows[0] == Row("5", "Platform fee", "49.00 USD", "", "", "49.00")
    assert found[4].rows[1].detail.endswith("belongs to 2026-09")


def test_the_printed_cents_sum_to_the_printed_total() -> None:
    """Sections, rows and total agree, although most lines are not whole cents."""
    made = document(*[line(quantity=n, rate_pico=3_333_333) for n in range(1, 300)])
    [section] = sections_of(made)

    rows = sum(int(row.amount.replace(".", "").replace(",", "")) for row in section.rows)
    assert cents_text(rows) == section.amount
    assert totals_of(made) == [("Total", f"{section.amount} USD")]


def test_the_simple_view_has_a_row_for_each_model_or_charge() -> None:
    found = sections_of(mixed(), simple=True)

    assert [(row.item, row.quantity, row.amount) for row in found[0].rows] == [
        ("gpt-4o", "177,784 tokens", "0.85"),
        ("claude", "7,000,000 tokens", "21.00"),
    ]
    assert [section.amount for section in found] == [
        section.amount for section in sections_of(mixed())
    ]


def test_totals_end_with_what_is_due() -> None:
    assert [name for name, _ in totals_of(mixed())] == [
        *("Usage", "Fees", "Discounts", "Adjustments"),
        "Total",
        "Prepaid credit, top-up",
        "Promotional credit, welcome",
        "Amount due",
    ]
    assert totals_of(document()) == [("Total", "0.00 USD")]


def test_a_single_project_needs_no_subtotal() -> None:
    assert subtotals_of(document(line()), "project") == []
    assert subtotals_of(mixed(), "project")[-1][0] == "Other"


def test_what_the_head_says() -> None:
    facts = dict(facts_of(mixed()))

    assert facts["Invoice number"] == "acme-2026-10"
    assert (facts["Issued"], facts["Due"]) == ("1 Nov 2026", "1 Dec 2026")
    assert facts["Period"] == "1 Oct 2026 - 31 Oct 2026 (UTC)"


@pytest.mark.parametrize(
    ("changes", "title", "note"),
    [
        ({"status": "draft"}, "Draft invoice", "no demand for payment"),
        ({"status": "provisional"}, "Provisional invoice", "not issued yet"),
        ({}, "Invoice", "Nothing was used"),
        ({"correction": 1, "corrects": "n", "reason": "moved"}, "Corrected invoice", "moved"),
    ],
)
def test_what_the_document_is(changes: dict[str, object], title: str, note: str) -> None:
    made = document(heading=replace(HEADING, **changes))  # type: ignore[arg-type]

    assert title_of(made) == title
    assert any(note in each for each in notes_of(made))


def test_unpriced_usage_is_said() -> None:
    made = document(line(), unpriced=3)

    assert notes_of(made) == ["Usage without a price is not included (3 requests)."]


def test_units_prices_and_tiers() -> None:
    """Tokens are priced by the million, others each; credits and included ones plainly."""
    plan = {
        "component": "c",
        "name": "Compute",
        "plan": "p",
        "meter": "m",
        "project": "",
        "model": "",
    }
    made = document(
        line(unit="api_call", quantity=10, rate_pico=10_000_000_000),
        line(**plan, unit="micro_credit", quantity=2_500_000, rate_pico=None, amount_nano=25),
        line(**plan, unit="api_call", quantity=5, rate_pico=0, tier="included", amount_nano=0),
        line(**plan, unit="api_call", quantity=5, tier="1 - 1,000", rate_pico=1_000_000),
        line(**plan, unit="nano_usd", quantity=5, rate_pico=None, amount_nano=4),
    )
    [section] = sections_of(made)

    assert [(row.quantity, row.rate) for row in section.rows] == [
        ("10", "0.01"),
        ("2.5 credits", ""),
        ("5", "included"),
        ("5", "0.000001"),
        ("", ""),
    ]
    assert section.rows[3].detail == "tier 1 - 1,000; at list price"


def test_terms_of_a_month_say_their_days() -> None:
    """Where a plan began in mid-month, each line says from when to when."""
    made = document(line(to="2026-10-16"), FEE, LATE)
    made["terms"] = made["terms"] * 2

    [usage, fees, late] = sections_of(made)
    assert usage.rows[0].detail.endswith("1 Oct 2026 - 15 Oct 2026")
    assert fees.rows[0].detail.endswith("1 Oct 2026 - 31 Oct 2026")
    assert "Oct" not in late.rows[0].detail


def test_words() -> None:
    assert cents_text(-123_456_789) == "-1,234,567.89"
    assert day_text(date(2026, 2, 3)) == "3 Feb 2026"
    assert unit_text("gpu_seconds") == "gpu seconds"
    empty = {"name": "", "address": [], "tax_id": "", "email": ""}
    assert party_lines(empty) == []
