"""A forged payment shows."""

from __future__ import annotations

import pytest
from fixtures_payments import Till
from sqlalchemy import text

from metering.settlement.ledger.verify import verify


def _forge(till: Till, statement: str) -> None:
    """Change a row behind the triggers' backs."""
    with till.ledger.write() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL session_replication_role = replica"))
        else:
            for table in ("payment_item", "grant_entry", "credit_grant"):
                for verb in ("update", "delete"):
                    connection.execute(text(f"DROP TRIGGER IF EXISTS {table}_no_{verb}"))
        connection.execute(text(statement))


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE payment_item SET amount_nano = 7 WHERE step = 'refunded'", "is not booked with 7"),
        ("UPDATE payment_item SET tenant = 'beta' WHERE step = 'paid'", "has no grant of"),
        ("DELETE FROM payment_item WHERE step = 'paid'", "comes of a payment, and there is none"),
        ("DELETE FROM payment_item WHERE step = 'refunded'", "is of no payment"),
        ("UPDATE payment SET state = 'open'", "is open, and that is not"),
        ("UPDATE payment SET credit_nano = 1", "is booked, and that is not"),
    ],
)
def test_what_was_changed_is_named(till: Till, statement: str, says: str) -> None:
    payment = till.stripe.pay()
    till.stripe.refund(payment, 2_500)
    till.settle()
    assert verify(till.ledger) == []

    _forge(till, statement)

    assert any(says in finding for finding in verify(till.ledger)), verify(till.ledger)
