"""The journal: balanced transactions out of rated events. Knows balance; the store knows SQL.

Sign convention: **a debit is positive, a credit negative**, and every transaction sums to zero.
For usage of one tenant in one batch:

    receivable         + sell    the tenant owes us (asset, grows by debit)
    revenue            - sell    we earned it (income, grows by credit)
    cogs               + cost    it cost us (expense, grows by debit)
    provider_payable   - cost    we owe the provider (liability, grows by credit)

A tenant's receivable therefore reads as what it owes; a correction with negative units turns
every sign round and is a transaction like any other. Nothing is ever updated.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from metering.settlement.rating import RatedEvent

CURRENCY = "USD"


class Account(StrEnum):
    """The accounts of the books, each per tenant: those that usage moves, then those of credit."""

    RECEIVABLE = "receivable"
    REVENUE = "revenue"
    COGS = "cogs"
    PROVIDER_PAYABLE = "provider_payable"
    CUSTOMER_CREDIT = "customer_credit"
    """Paid in advance and not used yet: a liability, so below zero."""
    PROMO_CREDIT = "promo_credit"
    """Given and not used yet, below zero likewise."""
    BREAKAGE = "breakage"
    """What was paid in advance and expired: income."""
    PROMO_EXPENSE = "promo_expense"
    """What was given, less what expired of it."""
    PAYMENTS_CLEARING = "payments_clearing"
    """Money that a payment brought, less what went back: at the payment provider, or on its way."""


class UnbalancedError(Exception):
    """A transaction that does not sum to zero: a bug of ours, and never written."""


@dataclass(frozen=True, slots=True)
class Posting:
    """One side of a transaction; `amount_nano` is not zero, debit positive."""

    account: str
    amount_nano: int
    currency: str = CURRENCY


@dataclass(frozen=True, slots=True)
class Transaction:
    """What is booked together for one tenant. Raises UnbalancedError when made unbalanced.

    `idem_key` makes a second booking of the same thing impossible. Free usage has no postings.
    """

    tenant: str
    kind: str
    idem_key: str
    events: int
    postings: tuple[Posting, ...]

    def __post_init__(self) -> None:
        check_balanced(self.postings)


def usage_transaction(tenant: str, rated: Sequence[RatedEvent]) -> Transaction:
    """The transaction of one tenant's new events in one batch; `rated` is not empty."""
    assert all(one.event.tenant == tenant for one in rated)
    sell_nano = sum(one.sell_nano for one in rated)
    cost_nano = sum(one.cost_nano for one in rated)
    sides = (
        Posting(Account.RECEIVABLE, sell_nano),
        Posting(Account.REVENUE, -sell_nano),
        Posting(Account.COGS, cost_nano),
        Posting(Account.PROVIDER_PAYABLE, -cost_nano),
    )
    return Transaction(
        tenant=tenant,
        kind="usage",
        idem_key=f"usage:{rated[0].event.event_id}",
        events=len(rated),
        postings=tuple(side for side in sides if side.amount_nano),
    )


def adjustment_transaction(tenant: str, amount_nano: int, *, idem_key: str) -> Transaction:
    """What a plan comes to beyond what was booked event by event; the events stay as they are."""
    sides = Posting(Account.RECEIVABLE, amount_nano), Posting(Account.REVENUE, -amount_nano)
    return Transaction(tenant, "adjustment", idem_key, 0, sides)


def check_balanced(postings: Iterable[Posting]) -> None:
    """UnbalancedError unless the postings sum to zero in every currency."""
    sums: dict[str, int] = {}
    for posting in postings:
        sums[posting.currency] = sums.get(posting.currency, 0) + posting.amount_nano
    for currency, amount_nano in sums.items():
        if amount_nano:
            raise UnbalancedError(f"postings are off by {amount_nano} nano-{currency}")
