"""Rollups and invoices against the events, while a worker may go on booking."""

from __future__ import annotations

from fixtures_ledger import book, make_event
from sqlalchemy import update

from metering.settlement.ledger import tables
from metering.settlement.ledger.rollups import update_rollups
from metering.settlement.ledger.store import Ledger
from metering.settlement.totals import check_totals


def test_what_the_rollups_lack_is_noted_and_the_rest_compared(ledger: Ledger) -> None:
    book(ledger, [make_event()])
    update_rollups(ledger)
    assert check_totals(ledger).state == "holds"

    book(ledger, [make_event(), make_event()])
    check = check_totals(ledger)

    assert check.findings == []
    assert check.notes == ["2 events are settled and not in the rollups yet"]


def test_a_ledger_without_any_rollup_is_behind_and_not_broken(ledger: Ledger) -> None:
    book(ledger, [make_event()])

    assert check_totals(ledger).state == "partly"


def test_a_rollup_that_was_changed_is_found_also_while_it_is_behind(ledger: Ledger) -> None:
    event = make_event()
    book(ledger, [event])
    update_rollups(ledger)
    book(ledger, [make_event()])
    with ledger.write() as connection:
        changed = update(tables.rollup).where(tables.rollup.c.sell_nano > 0)
        connection.execute(changed.values(sell_nano=tables.rollup.c.sell_nano + 1))

    [finding] = check_totals(ledger).findings

    assert finding.startswith(f"tenant {event.tenant}: rollups sell ")
