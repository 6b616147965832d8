"""Credit as values: whole at every step, taken and given in order."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.settlement.credits import (
    GRACE_NS,
    Entry,
    EntryKind,
    Grant,
    Paid,
    Standing,
    burn_order,
    draw,
    entries_transaction,
    expiry,
    grant_transaction,
    paid_after,
    returning,
    taking,
)
from metering.settlement.journal import Account

PAID = Grant("g", "acme", "paid", 1, 100, 0, 1_000, "manual", "")
PROMO = replace(PAID, id="p", kind="promo")


def test_promo_goes_before_paid_where_all_else_is_equal() -> None:
    assert sorted([PAID, PROMO], key=burn_order) == [PROMO, PAID]


def test_a_grant_holds_from_its_effect_to_before_its_expiry() -> None:
    grant = replace(PAID, effective_at=10)

    assert [grant.holds_at(at) for at in (9, 10, 999, 1_000)] == [False, True, True, False]
    assert replace(grant, expires_at=None).holds_at(2**62)


def test_expiry_waits_for_the_grace() -> None:
    standing = Standing(PAID, 40, drawn_nano=60)

    assert expiry(standing, 1_000 + GRACE_NS - 1) is None
    assert expiry(standing, 1_000 + GRACE_NS) == Entry("g", EntryKind.EXPIRE, -40, 40)
    assert expiry(replace(standing, left_nano=0), 2**62) is None


def test_what_is_taken_comes_from_what_is_left_then_expired_then_spent() -> None:
    standing = Standing(PAID, 20, drawn_nano=50, expired_nano=30)

    assert taking(standing, 15) == Entry("g", EntryKind.TAKE, -15, 0, 0)
    assert taking(standing, 60) == Entry("g", EntryKind.TAKE, -20, -30, 10)
    assert returning(standing.after(taking(standing, 60)), 60).owed_nano == -10


@pytest.mark.parametrize("amount", [0, -1, 101])
def test_no_other_amount_is_taken(amount: int) -> None:
    with pytest.raises(ValueError, match="cannot be taken back"):
        taking(Standing(PAID, 100), amount)


def test_an_event_that_was_half_paid_gives_back_what_no_grant_paid_first() -> None:
    standing = Standing(PAID, 0, drawn_nano=100)
    paid = Paid("e", 150, (("g", 100),))

    assert draw(paid, [standing], event_id="c", occurred_at=1, sell_nano=-50) == []
    [back] = draw(paid, [standing], event_id="c", occurred_at=1, sell_nano=-60)
    assert (back.kind, back.amount_nano) == (EntryKind.BACK, 10)
    assert paid_after(paid, -60, [back]) == Paid("e", 90, (("g", 90),))


def test_a_paid_grant_is_money_and_a_promotion_an_expense() -> None:
    sides = {each.account: each.amount_nano for each in grant_transaction(PROMO).postings}

    assert sides == {Account.PROMO_EXPENSE: 100, Account.PROMO_CREDIT: -100}
    assert grant_transaction(PAID).postings[0].account is Account.PAYMENTS_CLEARING


@given(steps=st.lists(st.tuples(st.sampled_from("dbetra"), st.integers(1, 120)), max_size=30))
def test_parts_are_always_the_amount_and_books_always_balance(steps: list[tuple[str, int]]) -> None:
    """Whatever is drawn, given back, expired, taken and given again, in any order."""
    standing, paid = Standing(PAID, 100), Paid("e")
    for verb, amount in steps:
        entries: list[Entry] = []
        if verb in "db":
            sell = amount if verb == "d" else -amount
            entries = draw(paid, [standing], event_id="x", occurred_at=1, sell_nano=sell)
            paid = paid_after(paid, sell, entries)
        elif verb == "e":
            entries = [each for each in [expiry(standing, 2**62)] if each is not None]
        elif verb in "tr":
            room = standing.grant.amount_nano - standing.taken_nano - standing.owed_nano
            entries = [taking(standing, min(amount, room))] if room else []
        else:
            room = standing.taken_nano + standing.owed_nano
            entries = [returning(standing, min(amount, room))] if room else []
        for entry in entries:
            standing = standing.after(entry)
            entries_transaction("acme", [(standing.grant, entry)], idem_key="k")  # or it raises

    assert standing.is_whole
    assert paid.drawn_nano == standing.drawn_nano
