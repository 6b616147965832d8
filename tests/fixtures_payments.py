"""A ledger, a Stripe with payments, and what books them; the clock is set by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fake_stripe import KEY, FakeStripe
from fake_stripe_payments import WEBHOOK_SECRET, FakePayments
from fixtures_stripe import CUSTOMERS, Clock
from sqlalchemy import select

from metering.callbacks import Callback
from metering.settlement.ledger import payment_tables, tables
from metering.settlement.ledger.credit_books import balance_of
from metering.settlement.ledger.payment_book import keep_callbacks
from metering.settlement.ledger.store import Ledger
from metering.settlement.payments_booking import Payments, PaymentTurn
from metering.settlement.payments_port import PaymentsSdk
from metering.stripe_settings import StripeSettings

USD = 1_000_000_000
TENANTS = frozenset({"acme", "beta", "gamma"})


class Till:
    """Everything together."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.clock = ledger, Clock()
        self.server = FakeStripe(self.clock.seconds)
        self.stripe: FakePayments = self.server.payments
        self.settings = StripeSettings(
            KEY,
            (),
            CUSTOMERS,
            since_ns=0,
            timeout_s=5.0,
            api_base=self.server.start(),
            webhook_secrets=(WEBHOOK_SECRET,),
        )
        self.told = 0

    def payments(self, at: Callable[[str], None] | None = None) -> Payments:
        return Payments(
            self.ledger,
            PaymentsSdk(self.settings),
            customers=CUSTOMERS,
            tenants=TENANTS,
            clock=self.clock,
            at=at or (lambda _step: None),
        )

    def call_back(self, events: list[dict[str, Any]] | None = None) -> None:
        """Deliver these events, by default those that were not delivered yet."""
        if events is None:
            events, self.told = self.stripe.events[self.told :], len(self.stripe.events)
        found = [Callback(each["id"], each["type"], each["created"]) for each in events]
        keep_callbacks(self.ledger, found, self.clock())

    def turn(self, *, later: int = 0) -> PaymentTurn:
        self.clock.now_ns += later
        return self.payments().turn()

    def settle(self) -> PaymentTurn:
        """Deliver what happened, and book it."""
        self.call_back()
        return self.turn()

    def left(self, tenant: str = "acme") -> int:
        """The tenant's credit."""
        return balance_of(self.ledger, tenant, self.clock()).left_nano

    def states(self) -> dict[str, tuple[str, str | None]]:
        with self.ledger.read() as connection:
            rows = connection.execute(select(payment_tables.payment)).all()
        return {row.id: (row.state, row.reason) for row in rows}

    def callbacks(self) -> list[str]:
        with self.ledger.read() as connection:
            rows = connection.execute(select(payment_tables.payment_callback)).all()
        return sorted(row.state for row in rows)

    def steps(self) -> list[tuple[str, int]]:
        with self.ledger.read() as connection:
            rows = connection.execute(select(payment_tables.payment_item)).all()
        return sorted((row.step, row.amount_nano) for row in rows)

    def alerts(self) -> list[str]:
        with self.ledger.read() as connection:
            rows = connection.execute(tables.outbox.select()).all()
        return sorted(row.key.partition(":")[0] for row in rows)


@pytest.fixture
def till(ledger: Ledger) -> Iterator[Till]:
    made = Till(ledger)
    yield made
    made.server.stop()
