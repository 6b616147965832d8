"""Grants and plans: a month draws what its statement comes to, and no invoice is owed backwards."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fixtures_ledger import KEYS, NOW_NS, allow_changes, book, make_event, new_ledger
from invoice_samples import INVOICING, ISSUED_NS, LATER_NS, NOVEMBER_NS, OCTOBER_NS, october
from sqlalchemy import select, text

from metering.events import Kind, UsageEvent
from metering.plans import LIST_USAGE, Assignment, ChargeKind, Component, Plan
from metering.settlement.credits import Grant
from metering.settlement.ledger import tables
from metering.settlement.ledger.credit_books import add_grant, balance_of, entries_of_grant
from metering.settlement.ledger.credit_draws import draw_credits
from metering.settlement.ledger.invoice_books import all_issued, draft, issue
from metering.settlement.ledger.plan_books import Terms
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.verify import verify

MONTH, NEXT = "2026-10", "2026-11"
USD = 10**9
PRICE = october().admission_nano
SHARD = KEYS.shard("acme")
SHARE = Component("usage", ChargeKind.PERCENTAGE, meter="list-price", percent_ppm=800_000)
FEE = Component("base", ChargeKind.FLAT, amount_nano=49 * USD)
CHEAPER = Plan("pro", "Pro", (SHARE,), (LIST_USAGE,))
FLAT = Plan("pro", "Pro", (FEE,), ())
TRIAL = replace(CHEAPER, trial_days=60)


def _terms(plan: Plan) -> Terms:
    return Terms([plan], [Assignment("pro", date(2026, 10, 1))])


def _grant(ledger: Ledger, amount_nano: int, name: str = "g", **changes: Any) -> None:
    made = Grant(name, "acme", "paid", 10, amount_nano, 0, None, "manual", "")
    add_grant(ledger, replace(made, **changes), NOW_NS)


def _left(ledger: Ledger, name: str = "g") -> int:
    return balance_of(ledger, "acme", NOVEMBER_NS).left_by_grant[name]


def _account(ledger: Ledger, name: str) -> int:
    table = tables.balance.c
    query = select(table.amount_nano).where(table.tenant == "acme", table.account == name)
    with ledger.read() as connection:
        return int(connection.execute(query).scalar() or 0)


def _issue(ledger: Ledger, plan: Plan, month: str = MONTH) -> dict[str, Any]:
    at = ISSUED_NS if month == MONTH else LATER_NS
    found = issue(ledger, "acme", month, _terms(plan), INVOICING, now_ns=at)
    assert found is not None
    return found.document


def _said(document: dict[str, Any]) -> tuple[int, int, int]:
    return document["total_nano"], document["credits_nano"], document["due_nano"]


def _undo(event: UsageEvent) -> UsageEvent:
    units = {unit: -count for unit, count in event.units.items()}
    at = event.occurred_at
    return make_event(kind=Kind.CORRECTION, corrects=event.event_id, units=units, occurred_at=at)


def test_a_cheaper_plan_gives_back_what_was_drawn_beyond_it(ledger: Ledger) -> None:
    """A fifth less than the list is a fifth less out of the grant, and nothing is due."""
    _grant(ledger, 10 * PRICE)
    book(ledger, [october(n) for n in range(5)])
    draw_credits(ledger, [SHARD], now_ns=NOW_NS)
    before = draft(ledger, "acme", MONTH, _terms(CHEAPER), INVOICING, now_ns=ISSUED_NS)

    found = _issue(ledger, CHEAPER)

    assert _said(found) == (4 * PRICE, 4 * PRICE, 0)
    assert before["credits"] == found["credits"]
    assert _left(ledger) == 6 * PRICE
    assert _account(ledger, "receivable") == 0
    assert [each["kind"] for each in entries_of_grant(ledger, "g")] == ["draw"] * 5 + ["back"]
    assert verify(ledger) == []


def test_a_trial_takes_nothing_from_a_grant(ledger: Ledger) -> None:
    """What is free is given back whole."""
    _grant(ledger, 2 * PRICE)
    book(ledger, [october()])

    assert _said(_issue(ledger, TRIAL)) == (0, 0, 0)
    assert _left(ledger) == 2 * PRICE
    assert verify(ledger) == []


def test_a_fee_is_paid_by_what_is_left(ledger: Ledger) -> None:
    """Credit pays before the tenant does, in the grants' order, and the rest is due once."""
    _grant(ledger, 30 * USD)
    _grant(ledger, 5 * USD, "gift", kind="promo", priority=1)
    _grant(ledger, 100 * USD, "later", effective_at=NOVEMBER_NS)
    book(ledger, [october()])

    found = _issue(ledger, FLAT)

    assert _said(found) == (49 * USD + PRICE, 35 * USD, 14 * USD + PRICE)
    assert (_left(ledger), _left(ledger, "gift"), _left(ledger, "later")) == (0, 0, 100 * USD)
    assert _account(ledger, "receivable") == 14 * USD + PRICE
    assert verify(ledger) == []


def test_what_was_owed_before_stays_owed(ledger: Ledger) -> None:
    """A grant that came after the usage pays the fee, not the usage; a cheaper plan gives back
    only what grants have paid beyond what the month comes to."""
    book(ledger, [october(n) for n in range(5)])
    _grant(ledger, PRICE)
    book(ledger, [october(9)])

    found = _issue(ledger, CHEAPER)

    assert _said(found) == (PRICE * 24 // 5, PRICE, PRICE * 19 // 5)
    assert _left(ledger) == 0


def test_a_first_grant_after_the_close_pays_for_nothing_before_it(ledger: Ledger) -> None:
    """Others have credit, so drawing has begun, and is behind: the close passes the events of a
    tenant without any. Its later grant would pay list prices of a month that came to nothing."""
    _grant(ledger, USD, "theirs", tenant="umbra")
    book(ledger, [october(n) for n in range(5)])

    found = _issue(ledger, TRIAL)
    _grant(ledger, 10 * PRICE)
    draw_credits(ledger, [SHARD], now_ns=NOW_NS)

    assert _said(found) == (0, 0, 0)
    assert _left(ledger) == 10 * PRICE
    assert _said(_issue(ledger, TRIAL, NEXT)) == (0, 0, 0)
    assert verify(ledger) == []


def test_what_a_close_gave_back_is_not_given_again(ledger: Ledger) -> None:
    """A correction of a closed month would take it out of what the grant pays for the next one."""
    _grant(ledger, 10 * PRICE)
    served = october()
    book(ledger, [served])
    _issue(ledger, TRIAL)
    book(ledger, [replace(october(1), occurred_at=NOVEMBER_NS)])
    draw_credits(ledger, [SHARD], now_ns=NOW_NS)

    book(ledger, [_undo(served)])
    draw_credits(ledger, [SHARD], now_ns=NOW_NS)

    assert _left(ledger) == 9 * PRICE
    assert verify(ledger) == []


def test_a_repeat_moves_nothing(ledger: Ledger) -> None:
    """A month is settled once."""
    _grant(ledger, 60 * USD)
    _issue(ledger, FLAT)
    before = entries_of_grant(ledger, "g")

    _issue(ledger, FLAT)

    assert entries_of_grant(ledger, "g") == before
    assert _left(ledger) == 11 * USD


def test_what_is_undone_after_the_close_goes_back_once(ledger: Ledger) -> None:
    """The correction gives back what the event drew, the next close what is left of that."""
    _grant(ledger, 10 * PRICE)
    event = october()
    book(ledger, [event])
    _issue(ledger, CHEAPER)
    book(ledger, [_undo(event)])
    draw_credits(ledger, [SHARD], now_ns=NOW_NS)
    assert _left(ledger) == 10 * PRICE  # never more than was granted

    found = _issue(ledger, CHEAPER, NEXT)

    assert _said(found) == (-PRICE * 4 // 5, -PRICE * 4 // 5, 0)
    assert _left(ledger) == 10 * PRICE
    assert verify(ledger) == []


def test_a_close_of_nobody_is_found(ledger: Ledger) -> None:
    """An entry of a month without a statement does not pass."""
    _grant(ledger, 60 * USD)
    _issue(ledger, FLAT)
    with ledger.write() as connection:
        allow_changes(connection, "grant_entry")
        connection.execute(text("UPDATE grant_entry SET root = 'plan:acme:2026-09'"))

    assert any("no close" in each for each in verify(ledger))


@pytest.mark.parametrize("seed", range(8))
def test_credit_never_pays_more_than_was_billed(seed: int, tmp_path: Path) -> None:
    """Whatever comes when: what is due by all invoices is what the tenant owes, grants paid no more
    than was billed and were drawn by as much, and a tenant with credit enough owes nothing."""
    chance = Random(seed)
    ledger = new_ledger(tmp_path)
    plan = chance.choice([CHEAPER, FLAT, TRIAL, replace(CHEAPER, minimum_nano=USD)])
    amount = (PRICE, 3 * PRICE, 50 * USD, 500 * USD)[seed % 4]
    _grant(ledger, amount)
    if chance.random() < 0.5:
        _grant(ledger, PRICE * 3, "gift", kind="promo", priority=chance.choice([1, 90]))
    booked: list[UsageEvent] = []
    for month in (MONTH, NEXT, "2026-12"):
        for kind in chance.choices(("october", "november", "undo", "draw"), k=chance.randrange(6)):
            if kind == "draw":
                draw_credits(ledger, [SHARD], now_ns=NOW_NS)
            elif kind == "undo" and booked:
                book(ledger, [_undo(booked.pop())])
            elif kind != "undo":
                at = OCTOBER_NS if kind == "october" else NOVEMBER_NS
                booked.append(make_event(occurred_at=at))
                book(ledger, [booked[-1]])
        later = LATER_NS + 40 * 86_400 * 10**9
        issue(ledger, "acme", month, _terms(plan), INVOICING, now_ns=later)

    documents = [each.document for each in all_issued(ledger)]
    due = sum(each["due_nano"] for each in documents)
    total = sum(each["total_nano"] for each in documents)
    assert due == _account(ledger, "receivable") >= 0
    assert balance_of(ledger, "acme", NOW_NS).spent_nano == total - due <= total
    assert due == 0 or amount < 500 * USD
    assert verify(ledger) == []
    ledger.close()
