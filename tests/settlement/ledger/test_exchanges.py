"""True and recovered events of one exchange: whatever comes when, one of them counts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import permutations
from typing import Any

import pytest
from fixtures_ledger import book, make_event, new_id
from sqlalchemy import select

from metering.events import RECOVERED, Kind, Reason, UsageEvent
from metering.ids import derived_id
from metering.recovery import reversal
from metering.settlement.ledger.exchanges import booked_exchanges, exchange_of
from metering.settlement.ledger.queries import invoice_report
from metering.settlement.ledger.rollups import update_rollups
from metering.settlement.ledger.standing import confirmed_spool
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.tables import balance, usage_event
from metering.settlement.ledger.verify import verify

_UNITS = {"input_uncached": 500, "output_text": 30}


def recovered_and_true(**changes: Any) -> tuple[UsageEvent, UsageEvent]:
    """What a checkpoint left of an attempt, and what it came to."""
    true = make_event()
    recovered = make_event(
        event_id=derived_id(true.event_id, RECOVERED),
        exchange_id=true.exchange_id,
        usage_source=RECOVERED,
        units=_UNITS,
        reason_code=Reason.PARTIAL,
        **changes,
    )
    return recovered, true


def booked(ledger: Ledger) -> list[Any]:
    with ledger.read() as connection:
        return list(connection.execute(select(usage_event).order_by(usage_event.c.seq)))


def owed(ledger: Ledger) -> int:
    with ledger.read() as connection:
        query = select(balance.c.amount_nano).where(balance.c.account == "receivable")
        return int(connection.execute(query).scalar_one())


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("true_first", [True, False])
def test_the_truth_takes_the_recovered_event_back(
    ledger: Ledger, together: bool, true_first: bool
) -> None:
    """F-05: what would have reversed it went with Redis; the books do it in the same transaction.

    Then the reversal comes after all, and both come once more: repeats, and no conflict.
    """
    recovered, true = recovered_and_true()
    events = [true, recovered] if true_first else [recovered, true]

    batches: Sequence[Sequence[UsageEvent]] = [events] if together else [[one] for one in events]
    reports = [book(ledger, batch) for batch in batches]

    assert sum(report.superseded for report in reports) == 1
    rows = booked(ledger)
    assert sorted((row.kind, row.usage_source) for row in rows) == [
        (Kind.CORRECTION, RECOVERED),
        (Kind.USAGE, "counted"),
        (Kind.USAGE, RECOVERED),
    ]
    late = book(ledger, [reversal(recovered), recovered, true])
    assert (late.settled, late.repeats, late.conflicts, late.superseded) == (0, 3, 0, 0)
    assert owed(ledger) == true.admission_nano
    assert verify(ledger) == []
    update_rollups(ledger)
    invoice = invoice_report(ledger, "acme", "2026-11")
    assert invoice is not None
    assert invoice.invoice["total_nano"] == true.admission_nano


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_reversal_that_came_by_the_stream_is_made_only_once(
    ledger: Ledger, order: tuple[int, ...]
) -> None:
    recovered, true = recovered_and_true()
    events = [recovered, reversal(recovered), true]

    for at in order:
        assert book(ledger, [events[at]]).conflicts == 0

    assert len(booked(ledger)) == 3
    assert owed(ledger) == true.admission_nano
    assert verify(ledger) == []


def test_what_was_recovered_from_facts_alone_is_taken_back(ledger: Ledger) -> None:
    """Its id comes from the exchange's, and it cost us without being billed."""
    true = make_event()
    recovered = make_event(
        event_id=derived_id(true.exchange_id, RECOVERED),
        exchange_id=true.exchange_id,
        usage_source=RECOVERED,
        units={"input_uncached": 500},
        billable=False,
        admission_nano=0,
        cost_nano=2_500_000,
        reason_code=Reason.RECOVERED_UNCONFIRMED,
    )

    book(ledger, [recovered])
    book(ledger, [true])

    rows = booked(ledger)
    assert sum(row.cost_nano for row in rows) == true.cost_nano
    assert sum(row.sell_nano for row in rows) == true.admission_nano
    assert verify(ledger) == []


def test_every_recovered_attempt_goes_and_no_other_exchange(ledger: Ledger) -> None:
    """Two attempts were noted, one without a price; another exchange stays recovered."""
    first, true = recovered_and_true()
    second, _ = recovered_and_true()
    second = make_event(
        exchange_id=true.exchange_id,
        attempt=2,
        usage_source=RECOVERED,
        model_upstream="nobody-priced",
        units=_UNITS,
    )
    other, _ = recovered_and_true()
    book(ledger, [first, second, other])

    report = book(ledger, [true])

    assert report.superseded == 2
    corrected = {row.corrects for row in booked(ledger) if row.corrects}
    assert corrected == {first.event_id, second.event_id}
    assert owed(ledger) == true.admission_nano + other.admission_nano
    assert verify(ledger) == []


def test_which_exchanges_have_a_true_event(ledger: Ledger) -> None:
    """A recovered event is none, nor is what takes it back, nor another exchange's."""
    recovered, unknown = recovered_and_true()
    true = make_event()
    book(ledger, [recovered, reversal(recovered), true])

    found = booked_exchanges(ledger, [exchange_of(one) for one in (recovered, unknown, true)])

    assert found == {true.exchange_id}


def test_a_record_of_the_spool_is_confirmed_by_its_last_event(ledger: Ledger) -> None:
    """The first of two attempts says nothing of the second, which may wait or be dead."""
    exchange_id = new_id()
    of_record = {"proxy_id": "p", "spool_seq": 7, "spool_events": 2, "exchange_id": exchange_id}
    first, second = make_event(**of_record), make_event(attempt=2, **of_record)
    recovered = make_event(exchange_id=exchange_id, usage_source=RECOVERED, units=_UNITS)

    book(ledger, [first, recovered, make_event(proxy_id="p", spool_seq=9, spool_events=1)])
    book(ledger, [first])
    early = confirmed_spool(ledger)
    report = book(ledger, [second])

    assert early == {"p": "9-9"}
    assert report.confirmed == {"p": [7]}
    assert confirmed_spool(ledger) == {"p": "7-7,9-9"}


def test_a_record_whose_events_come_together_is_confirmed_at_once(ledger: Ledger) -> None:
    of_record = {"proxy_id": "p", "spool_seq": 7, "spool_events": 2, "exchange_id": new_id()}

    book(ledger, [make_event(**of_record), make_event(attempt=2, **of_record)])

    assert confirmed_spool(ledger) == {"p": "7-7"}


def test_an_index_answers_what_each_batch_asks(ledger: Ledger) -> None:
    """Books grow for years; the recovered events of an exchange are found without reading them."""
    with ledger.read() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        explain = "EXPLAIN" if connection.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"
        plan = connection.exec_driver_sql(
            f"{explain} SELECT event_id FROM usage_event "
            "WHERE usage_source = 'recovered' AND exchange_id IN ('a', 'b')"
        ).all()

    # which of the two a planner without statistics takes is its own affair
    assert re.search("ix_usage_event_(recovered|exchange)", str(plan))
