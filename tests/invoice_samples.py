"""Ledgers with months to invoice, and documents of every shape, for tests of invoices."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from charge_samples import WORKED_EXAMPLE
from fixtures_ledger import make_event

from metering.events import UsageEvent
from metering.invoice_settings import Invoicing, Party
from metering.money import format_cents
from metering.plans import Assignment
from metering.settlement.charges import cents_of
from metering.settlement.documents import FINAL, Applied, Heading, make_document
from metering.settlement.ledger.plan_books import Terms

ISSUER = Party("Weir Works GmbH", ("Uferstraße 12", "10115 Berlin"), "DE123456789", "ar@weir.test")
CUSTOMER = Party("Ακμή & Дочерняя <Holdings>", ("Łukasz Żółć-O'Brien",), "EL999", "ap@acme.test")
INVOICING = Invoicing(issuer=ISSUER, customers={"acme": CUSTOMER}, footer="Pay to IBAN 1.")

OCTOBER_NS = 1_790_812_800_000_000_000
NOVEMBER_NS = 1_793_491_200_000_000_000
ISSUED_NS = NOVEMBER_NS + 2 * 3_600_000_000_000
"""Two hours after the end of October 2026."""
LATER_NS = ISSUED_NS + 30 * 86_400_000_000_000

NO_PLAN = Terms()


def worked_terms(since: str = "2026-10-01") -> Terms:
    """The plan of the worked example: api-calls, and tokens by model and type."""
    from datetime import date

    return Terms([WORKED_EXAMPLE], [Assignment("worked", date.fromisoformat(since))])


def worked_events() -> list[UsageEvent]:
    """Ten calls in October; 1,000 and 500 tokens of model-a, 2,000 and 1,000 of model-b."""
    calls = [("model-a", 200, 100)] * 5 + [("model-b", 400, 200)] * 5
    return [
        october(
            n,
            event_id=f"0192aaaa-0000-7000-8000-0000000000{n:02d}",
            exchange_id=f"0192bbbb-0000-7000-8000-0000000000{n:02d}",
            request_id=f"req-{n}",
            model_upstream=model,
            cost_version=None,
            sell_version=None,
            units={"input_uncached": read, "output_text": written, "api_call": 1},
        )
        for n, (model, read, written) in enumerate(calls)
    ]


def october(second: int = 0, **changes: Any) -> UsageEvent:
    """An event so many seconds after the beginning of October 2026."""
    at = OCTOBER_NS + second * 1_000_000_000
    return make_event(occurred_at=at, completed_at=at + 1, emitted_at=at + 2, **changes)


def line(**changes: Any) -> dict[str, Any]:
    """A line of a statement: usage of gpt-4o in a month without a plan."""
    quantity, rate = changes.get("quantity", 123_456), changes.get("rate_pico", 2_500_000)
    amount = changes.get("amount_nano", quantity * (rate or 0) // 1_000)
    base = {
        "kind": "usage",
        "project": "default",
        "model": "gpt-4o",
        "unit": "input_uncached",
        "quantity": quantity,
        "rate_pico": rate,
        "amount_nano": amount,
        "price_version": "ab12cd34ef56",
        "plan": "",
        "component": "",
        "name": "",
        "meter": None,
        "tier": None,
        "formula": "at list price",
        "dimensions": {},
        "events": 12,
        "list_nano": amount,
        "from": "2026-10-01",
        "to": "2026-11-01",
        "reference": None,
    }
    return {**base, **changes}


FEE = line(
    kind="fee",
    project="",
    model="",
    unit="fee",
    quantity=1,
    rate_pico=None,
    amount_nano=49_000_000_000,
    component="base",
    name="Platform fee",
    formula="49.00 USD",
    plan="pro",
)
DISCOUNT = {**FEE, "kind": "discount", "unit": "coupon", "component": "coupon:launch"} | {
    "name": "Coupon launch",
    "amount_nano": -9_800_000_000,
}
LATE = line(
    kind="adjustment",
    project="",
    model="",
    unit="late",
    quantity=1,
    rate_pico=None,
    amount_nano=-12_345_000_001,
    reference="2026-09",
    name="Usage at list price",
    formula="2026-09 comes to 87.66 USD, billed 100.00 USD",
)


def statement(lines: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The body of a statement with these lines."""
    found = list(lines)
    cents = cents_of([each["amount_nano"] for each in found])
    total = sum(each["amount_nano"] for each in found)
    term = {"from": "2026-10-01", "to": "2026-11-01", "plan": None, "version": None}
    return {
        "tenant": "acme",
        "period": "2026-10",
        "currency": "USD",
        "terms": [{**term, "assigned": None, "trial": False}],
        "lines": [{**each, "cents": cent} for each, cent in zip(found, cents, strict=True)],
        "total_nano": total,
        "total": format_cents(total),
        "list_nano": total,
        "sums": {},
        "entries": {},
        "late": {},
        "event_count": 1234,
        "event_digest": "e3b0c442",
    }


HEADING = Heading(
    ISSUER, CUSTOMER, FINAL, "acme-2026-10", issued_at=ISSUED_NS, footer="Pay to IBAN 1."
)
CREDITS = (
    Applied("g2", "promo", 5_000_000_000, "welcome"),
    Applied("g1", "paid", 20_000_000_000, "top-up"),
)


def document(*lines: dict[str, Any], heading: Heading = HEADING, **more: Any) -> dict[str, Any]:
    """The document of a statement with these lines."""
    return make_document(statement(lines), heading, **more)


def mixed() -> dict[str, Any]:
    """Usage of two projects, a fee, a discount, a correction, what was late, and credits."""
    return document(
        line(),
        line(unit="output_text", quantity=54_321, rate_pico=10_000_000),
        line(quantity=7, rate_pico=37_500, amount_nano=262, variant="service tier flex"),
        line(project="web", model="claude", quantity=7_000_000, rate_pico=3_000_000),
        FEE,
        DISCOUNT,
        line(kind="credit", unit="sla_credit", quantity=300, rate_pico=-1000, amount_nano=-300),
        line(kind="adjustment", quantity=-1_000),
        LATE,
        applied=CREDITS,
    )
