"""An invoice as CSV: exact, whole, and nothing that a spreadsheet would compute."""

from __future__ import annotations

import csv
import io
from decimal import Decimal

import pytest
from invoice_samples import document, line, mixed

from metering.settlement.document_csv import COLUMNS, document_csv, safe


def _rows(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


def test_amounts_are_exact_and_sum_to_the_total() -> None:
    """Nine digits each; cents sum to the cents of the total, too."""
    *lines, first, second, total, due = _rows(document_csv(mixed()))

    assert sum(Decimal(row["amount_usd"]) for row in lines) == Decimal(total["amount_usd"])
    assert sum(Decimal(row["cents_usd"]) for row in lines) == Decimal(total["cents_usd"])
    assert lines[2]["amount_usd"] == "0.000000262"
    assert [first["kind"], second["kind"], due["kind"]] == ["applied_credit"] * 2 + ["due"]
    left = (
        Decimal(total["amount_usd"]) + Decimal(first["amount_usd"]) + Decimal(second["amount_usd"])
    )
    assert left == Decimal(due["amount_usd"])


def test_what_was_late_names_its_month() -> None:
    rows = _rows(document_csv(mixed()))

    assert {row["belongs_to"] for row in rows if row["line"]} == {"2026-10", "2026-09"}
    assert {row["invoice"] for row in rows} == {"acme-2026-10"}
    assert tuple(rows[0]) == COLUMNS


def test_an_invoice_of_nothing_has_a_total() -> None:
    [total] = _rows(document_csv(document()))

    assert (total["kind"], total["amount_usd"], total["cents_usd"]) == (
        "total",
        "0.000000000",
        "0.00",
    )


@pytest.mark.parametrize("name", ["=HYPERLINK(1)", "+1", "-1", "@SUM(A1)", "\tx"])
def test_names_are_no_formulas(name: str) -> None:
    """A model's name comes from outside."""
    assert _rows(document_csv(document(line(model=name))))[0]["model"] == f"'{name}"
    assert safe("a=b") == "a=b"


def test_commas_quotes_and_lines_stay_in_their_field() -> None:
    name = 'a,"b"\nc'

    assert _rows(document_csv(document(line(model=name))))[0]["model"] == name
