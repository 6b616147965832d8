"""Usage without a price: counted where a tenant would have to pay for it, and only there."""

from __future__ import annotations

from datetime import date

from fixtures_ledger import book
from invoice_samples import INVOICING, ISSUED_NS, NO_PLAN, october, worked_events, worked_terms

from metering.events import Kind
from metering.plans import LLM_TOKENS, Assignment, ChargeKind, Component, Plan
from metering.settlement.ledger.invoice_books import draft
from metering.settlement.ledger.plan_books import Terms
from metering.settlement.ledger.store import Ledger

UNPRICED = {"cost_version": None, "sell_version": None}


def unpriced(ledger: Ledger, terms: Terms) -> int:
    made = draft(ledger, "acme", "2026-10", terms, INVOICING, now_ns=ISSUED_NS)
    return int(made["unpriced"])


def test_without_a_plan_each_event_without_a_price_counts(ledger: Ledger) -> None:
    book(ledger, [october(), october(1, **UNPRICED), *worked_events()])

    assert unpriced(ledger, NO_PLAN) == 11


def test_what_the_plan_charges_needs_no_price(ledger: Ledger) -> None:
    """The matrix covers model-a and model-b; another model has neither cell nor price."""
    book(ledger, [*worked_events(), october(1, model_upstream="model-c", **UNPRICED)])

    assert unpriced(ledger, worked_terms()) == 1


def test_what_is_free_needs_no_price(ledger: Ledger) -> None:
    flat = Plan(
        "flat",
        "Flat",
        (Component("base", ChargeKind.FLAT, amount_nano=1),),
        (LLM_TOKENS,),
        other_usage="included",
    )
    book(ledger, [october(1, **UNPRICED)])

    assert unpriced(ledger, Terms([flat], [Assignment("flat", date(2026, 10, 1))])) == 0


def test_a_correction_takes_its_event_out(ledger: Ledger) -> None:
    wrong = october(1, **UNPRICED)
    units = {unit: -n for unit, n in wrong.units.items()}
    back = october(2, kind=Kind.CORRECTION, corrects=wrong.event_id, units=units, **UNPRICED)
    book(ledger, [wrong, back])

    assert unpriced(ledger, NO_PLAN) == 0
