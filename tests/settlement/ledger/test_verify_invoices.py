"""`verify` finds what was done to invoices, or to the statements under them."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest
from fixtures_ledger import allow_changes, book
from invoice_samples import INVOICING, ISSUED_NS, NO_PLAN, october
from sqlalchemy import select, text, update

from metering.settlement.documents import document_bytes
from metering.settlement.ledger.invoice_books import correct, issue
from metering.settlement.ledger.invoice_tables import invoice
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.verify import verify
from metering.settlement.statements import sha256_of

MONTH = "2026-10"


@pytest.fixture
def sent(ledger: Ledger) -> Ledger:
    """A ledger with two invoices, one of them corrected."""
    book(ledger, [october(), october(1, tenant="umbra")])
    for tenant in ("acme", "umbra"):
        issue(ledger, tenant, MONTH, NO_PLAN, INVOICING, now_ns=ISSUED_NS)
    other = replace(INVOICING, footer="another")
    correct(ledger, "acme", MONTH, other, reason="footer", now_ns=ISSUED_NS)
    return ledger


def test_what_was_sent_holds(sent: Ledger) -> None:
    assert verify(sent) == []


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (
            "UPDATE invoice SET sha256 = 'x' WHERE number = 'umbra-2026-10'",
            "invoice umbra-2026-10 does not hash to its name",
        ),
        (
            "DELETE FROM invoice WHERE number = 'umbra-2026-10'",
            "invoice acme-2026-10-C1 is the 3. of the ledger, expected 2",
        ),
        (
            "DELETE FROM invoice WHERE number = 'acme-2026-10'",
            "invoice acme-2026-10-C1 is correction 1, expected 0",
        ),
        (
            "UPDATE invoice SET tenant = 'zeta' WHERE number = 'umbra-2026-10'",
            "invoice umbra-2026-10 is that of umbra 2026-10 0 umbra-2026-10",
        ),
        (
            "UPDATE invoice SET period = '2026-09' WHERE number = 'umbra-2026-10'",
            "invoice umbra-2026-10: the month is not closed",
        ),
    ],
)
def test_what_was_changed_is_said(sent: Ledger, change: str, finding: str) -> None:
    with sent.write() as connection:
        allow_changes(connection, "invoice")
        connection.execute(text(change))

    assert finding in verify(sent)


@pytest.mark.parametrize(
    ("name", "value", "finding"),
    [
        ("total_nano", 1, "its lines come to 5500000 nano-USD, its total is 1"),
        ("due", "9.99", "0.01 USD are due after its credits, it says 9.99"),
        ("lines", [], "has other lines than the statement of umbra 2026-10"),
        ("digests", {"statement": "x"}, "is of another statement than that of umbra 2026-10"),
        ("credits", None, "cannot be read"),
    ],
)
def test_a_forged_document_is_found(sent: Ledger, name: str, value: object, finding: str) -> None:
    """Although it hashes to its name."""
    place = invoice.c.number == "umbra-2026-10"
    with sent.write() as connection:
        allow_changes(connection, "invoice")
        body = connection.execute(select(invoice.c.body).where(place)).scalar_one()
        forged = document_bytes({**orjson.loads(bytes(body)), name: value})
        values = {"body": forged, "sha256": sha256_of(forged)}
        connection.execute(update(invoice).where(place).values(values))

    found = verify(sent)
    assert any(each.startswith("invoice umbra-2026-10") and finding in each for each in found)
    assert not any("hash" in each for each in found)
