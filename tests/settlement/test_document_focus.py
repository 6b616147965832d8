"""An invoice as FOCUS 1.2: the mandatory columns, and rows that sum to what is demanded."""

from __future__ import annotations

import csv
import io
from decimal import Decimal

import pytest
from invoice_samples import CREDITS, FEE, document, line, mixed

from metering.settlement.document_focus import COLUMNS, MANDATORY, document_focus

_NEVER_NULL = [
    *("BilledCost", "BillingAccountId", "BillingCurrency", "BillingPeriodEnd"),
    *("BillingPeriodStart", "ChargeCategory", "ChargePeriodEnd", "ChargePeriodStart"),
    *("ContractedCost", "EffectiveCost", "InvoiceIssuerName", "ListCost", "ProviderName"),
    *("PublisherName", "ServiceCategory", "ServiceName"),
]


def rows(made: dict[str, object]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(document_focus(made).decode(), newline="")))


def test_every_mandatory_column_is_there_and_filled() -> None:
    """21 columns of version 1.2; of them, five may be null."""
    found = rows(mixed())

    assert len(MANDATORY) == 21
    assert set(MANDATORY) <= set(COLUMNS) == set(found[0])
    assert [(n, name) for n, row in enumerate(found) for name in _NEVER_NULL if not row[name]] == []


def test_rows_sum_to_the_total_in_cents() -> None:
    """A row holds what rounding came to; prepaid credits pay, and are no charge."""
    made = mixed()

    billed = sum(Decimal(row["BilledCost"]) for row in rows(made))
    assert billed == Decimal(made["total"]) - Decimal("5")  # the promotional credit
    assert rows(made)[-1]["ChargeDescription"] == "Rounding to whole cents"
    whole = document(FEE)
    assert [row["ChargeCategory"] for row in rows(whole)] == ["Purchase"]


def test_what_was_late_is_a_correction_of_its_month() -> None:
    [late] = [row for row in rows(mixed()) if row["ChargeClass"]]

    assert (late["ChargeClass"], late["ChargeCategory"]) == ("Correction", "Usage")
    assert late["ChargePeriodStart"] == "2026-09-01T00:00:00Z"
    assert late["ChargePeriodEnd"] == "2026-10-01T00:00:00Z"
    assert late["BillingPeriodStart"] == "2026-10-01T00:00:00Z"
    assert (late["PricingQuantity"], late["BilledCost"]) == ("", "-12.345000001")


def test_price_times_quantity_is_the_cost() -> None:
    """Where a row is sold by quantity, to the nano; and units come with quantities alone."""
    for row in rows(mixed()):
        assert (
            bool(row["PricingQuantity"]) == bool(row["PricingUnit"]) == bool(row["ListUnitPrice"])
        )
        if row["ChargeCategory"] in ("Usage", "Purchase") and not row["ChargeClass"]:
            product = Decimal(row["PricingQuantity"]) * Decimal(row["ListUnitPrice"])
            assert abs(product - Decimal(row["ListCost"])) < Decimal("0.000000001")


@pytest.mark.parametrize(
    ("made", "category", "frequency"),
    [
        (line(), "Usage", "Usage-Based"),
        (FEE, "Purchase", "Recurring"),
        ({**FEE, "kind": "discount", "amount_nano": -5}, "Credit", "Usage-Based"),
        (line(kind="adjustment", quantity=-5), "Usage", "Usage-Based"),
    ],
)
def test_categories(made: dict[str, object], category: str, frequency: str) -> None:
    row = rows(document(made))[0]

    assert (row["ChargeCategory"], row["ChargeFrequency"], row["ChargeClass"]) == (
        category,
        frequency,
        "",
    )


def test_promotional_credit_is_a_credit() -> None:
    found = rows(document(FEE, applied=CREDITS))

    assert [(row["ChargeCategory"], row["BilledCost"]) for row in found] == [
        ("Purchase", "49.000000000"),
        ("Credit", "-5.000000000"),
    ]
