"""Low balances in the ledger: an alert in the outbox, once for each crossing."""

from __future__ import annotations

from fixtures_ledger import NOW_NS
from sqlalchemy import select

from metering.settlement.credits import Grant
from metering.settlement.ledger import tables
from metering.settlement.ledger.credit_books import add_grant, take_back
from metering.settlement.ledger.credit_levels import tell_levels
from metering.settlement.ledger.store import Ledger

LEVELS = {"acme": (50, 0), "beta": (50, 0)}


def keys(ledger: Ledger) -> list[str]:
    """The alerts in the outbox."""
    with ledger.read() as connection:
        return list(
            connection.execute(select(tables.outbox.c.key).order_by(tables.outbox.c.id)).scalars()
        )


def test_each_crossing_is_told_once(ledger: Ledger) -> None:
    """Who was never granted anything is not told of; a second crossing is."""
    add_grant(ledger, Grant("g", "acme", "paid", 1, 100, 0, None, "manual", ""), NOW_NS)
    assert tell_levels(ledger, LEVELS, now_ns=NOW_NS) == 0

    take_back(ledger, "g", 60, idem_key="a", reason="refund", now_ns=NOW_NS)
    assert tell_levels(ledger, LEVELS, now_ns=NOW_NS) == 1
    assert tell_levels(ledger, LEVELS, now_ns=NOW_NS) == 0
    add_grant(ledger, Grant("h", "acme", "paid", 1, 100, 0, None, "manual", ""), NOW_NS)
    assert tell_levels(ledger, LEVELS, now_ns=NOW_NS) == 0
    take_back(ledger, "g", 40, idem_key="b", reason="refund", now_ns=NOW_NS)
    take_back(ledger, "h", 100, idem_key="c", reason="refund", now_ns=NOW_NS)
    assert tell_levels(ledger, LEVELS, now_ns=NOW_NS) == 2

    assert keys(ledger) == [
        "low_balance:acme:50:1",
        "low_balance:acme:50:2",
        "low_balance:acme:0:1",
    ]


def test_nothing_is_asked_where_nobody_wants_to_know(ledger: Ledger) -> None:
    assert tell_levels(ledger, {}, now_ns=NOW_NS) == 0
