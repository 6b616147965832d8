"""Invoices in the ledger: issued once, kept as they were sent, corrected under their own number."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from fixtures_ledger import book, make_event
from invoice_samples import (
    CUSTOMER,
    INVOICING,
    ISSUED_NS,
    LATER_NS,
    NO_PLAN,
    OCTOBER_NS,
    october,
    worked_events,
    worked_terms,
)
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from metering.invoice_settings import Party
from metering.settlement.documents import document_bytes
from metering.settlement.ledger.invoice_books import (
    NothingToCorrectError,
    NotIssuedError,
    all_issued,
    correct,
    draft,
    issue,
    issued,
    knows_invoices,
    tenants_to_bill,
)
from metering.settlement.ledger.plan_books import MonthOpenError
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.verify import verify
from metering.settlement.statements import sha256_of

MONTH = "2026-10"


def test_the_worked_example_comes_out_to_the_cent(ledger: Ledger) -> None:
    """Ten calls at a cent and tokens by model and type: 0.14 USD, through the ledger."""
    book(ledger, worked_events())
    found = issue(ledger, "acme", MONTH, worked_terms(), INVOICING, now_ns=ISSUED_NS)

    assert found is not None
    document = found.document
    assert {
        (each["component"], *each["dimensions"].values()): each["cents"]
        for each in document["lines"]
    } == {
        ("calls",): 10,
        ("tokens", "model-a", "input_uncached"): 1,
        ("tokens", "model-a", "output_text"): 1,
        ("tokens", "model-b", "input_uncached"): 1,
        ("tokens", "model-b", "output_text"): 1,
    }
    assert (document["total"], document["due"], document["status"]) == ("0.14", "0.14", "final")
    assert (document["number"], document["issued_on"]) == ("acme-2026-10", "2026-11-01")
    assert (document["due_on"], document["unpriced"]) == ("2026-12-01", 0)
    assert verify(ledger) == []


def test_500_in_and_200_out_of_gpt_4o(ledger: Ledger) -> None:
    """The other worked example: 0.0055 USD, without any plan."""
    book(ledger, [october()])
    found = draft(ledger, "acme", MONTH, NO_PLAN, INVOICING, now_ns=OCTOBER_NS)

    assert [each["amount_nano"] for each in found["lines"]] == [2_500_000, 3_000_000]
    assert (found["total_nano"], found["total"], found["status"]) == (5_500_000, "0.01", "draft")
    assert found["number"] is None


def test_events_in_any_order_and_twice_give_the_same_bytes(ledger: Ledger) -> None:
    """What a tenant is sent does not depend on how its events came."""
    before = draft(ledger, "acme", MONTH, worked_terms(), INVOICING, now_ns=ISSUED_NS)
    events = worked_events()
    made = set()
    for seed in range(3):
        shuffled = [*events, *Random(seed).sample(events, 4)]
        Random(seed).shuffle(shuffled)
        for one in shuffled:
            book(ledger, [one])
        found = draft(ledger, "acme", MONTH, worked_terms(), INVOICING, now_ns=ISSUED_NS)
        made.add(document_bytes(found))

    assert len(made) == 1
    assert document_bytes(before) not in made


def test_an_issued_invoice_stays_as_it_was_sent(ledger: Ledger) -> None:
    """Neither late events nor another address nor a repeat changes a byte of it."""
    book(ledger, [october()])
    first = issue(ledger, "acme", MONTH, NO_PLAN, INVOICING, now_ns=ISSUED_NS)
    book(ledger, [october(5)])
    moved = replace(INVOICING, customers={"acme": Party("Acme moved")})

    again = issue(ledger, "acme", MONTH, NO_PLAN, moved, now_ns=LATER_NS)

    assert first is not None
    assert again == replace(first, is_new=False)
    assert sha256_of(first.body) == first.sha256
    assert verify(ledger) == []


def test_what_came_late_is_on_the_next_invoice(ledger: Ledger) -> None:
    """Also without a plan: a line with the month that it belongs to, and no cent is lost."""
    book(ledger, [october(), october(1)])
    issue(ledger, "acme", MONTH, NO_PLAN, INVOICING, now_ns=ISSUED_NS)
    book(ledger, [october(2, project="web"), make_event()])

    found = issue(ledger, "acme", "2026-11", NO_PLAN, INVOICING, now_ns=LATER_NS)

    assert found is not None
    late = [each for each in found.document["lines"] if each["reference"]]
    assert [(each["reference"], each["amount_nano"]) for each in late] == [(MONTH, 5_500_000)]
    assert found.document["total_nano"] == 2 * 5_500_000
    assert found.document["digests"]["late_events"] == {MONTH: 1}
    assert verify(ledger) == []


def test_a_correction_has_a_number_of_its_own(ledger: Ledger) -> None:
    """The same lines under another address; the first one stays, and both are listed."""
    book(ledger, [october()])
    first = issue(ledger, "acme", MONTH, NO_PLAN, INVOICING, now_ns=ISSUED_NS)
    moved = replace(INVOICING, customers={"acme": replace(CUSTOMER, address=("Elsewhere",))})
    made = correct(ledger, "acme", MONTH, moved, reason="they moved", now_ns=LATER_NS)

    assert first is not None
    assert (made.number, made.document["corrects"]) == ("acme-2026-10-C1", "acme-2026-10")
    assert (made.document["reason"], made.document["correction"]) == ("they moved", 1)
    assert made.document["lines"] == first.document["lines"]
    assert issued(ledger, "acme", MONTH) == replace(made, is_new=False)
    assert issued(ledger, "acme", MONTH, 0) == replace(first, is_new=False)
    assert [each.number for each in all_issued(ledger)] == ["acme-2026-10", "acme-2026-10-C1"]
    with pytest.raises(NothingToCorrectError, match="C1 says already"):
        correct(ledger, "acme", MONTH, moved, reason="again", now_ns=LATER_NS)
    with pytest.raises(NotIssuedError):
        correct(ledger, "umbra", MONTH, moved, reason="none", now_ns=LATER_NS)
    assert verify(ledger) == []


def test_numbers_count_without_a_gap(ledger: Ledger) -> None:
    """`{seq}` counts the ledger's invoices, whoever's; one that was not issued takes none."""
    counted = replace(INVOICING, number_format="{year}-{seq:04}")
    book(ledger, [october(), october(1, tenant="umbra"), october(2, tenant="zeta")])

    for tenant in ("umbra", "nobody", "acme", "umbra", "zeta"):
        issue(ledger, tenant, MONTH, NO_PLAN, counted, now_ns=ISSUED_NS)

    assert [(each.number, each.document["tenant"]) for each in all_issued(ledger)] == [
        ("2026-0001", "umbra"),
        ("2026-0002", "acme"),
        ("2026-0003", "zeta"),
    ]
    assert [each.number for each in all_issued(ledger, tenant="acme")] == ["2026-0002"]
    assert all_issued(ledger, period="2026-11") == []


def test_a_correction_leaves_no_gap_in_numbers_that_count(ledger: Ledger) -> None:
    """It takes the next number itself: a suffix used one up that nobody ever saw."""
    counted = replace(INVOICING, number_format="{year}-{seq:04}")
    moved = replace(counted, customers={"acme": replace(CUSTOMER, address=("Elsewhere",))})
    book(ledger, [october(), october(1, tenant="umbra")])

    issue(ledger, "acme", MONTH, NO_PLAN, counted, now_ns=ISSUED_NS)
    made = correct(ledger, "acme", MONTH, moved, reason="they moved", now_ns=LATER_NS)
    issue(ledger, "umbra", MONTH, NO_PLAN, counted, now_ns=LATER_NS)

    assert (made.document["corrects"], made.document["correction"]) == ("2026-0001", 1)
    numbers = [each.number for each in all_issued(ledger)]
    assert numbers == ["2026-0001", "2026-0002", "2026-0003"]
    assert verify(ledger) == []


def test_who_is_billed(ledger: Ledger) -> None:
    """Who used something or has a plan; a month without anything is invoiced only under a plan."""
    book(ledger, [october(), make_event(tenant="november")])

    assert tenants_to_bill(ledger, MONTH, ["planned"]) == ["acme", "planned"]
    assert issue(ledger, "nobody", MONTH, NO_PLAN, INVOICING, now_ns=ISSUED_NS) is None
    zero = issue(ledger, "planned", MONTH, worked_terms(), INVOICING, now_ns=ISSUED_NS)
    assert zero is not None
    assert (zero.document["total"], zero.document["lines"]) == ("0.00", [])
    assert tenants_to_bill(ledger, "2026-12", []) == ["planned"]  # something may come late for it


def test_a_month_that_goes_on_is_not_invoiced(ledger: Ledger) -> None:
    """Nothing is closed, numbered or stored."""
    book(ledger, [october()])

    with pytest.raises(MonthOpenError):
        issue(ledger, "acme", MONTH, NO_PLAN, INVOICING, now_ns=ISSUED_NS - 2 * 3600 * 10**9)
    assert all_issued(ledger) == []


def test_an_invoice_cannot_be_changed(ledger: Ledger) -> None:
    """The database itself refuses."""
    book(ledger, [october()])
    issue(ledger, "acme", MONTH, NO_PLAN, INVOICING, now_ns=ISSUED_NS)

    with pytest.raises(DBAPIError), ledger.write() as connection:
        connection.execute(text("UPDATE invoice SET number = 'x'"))
    assert knows_invoices(ledger)
