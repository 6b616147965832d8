"""What grants paid, on invoices: real grants, drawn, given back, refunded."""

from __future__ import annotations

from fixtures_ledger import KEYS, NOW_NS, book, make_event
from invoice_samples import INVOICING, ISSUED_NS, LATER_NS, NO_PLAN, NOVEMBER_NS, october
from sqlalchemy import select

from metering.events import Kind
from metering.settlement.credits import Grant
from metering.settlement.ledger import tables
from metering.settlement.ledger.credit_books import add_grant, take_back
from metering.settlement.ledger.credit_draws import draw_credits
from metering.settlement.ledger.invoice_books import all_issued, draft, issue
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.verify import verify

MONTH, NEXT = "2026-10", "2026-11"
PRICE = october().admission_nano
SHARD = KEYS.shard("acme")


def _grant(ledger: Ledger, amount_nano: int, name: str = "g", tenant: str = "acme") -> None:
    made = Grant(name, tenant, "paid", 10, amount_nano, 0, None, "manual", "top-up")
    add_grant(ledger, made, NOW_NS)


def _receivable(ledger: Ledger) -> int:
    table = tables.balance.c
    query = select(table.amount_nano).where(table.tenant == "acme", table.account == "receivable")
    with ledger.read() as connection:
        return int(connection.execute(query).scalar() or 0)


def _billed(ledger: Ledger) -> int:
    return sum(each.document["due_nano"] for each in all_issued(ledger))


def test_credits_are_shown_once(ledger: Ledger) -> None:
    """What grants paid of usage through a month, less what earlier invoices have said of it; what
    is due by all of them is what the tenant owes."""
    _grant(ledger, PRICE * 5 // 2)
    book(ledger, [october(), make_event()])
    first = issue(ledger, "acme", MONTH, NO_PLAN, INVOICING, now_ns=ISSUED_NS)
    book(ledger, [october(1)])
    second = issue(ledger, "acme", NEXT, NO_PLAN, INVOICING, now_ns=LATER_NS)

    assert first is not None
    assert second is not None
    assert first.document["credits"] == [
        {"grant": "g", "kind": "paid", "amount_nano": PRICE, "note": "top-up"}
    ]
    assert (first.document["due_nano"], first.document["due"]) == (0, "0.00")
    assert second.document["total_nano"] == 2 * PRICE
    assert second.document["credits_nano"] == PRICE * 3 // 2
    assert _receivable(ledger) == _billed(ledger) == PRICE // 2
    assert verify(ledger) == []


def test_what_goes_back_is_on_the_next_invoice(ledger: Ledger) -> None:
    """A correction of the month before takes its credit with it, all of it."""
    _grant(ledger, 10 * PRICE)
    event = october()
    book(ledger, [event])
    issue(ledger, "acme", MONTH, NO_PLAN, INVOICING, now_ns=ISSUED_NS)
    undone = {unit: -count for unit, count in event.units.items()}
    book(ledger, [october(kind=Kind.CORRECTION, corrects=event.event_id, units=undone)])

    found = issue(ledger, "acme", NEXT, NO_PLAN, INVOICING, now_ns=LATER_NS)

    assert found is not None
    assert [each["amount_nano"] for each in found.document["credits"]] == [-PRICE]
    assert (found.document["total_nano"], found.document["due_nano"]) == (-PRICE, 0)
    assert _receivable(ledger) == _billed(ledger) == 0
    assert verify(ledger) == []


def test_what_was_refunded_is_due_again(ledger: Ledger) -> None:
    """Money of a grant that went back to who paid it no longer pays for what it was spent on."""
    _grant(ledger, 2 * PRICE)
    book(ledger, [october()])
    issue(ledger, "acme", MONTH, NO_PLAN, INVOICING, now_ns=ISSUED_NS)
    at = NOVEMBER_NS + 10**15
    take_back(ledger, "g", 2 * PRICE, idem_key="r", reason="refund", now_ns=at)
    book(ledger, [make_event()])

    found = issue(ledger, "acme", NEXT, NO_PLAN, INVOICING, now_ns=LATER_NS)

    assert found is not None
    assert [each["amount_nano"] for each in found.document["credits"]] == [-PRICE]
    assert (found.document["total_nano"], found.document["due_nano"]) == (PRICE, 2 * PRICE)
    assert _receivable(ledger) == _billed(ledger) == 2 * PRICE


def test_a_draft_shows_what_was_drawn(ledger: Ledger) -> None:
    """While the month goes on, too, and grants of others pay nothing of it."""
    _grant(ledger, 10 * PRICE)
    _grant(ledger, 10 * PRICE, "other", tenant="umbra")
    book(ledger, [october(), make_event()])
    draw_credits(ledger, [SHARD], now_ns=NOW_NS)

    found = draft(ledger, "acme", MONTH, NO_PLAN, INVOICING, now_ns=ISSUED_NS)

    assert [(each["grant"], each["amount_nano"]) for each in found["credits"]] == [("g", PRICE)]
