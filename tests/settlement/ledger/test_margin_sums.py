"""What is earned, from the ledger, on both databases."""

from __future__ import annotations

from datetime import date

import pytest
from fixtures_ledger import book, make_event

from metering.plans import Assignment, ChargeKind, Component, Plan
from metering.settlement.invoices import period_bounds_ns
from metering.settlement.ledger.margin_sums import (
    beside_list_prices,
    comparisons,
    earned,
    with_statements,
)
from metering.settlement.ledger.plan_books import Terms, close_month
from metering.settlement.ledger.provider_books import Compared, run
from metering.settlement.ledger.store import Ledger
from metering.settlement.margins import BY, Earned

FEE = Component("fee", ChargeKind.FLAT, amount_nano=7)
GOLD = Plan("gold", "Gold", (FEE,))
ASSIGNED = (Assignment("gold", date(2026, 1, 1)),)


@pytest.mark.parametrize("by", BY)
def test_every_dimension_sums_to_the_same(ledger: Ledger, by: str) -> None:
    """What has no feature is a row of its own; another month is left out."""
    book(
        ledger,
        [
            make_event(feature="chat", project="web"),
            make_event(tenant="beta"),
            make_event(occurred_at=1),
        ],
    )

    found = earned(ledger, "2026-11", by)

    assert sum(each.sold_nano for each in found) == 11_000_000
    assert sum(each.requests for each in found) == 2
    if by == "feature":
        assert Earned("", 1, 5_500_000, 5_500_000) in found
        assert Earned("chat", 1, 5_500_000, 5_500_000) in found


def test_plans_beside_list_prices(ledger: Ledger) -> None:
    """Open or closed, the same; a tenant that lost its plan is remembered by its statement."""
    book(ledger, [make_event()])
    as_it_stands = beside_list_prices(ledger, "2026-11", "acme", (GOLD,), ASSIGNED)
    _, end_ns = period_bounds_ns("2026-11")
    close_month(ledger, "acme", "2026-11", Terms((GOLD,), ASSIGNED), now_ns=end_ns + 10**13)

    closed = beside_list_prices(ledger, "2026-11", "acme", (), ())

    assert as_it_stands == closed == 7
    assert beside_list_prices(ledger, "2026-11", "beta", (), ()) == 0
    assert with_statements(ledger, "2026-11", ["zeta"]) == ["acme", "zeta"]


def test_comparisons_of_the_month(ledger: Ledger) -> None:
    """December's first day is not November's."""
    for since, until in (("2026-11-29", "2026-12-01"), ("2026-12-01", "2026-12-02")):
        run(ledger, Compared("openai", since, until), by="ann", now_ns=1)

    assert [each.since for each in comparisons(ledger, "2026-11")] == ["2026-11-29"]
    assert [each.since for each in comparisons(ledger, "2026-12")] == ["2026-12-01"]
