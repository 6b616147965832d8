"""Transactions balance or do not exist."""

from __future__ import annotations

import pytest
from fixtures_ledger import CARDS, make_event
from hypothesis import given
from hypothesis import strategies as st

from metering.settlement.journal import (
    Account,
    Posting,
    Transaction,
    UnbalancedError,
    usage_transaction,
)


@given(st.lists(st.tuples(st.integers(-500, 10**6), st.integers(-500, 10**6)), min_size=1))
def test_every_usage_transaction_sums_to_zero(pairs: list[tuple[int, int]]) -> None:
    rated = [
        CARDS.rate(make_event(units={"input_uncached": i, "output_text": o})) for i, o in pairs
    ]

    transaction = usage_transaction("acme", rated)

    assert sum(posting.amount_nano for posting in transaction.postings) == 0
    assert all(posting.amount_nano for posting in transaction.postings)


def test_a_debit_is_positive() -> None:
    transaction = usage_transaction("acme", [CARDS.rate(make_event())])

    assert {posting.account: posting.amount_nano for posting in transaction.postings} == {
        Account.RECEIVABLE: 5_500_000,
        Account.REVENUE: -5_500_000,
        Account.COGS: 5_500_000,
        Account.PROVIDER_PAYABLE: -5_500_000,
    }


def test_an_unbalanced_transaction_cannot_be_made() -> None:
    with pytest.raises(UnbalancedError, match="off by 1 nano-USD"):
        Transaction("acme", "usage", "k", 1, (Posting("receivable", 1),))


def test_currencies_balance_each_by_itself() -> None:
    with pytest.raises(UnbalancedError):
        Transaction("acme", "usage", "k", 1, (Posting("a", 1, "USD"), Posting("b", -1, "EUR")))
