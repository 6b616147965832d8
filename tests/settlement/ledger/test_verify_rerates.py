"""`verify` finds what was done to adjustments of events that were rated again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fixtures_ledger import BOOK, KEYS, NOVEMBER_NS, allow_changes, book, make_event
from sqlalchemy import text

from metering.prices import PriceBook
from metering.settlement.ledger.rerate_books import Asked, apply
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.verify import verify
from metering.settlement.rerating import eras_of

TWICE = PriceBook((replace(BOOK.rules[0], multiplier_ppm=2_000_000), BOOK.rules[1]))


@pytest.fixture
def rated(ledger: Ledger) -> Ledger:
    """A ledger with one event that was rated again."""
    book(ledger, [make_event()])
    apply(
        ledger,
        KEYS,
        Asked(0, 2**63 - 1),
        eras_of(TWICE),
        bodies=TWICE.bodies,
        by="ann",
        reason="for the test",
        now_ns=NOVEMBER_NS,
    )
    return ledger


def test_what_was_rated_again_holds(rated: Ledger) -> None:
    """Nothing to find."""
    assert verify(rated) == []


def test_what_is_not_billable_needs_no_price_of_sale(ledger: Ledger) -> None:
    """It names one that nobody was ever billed by: the ledger has no copy, and lacks none."""
    book(ledger, [make_event(billable=False, sell_version="0" * 12)])
    dearer = PriceBook((replace(BOOK.rules[0], input_rate_pico=9_000_000), BOOK.rules[1]))
    done = apply(
        ledger,
        KEYS,
        Asked(0, 2**63 - 1),
        [replace(eras_of(dearer)[0], sell=None)],
        bodies=dearer.bodies,
        by="ann",
        reason="",
        now_ns=NOVEMBER_NS,
    )

    assert (done.changed, verify(ledger)) == (1, [])


@pytest.mark.parametrize(
    ("table", "change", "finding"),
    [
        ("price_body", "DELETE FROM price_body", "which the ledger does not have"),
        (
            "usage_event",
            "DELETE FROM usage_event WHERE kind = 'usage'",
            "which is not there",
        ),
        (
            "usage_event",
            "UPDATE usage_event SET amounts = replace(amounts, ',2500000,', ',2500001,')",
            "with its adjustments is not what its prices come to",
        ),
        (
            "usage_event",
            "UPDATE usage_event SET occurred_at = occurred_at + 1 WHERE kind = 'adjustment'",
            "which is not there",
        ),
    ],
)
def test_what_was_changed_is_found(rated: Ledger, table: str, change: str, finding: str) -> None:
    """Prices that are gone, an event that is gone, another amount, another place."""
    with rated.write() as connection:
        allow_changes(connection, table)
        connection.execute(text(change))

    assert any(finding in each for each in verify(rated)), verify(rated)
