"""What was published as prices, on both databases."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fixtures_ledger import BOOK
from sqlalchemy import delete
from sqlalchemy.exc import DBAPIError

from metering.prices import PriceBook
from metering.settlement.ledger.outbox import take_alerts
from metering.settlement.ledger.price_books import (
    PublishRefusedError,
    begun_late,
    eras_named,
    publications,
    publish,
)
from metering.settlement.ledger.price_tables import price_publication
from metering.settlement.ledger.standing import price_bodies
from metering.settlement.ledger.store import Ledger

OTHER = PriceBook(BOOK.rules[:1])


def _publish(ledger: Ledger, book: PriceBook, *, goes_back: bool = False) -> int | None:
    found = publish(ledger, book, by="ann", note="why", goes_back=goes_back, now_ns=5)
    return None if found is None else found.id


def test_a_book_is_kept_with_its_bodies_and_told(ledger: Ledger) -> None:
    """Whoever rates later finds what was in force."""
    assert _publish(ledger, BOOK) == 1

    [found] = publications(ledger)
    assert (found.cost_version, found.by, found.note) == (BOOK.cost_version, "ann", "why")
    assert found.eras == eras_named(BOOK)
    assert price_bodies(ledger, BOOK.bodies) == BOOK.bodies
    [alert] = take_alerts(ledger, "log", now_ns=10)
    assert alert.body["kind"] == "prices_published"


def test_a_repeat_changes_nothing(ledger: Ledger) -> None:
    """The same book is published once."""
    _publish(ledger, BOOK)

    assert _publish(ledger, BOOK) is None
    assert len(publications(ledger)) == 1


def test_nobody_goes_back_without_saying_so(ledger: Ledger) -> None:
    """An older file that was rolled out by mistake is caught here."""
    _publish(ledger, BOOK)
    _publish(ledger, OTHER)

    with pytest.raises(PublishRefusedError, match="--back"):
        _publish(ledger, BOOK)

    assert _publish(ledger, BOOK, goes_back=True) == 3


def test_what_was_published_stays(ledger: Ledger) -> None:
    """By trigger."""
    _publish(ledger, BOOK)

    with pytest.raises(DBAPIError), ledger.write() as connection:
        connection.execute(delete(price_publication))


def test_a_beginning_in_the_past_is_noticed(ledger: Ledger) -> None:
    """One that was published before it began is none; nor is the first publication."""
    dated = replace(BOOK, others=(replace(OTHER, effective_from_ns=100),))
    assert begun_late(eras_named(dated), (), 200) is None
    _publish(ledger, BOOK)
    before = publications(ledger)

    assert begun_late(eras_named(dated), before, 99) is None
    assert begun_late(eras_named(dated), before, 100) == 100
    _publish(ledger, dated)
    assert begun_late(eras_named(dated), publications(ledger), 200) is None
