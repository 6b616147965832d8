"""New, repeated, conflicting."""

from __future__ import annotations

from dataclasses import replace

from fixtures_ledger import CARDS, make_entry, make_event

from metering.settlement.batches import Booking, confirmed_sequences, differences, sort_bookings
from metering.settlement.entries import Arrival, read_entry


def _booking(**changes: object) -> Booking:
    arrival = read_entry(make_entry(make_event(**changes)))
    assert isinstance(arrival, Arrival)
    return Booking(arrival, CARDS.rate(arrival.event))


def test_the_first_body_of_an_id_stands() -> None:
    first = _booking(event_id="e1")
    other = _booking(event_id="e1", latency_ms=7)

    found = sort_bookings([first, first, other], known={})

    assert found.fresh == (first,)
    assert found.repeats == (first,)
    assert found.conflicts == ((other, first.payload_hash),)


def test_what_the_ledger_knows_is_a_repeat_or_a_conflict() -> None:
    booking = _booking(event_id="e1")

    assert sort_bookings([booking], {"e1": booking.payload_hash}).repeats == (booking,)
    assert sort_bookings([booking], {"e1": "00"}).conflicts == ((booking, "00"),)


def test_differences_are_summed_by_tenant() -> None:
    wrong = [_booking(admission_nano=0, cost_nano=0) for _ in range(2)]

    (difference,) = differences([*wrong, _booking()])

    assert (difference.tenant, difference.events) == ("acme", 2)
    assert difference.sell_nano == difference.cost_nano == 11_000_000


def test_every_spool_sequence_of_each_proxy_counts() -> None:
    booking = _booking(proxy_id="p1", spool_seq=5)
    older = replace(booking.arrival, event=replace(booking.arrival.event, spool_seq=3))

    confirmed = confirmed_sequences([booking.arrival, older])

    assert confirmed == {"p1": [5, 3]}
