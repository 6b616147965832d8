"""A past that was changed shows."""

from __future__ import annotations

import hashlib

import pytest
from fixtures_ledger import allow_changes, book, make_event
from sqlalchemy import update

from metering.settlement.ledger import tables
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.verify import examine, verify


def test_a_changed_past_shows(ledger: Ledger) -> None:
    book(ledger, [make_event(), make_event()])
    with ledger.write() as connection:
        allow_changes(connection, "usage_event")
        connection.exec_driver_sql("UPDATE usage_event SET project = 'other' WHERE seq = 1")
        connection.exec_driver_sql("UPDATE usage_event SET amounts = '{}' WHERE seq = 2")

    findings = " / ".join(verify(ledger))

    assert "column project is not what the payload says" in findings
    assert "event 2" in findings
    assert "does not hash to its link" in findings


def test_a_removed_event_shows(ledger: Ledger) -> None:
    book(ledger, [make_event(), make_event()])
    with ledger.write() as connection:
        allow_changes(connection, "usage_event")
        connection.exec_driver_sql("DELETE FROM usage_event WHERE seq = 2")

    assert any("does not end where its watermark says" in found for found in verify(ledger))


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        ("UPDATE posting SET amount_nano = 1 WHERE seq = 1", "transaction 1 is off by"),
        ("UPDATE posting SET amount_nano = 2 * amount_nano", "does not post what its events"),
        ("UPDATE balance SET amount_nano = 1", "is not the sum of its postings"),
        ("UPDATE usage_event SET sell_nano = 1", "its totals are not the sums of its units"),
        ("UPDATE usage_event SET payload = '0'", "has another payload than was received"),
        ("UPDATE usage_event SET prev_hash = 'x' WHERE seq = 2", "does not follow the one before"),
        ("DELETE FROM usage_event WHERE seq = 1", "event 1 of the chain is missing"),
    ],
)
def test_every_kind_of_change_has_its_finding(ledger: Ledger, statement: str, finding: str) -> None:
    book(ledger, [make_event(), make_event()])
    with ledger.write() as connection:
        allow_changes(connection, "posting", "usage_event")
        connection.exec_driver_sql(statement)

    assert any(finding in found for found in verify(ledger))


@pytest.mark.parametrize("column", ["payload", "amounts"])
def test_what_cannot_be_read_is_a_finding(ledger: Ledger, column: str) -> None:
    """A forger who minds the hash and writes nonsense is found, and fails nothing."""
    book(ledger, [make_event()])
    digest = hashlib.sha256(b"nonsense").hexdigest()
    with ledger.write() as connection:
        allow_changes(connection, "usage_event")
        values = {column: b"nonsense" if column == "payload" else "nonsense"}
        if column == "payload":
            values["payload_hash"] = digest
        connection.execute(update(tables.usage_event).values(values))

    assert any("cannot be read" in found for found in verify(ledger))


def test_findings_are_bounded(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a ledger that was changed all over, the first findings are told and the rest counted."""
    monkeypatch.setattr("metering.settlement.ledger.verify.FINDINGS_MAX", 2)
    book(ledger, [make_event() for _ in range(5)])
    with ledger.write() as connection:
        allow_changes(connection, "usage_event")
        connection.exec_driver_sql("UPDATE usage_event SET project = 'x'")

    examination = examine(ledger)

    assert (len(examination.findings), examination.more) == (2, 3)
    assert verify(ledger)[-1] == "and 3 more"
