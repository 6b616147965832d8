"""Grants in the ledger: booked once, taken back in order, and never below zero."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fixtures_ledger import NOW_NS
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from metering.settlement.credits import GRACE_NS, Grant
from metering.settlement.ledger import tables
from metering.settlement.ledger.credit_books import (
    GrantConflictError,
    UnknownGrantError,
    add_grant,
    balance_of,
    balances,
    entries_of_grant,
    give_again,
    left_of_all,
    take_back,
)
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.verify import verify

USD = 1_000_000_000
PAID = Grant("g1", "acme", "paid", 10, 10 * USD, NOW_NS, None, "manual", "PO 4711")
PROMO = Grant("g2", "acme", "promo", 10, 3 * USD, NOW_NS, NOW_NS + GRACE_NS, "manual", "welcome")


def accounts(ledger: Ledger, tenant: str = "acme") -> dict[str, int]:
    """What stands in a tenant's accounts, in nano-USD; none that stands at zero."""
    table = tables.balance.c
    query = select(table.account, table.amount_nano).where(table.tenant == tenant)
    with ledger.read() as connection:
        return {row.account: int(row.amount_nano) for row in connection.execute(query) if row[1]}


def test_a_grant_is_booked_once(ledger: Ledger) -> None:
    """A repeat with the same body is known; the money is there once."""
    assert add_grant(ledger, PAID, NOW_NS)
    assert not add_grant(ledger, PAID, NOW_NS + 5)

    assert accounts(ledger) == {"payments_clearing": 10 * USD, "customer_credit": -10 * USD}
    assert balance_of(ledger, "acme", NOW_NS).left_nano == 10 * USD
    assert verify(ledger) == []


def test_what_is_left_of_all_holds_now(ledger: Ledger) -> None:
    """Of every tenant; what has expired or does not hold yet is not in it."""
    assert left_of_all(ledger, NOW_NS) == 0
    add_grant(ledger, PAID, NOW_NS)
    add_grant(ledger, PROMO, NOW_NS)
    add_grant(ledger, replace(PAID, id="g3", tenant="beta", effective_at=NOW_NS + 9), NOW_NS)

    assert left_of_all(ledger, NOW_NS) == 13 * USD
    assert left_of_all(ledger, NOW_NS + GRACE_NS) == 20 * USD


def test_a_grant_with_another_body_is_a_conflict(ledger: Ledger) -> None:
    """The error names what differs, and nothing is booked."""
    add_grant(ledger, PAID, NOW_NS)

    with pytest.raises(GrantConflictError, match="amount_nano was 10000000000, is 11000000000"):
        add_grant(ledger, replace(PAID, amount_nano=11 * USD), NOW_NS)
    assert balance_of(ledger, "acme", NOW_NS).granted_nano == 10 * USD


def test_a_promotion_is_an_expense_of_ours(ledger: Ledger) -> None:
    """What was given is owed in service against our own expense."""
    add_grant(ledger, PROMO, NOW_NS)

    assert accounts(ledger) == {"promo_expense": 3 * USD, "promo_credit": -3 * USD}


def test_only_what_holds_now_is_left(ledger: Ledger) -> None:
    """A grant that has expired, or has not begun, is no balance."""
    add_grant(ledger, PAID, NOW_NS)
    add_grant(ledger, PROMO, NOW_NS)

    assert balance_of(ledger, "acme", NOW_NS - 1).left_nano == 0
    assert balance_of(ledger, "acme", NOW_NS).left_by_grant == {"g1": 10 * USD, "g2": 3 * USD}
    later = balance_of(ledger, "acme", NOW_NS + GRACE_NS)
    assert (later.left_nano, later.expired_nano) == (10 * USD, 3 * USD)
    assert [each.tenant for each in balances(ledger, NOW_NS)] == ["acme"]


def test_a_refund_takes_what_is_left(ledger: Ledger) -> None:
    """Once for a key; the money leaves the clearing account."""
    add_grant(ledger, PAID, NOW_NS)

    taken = take_back(ledger, "g1", 4 * USD, idem_key="re_1", reason="refund", now_ns=NOW_NS)
    again = take_back(ledger, "g1", 4 * USD, idem_key="re_1", reason="refund", now_ns=NOW_NS)

    assert (taken.left_nano, taken.owed_nano, taken.is_new) == (4 * USD, 0, True)
    assert again == replace(taken, is_new=False)
    assert accounts(ledger) == {"payments_clearing": 6 * USD, "customer_credit": -6 * USD}
    with pytest.raises(GrantConflictError, match="re_1"):
        take_back(ledger, "g1", 5 * USD, idem_key="re_1", reason="refund", now_ns=NOW_NS)


def test_no_more_is_taken_than_there_was(ledger: Ledger) -> None:
    """Neither in one go nor in several; the error says how much can be."""
    add_grant(ledger, PAID, NOW_NS)
    take_back(ledger, "g1", 4 * USD, idem_key="re_1", reason="refund", now_ns=NOW_NS)

    with pytest.raises(ValueError, match="at most 6000000000 can"):
        take_back(ledger, "g1", 7 * USD, idem_key="re_2", reason="refund", now_ns=NOW_NS)
    with pytest.raises(UnknownGrantError, match="no grant g9"):
        take_back(ledger, "g9", 1, idem_key="re_3", reason="refund", now_ns=NOW_NS)


def test_a_dispute_that_is_won_gives_it_again(ledger: Ledger) -> None:
    """The balance is what it was, and the books are."""
    add_grant(ledger, PAID, NOW_NS)
    before = accounts(ledger)
    take_back(ledger, "g1", 10 * USD, idem_key="dp_1", reason="dispute", now_ns=NOW_NS)
    assert balance_of(ledger, "acme", NOW_NS).left_nano == 0

    assert give_again(ledger, "g1", 10 * USD, idem_key="dp_1", now_ns=NOW_NS)
    assert not give_again(ledger, "g1", 10 * USD, idem_key="dp_1", now_ns=NOW_NS)

    assert accounts(ledger) == before
    assert balance_of(ledger, "acme", NOW_NS).left_nano == 10 * USD
    assert [row["kind"] for row in entries_of_grant(ledger, "g1")] == ["take", "again"]
    with pytest.raises(ValueError, match="0 were taken back"):
        give_again(ledger, "g1", 1, idem_key="dp_2", now_ns=NOW_NS)
    assert verify(ledger) == []


def test_what_nothing_could_be_drawn_from_is_refused(ledger: Ledger) -> None:
    """No amount, or no time in which it holds."""
    with pytest.raises(ValueError, match="no grant"):
        add_grant(ledger, replace(PAID, amount_nano=0), NOW_NS)
    with pytest.raises(ValueError, match="expires before"):
        add_grant(ledger, replace(PAID, expires_at=NOW_NS), NOW_NS)


def test_grants_and_their_entries_are_never_edited(ledger: Ledger) -> None:
    """Nobody changes or deletes one, by trigger."""
    add_grant(ledger, PAID, NOW_NS)
    take_back(ledger, "g1", USD, idem_key="re_1", reason="refund", now_ns=NOW_NS)

    for statement in ("UPDATE credit_grant SET priority = 1", "DELETE FROM grant_entry"):
        with pytest.raises(DBAPIError), ledger.write() as connection:
            connection.execute(text(statement))
