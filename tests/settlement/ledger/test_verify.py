"""A past that was changed shows."""

from __future__ import annotations

import pytest
from fixtures_ledger import book, make_event

from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.verify import verify


def test_a_changed_past_shows(ledger: Ledger) -> None:
    book(ledger, [make_event(), make_event()])
    with ledger.write() as connection:
        connection.exec_driver_sql("DROP TRIGGER usage_event_no_update")
        connection.exec_driver_sql("UPDATE usage_event SET project = 'other' WHERE seq = 1")
        connection.exec_driver_sql("UPDATE usage_event SET amounts = '{}' WHERE seq = 2")

    findings = " / ".join(verify(ledger))

    assert "column project is not what the payload says" in findings
    assert "event 2" in findings
    assert "does not hash to its link" in findings


def test_a_removed_event_shows(ledger: Ledger) -> None:
    book(ledger, [make_event(), make_event()])
    with ledger.write() as connection:
        connection.exec_driver_sql("DROP TRIGGER usage_event_no_delete")
        connection.exec_driver_sql("DELETE FROM usage_event WHERE seq = 2")

    assert any("does not end where its watermark says" in found for found in verify(ledger))


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        ("UPDATE posting SET amount_nano = 1 WHERE seq = 1", "transaction 1 is off by"),
        ("UPDATE posting SET amount_nano = 2 * amount_nano", "does not post what its events"),
        ("UPDATE balance SET amount_nano = 1", "is not the sum of its postings"),
        ("UPDATE usage_event SET sell_nano = 1", "its totals are not the sums of its units"),
        ("UPDATE usage_event SET payload = x'00'", "has another payload than was received"),
        ("UPDATE usage_event SET prev_hash = 'x' WHERE seq = 2", "does not follow the one before"),
        ("DELETE FROM usage_event WHERE seq = 1", "event 1 of the chain is missing"),
    ],
)
def test_every_kind_of_change_has_its_finding(ledger: Ledger, statement: str, finding: str) -> None:
    book(ledger, [make_event(), make_event()])
    with ledger.write() as connection:
        for table in ("posting", "usage_event"):
            for verb in ("update", "delete"):
                connection.exec_driver_sql(f"DROP TRIGGER {table}_no_{verb}")
        connection.exec_driver_sql(statement)

    assert any(finding in found for found in verify(ledger))
