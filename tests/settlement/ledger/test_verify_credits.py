"""`weir ledger verify` finds what was done to grants behind its back, and says what."""

from __future__ import annotations

import pytest
from fixtures_ledger import KEYS, NOW_NS, allow_changes, book, make_event
from sqlalchemy import text

from metering.settlement.credits import Grant
from metering.settlement.ledger.credit_books import add_grant
from metering.settlement.ledger.credit_draws import draw_credits
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.verify import verify

GRANT = Grant("g", "acme", "paid", 1, 10**10, 0, None, "manual", "PO 1")


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ("UPDATE grant_standing SET left_nano = left_nano + 1", "grant g: its standing is not"),
        ("DELETE FROM grant_standing", "grant g: no standing"),
        ("UPDATE credit_tenant SET counted_nano = 1", "credit_tenant acme: 1 nano-USD counted"),
        ("UPDATE credit_grant SET kind = 'promo'", "does not post what its grants' entries"),
        ("UPDATE credit_grant SET tenant = 'other'", "draws from grant g of another tenant"),
        ("UPDATE grant_entry SET amount_nano = amount_nano - 1", "draws "),
        ("UPDATE grant_entry SET number = 2", "grant g: entry 1 is missing"),
        ("DELETE FROM grant_entry", "is of credit, and of no grant"),
        ("UPDATE grant_entry SET event_id = 'e9'", "event e9 draws from a grant, and is not in"),
        ("UPDATE grant_entry SET amount_nano = -99999999999", "takes more than there was"),
    ],
)
def test_a_forged_grant_is_found(ledger: Ledger, change: str, finding: str) -> None:
    """Each thing that can be changed has a finding that names it."""
    add_grant(ledger, GRANT, NOW_NS)
    book(ledger, [make_event()])
    draw_credits(ledger, [KEYS.shard("acme")], now_ns=NOW_NS)
    assert verify(ledger) == []

    with ledger.write() as connection:
        allow_changes(connection, "credit_grant", "grant_entry")
        connection.execute(text(change))

    assert any(finding in each for each in verify(ledger)), verify(ledger)
