"""A batch of which the database refuses a part."""

from __future__ import annotations

import pytest
from fixtures_ledger import CARDS, NOW_NS, PRICES, make_entry, make_event
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from metering.settlement.batches import Batch, Booking
from metering.settlement.entries import Arrival, Malformed, read_entry
from metering.settlement.ledger import tables
from metering.settlement.ledger.parts import write_parts
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.verify import verify


def _batch(*latencies: int, malformed: bool = False) -> Batch:
    bookings = []
    for number, latency_ms in enumerate(latencies):
        arrival = read_entry(make_entry(make_event(latency_ms=latency_ms), f"179349{number:07}-0"))
        assert isinstance(arrival, Arrival)
        bookings.append(Booking(arrival, CARDS.rate(arrival.event)))
    dead = [Malformed(make_entry(make_event()), "no event")] if malformed else []
    return Batch(bookings, dead)


def _refuse(ledger: Ledger, *latencies: int) -> None:
    wrong = ", ".join(map(str, latencies))
    picky = "CREATE TRIGGER picky BEFORE INSERT ON usage_event"
    with ledger.write() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql(
                f"{picky} WHEN NEW.latency_ms IN ({wrong}) "
                "BEGIN SELECT RAISE(ABORT, 'not this one'); END"
            )
            return
        connection.exec_driver_sql(
            "CREATE FUNCTION pick() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "RAISE EXCEPTION 'not this one' USING ERRCODE = 'check_violation'; END $$"
        )
        connection.exec_driver_sql(
            f"{picky} FOR EACH ROW WHEN (NEW.latency_ms IN ({wrong})) EXECUTE FUNCTION pick()"
        )


def _latencies(ledger: Ledger) -> list[int]:
    with ledger.read() as connection:
        return sorted(connection.execute(select(tables.usage_event.c.latency_ms)).scalars())


@pytest.mark.parametrize("wrong", [[0], [4], [0, 4], [2, 3], [0, 1, 2, 3, 4]], ids=str)
def test_the_ones_that_are_refused_are_dead_letters_and_the_others_are_booked(
    ledger: Ledger, wrong: list[int]
) -> None:
    _refuse(ledger, *wrong)

    parts = write_parts(ledger, _batch(0, 1, 2, 3, 4, malformed=True), prices=PRICES, now_ns=NOW_NS)

    assert _latencies(ledger) == sorted({0, 1, 2, 3, 4} - set(wrong))
    assert sum(report.malformed for _, report in parts) == len(wrong) + 1
    with ledger.read() as connection:
        reasons = set(connection.execute(select(tables.dead_letter.c.reason)).scalars())
    assert reasons == {"no event", "the ledger's database refuses it: not this one"}
    assert verify(ledger) == []


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
def test_what_no_batch_could_do_is_thrown_on_and_condemns_nothing(ledger: Ledger) -> None:
    """F-16: a disk without room. With room again, the same batch is booked."""
    batch = _batch(*range(300))
    with ledger.write() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 2}")

    with pytest.raises(OperationalError, match="full"):
        write_parts(ledger, batch, prices=PRICES, now_ns=NOW_NS)
    assert _latencies(ledger) == []

    with ledger.write() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1073741823")
    [(_, report)] = write_parts(ledger, batch, prices=PRICES, now_ns=NOW_NS)
    assert (report.settled, report.malformed) == (300, 0)
