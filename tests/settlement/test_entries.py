"""Entries become events or reasons."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest
from fixtures_ledger import make_entry, make_event

from metering.events import encode, payload_hash
from metering.settlement.entries import Arrival, Entry, Malformed, read_entry


def test_a_well_formed_entry_is_its_event() -> None:
    event = make_event()

    arrival = read_entry(make_entry(event))

    assert isinstance(arrival, Arrival)
    assert arrival.event == event


def _entry_with(**changes: object) -> Entry:
    body = orjson.dumps({**orjson.loads(encode(make_event())), **changes})
    return Entry(0, "1-0", body, payload_hash(body))


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (Entry(0, "1-0", None, ""), "gone"),
        (Entry(0, "1-0", b"{}", "00"), "does not hash"),
        (Entry(0, "1-0", b"nope", payload_hash(b"nope")), "not JSON"),
        (_entry_with(tenant=""), "tenant is missing"),
        (_entry_with(tenant=5), "tenant is 5"),
        (_entry_with(schema=9), "schema 9"),
        (_entry_with(project="a\0b"), "NUL"),
        (_entry_with(units={"input_uncached": 2**60}), "input_uncached"),
        (_entry_with(units={"input_uncached": True}), "units"),
        (_entry_with(admission_nano=2**60), "admission_nano"),
        (_entry_with(occurred_at=-1), "occurred_at"),
        (_entry_with(billable="yes"), "billable"),
        (_entry_with(feature=["a"]), "feature"),
        (_entry_with(kind="correction"), "corrects"),
        (_entry_with(corrects="x"), "corrects"),
        (_entry_with(spool_seq="1"), "spool_seq"),
    ],
)
def test_what_can_never_be_booked_says_why(entry: Entry, reason: str) -> None:
    malformed = read_entry(entry)

    assert isinstance(malformed, Malformed)
    assert reason in malformed.reason


def test_a_position_orders_as_the_stream_does() -> None:
    entry = make_entry(make_event())

    assert replace(entry, stream_id="9-10").position < replace(entry, stream_id="10-2").position
