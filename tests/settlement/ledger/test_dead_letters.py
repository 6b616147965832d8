"""What is condemned, and what a failing database is not a reason for."""

from __future__ import annotations

import sqlite3

import orjson
import pytest
from fixtures_ledger import book, make_event
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from metering.settlement.entries import Entry
from metering.settlement.ledger import tables
from metering.settlement.ledger.dead_letters import (
    booked_stream_ids,
    dead_letters,
    find_dead_letter,
    is_data_failure,
)
from metering.settlement.ledger.store import Ledger


@pytest.mark.parametrize(
    ("statement", "is_data"),
    [
        ("INSERT INTO posting VALUES (1, 1, 'a', 'b', 'c', 0)", True),  # CHECK
        ("INSERT INTO price_body VALUES ('v', NULL, 1)", True),
        ("INSERT INTO price_body VALUES ('v', x'00', 1), ('v', x'01', 1)", False),  # unique
        ("INSERT INTO posting VALUES (9, 1, 'a', 'b', 'c', 1)", False),  # no such transaction
        ("INSERT INTO nowhere VALUES (1)", False),
    ],
    ids=["check", "null", "unique", "foreign-key", "no-table"],
)
def test_only_a_value_that_is_refused_as_such_is_data(
    ledger: Ledger, statement: str, is_data: bool
) -> None:
    with pytest.raises(DBAPIError) as failure, ledger.write() as connection:
        connection.exec_driver_sql(statement)

    assert is_data_failure(failure.value) is is_data


@pytest.mark.parametrize(
    ("state", "is_data"),
    [("22003", True), ("23514", True), ("23505", False), ("40P01", False), ("53100", False)],
)
def test_postgresql_says_it_by_its_sqlstate(state: str, is_data: bool) -> None:
    class Refused(Exception):
        sqlstate = state

    assert is_data_failure(DBAPIError("INSERT", {}, Refused())) is is_data


def test_numbers_and_texts_that_the_driver_cannot_take_are_data() -> None:
    assert is_data_failure(OverflowError())
    assert is_data_failure(UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogate"))
    assert not is_data_failure(DBAPIError("x", {}, sqlite3.OperationalError("disk full")))
    assert not is_data_failure(RuntimeError())


def test_a_dead_letter_is_kept_and_said_once(ledger: Ledger) -> None:
    for _ in range(2):
        book(ledger, [Entry(3, "7-1", b"no event", "h"), Entry(3, "8-0", b"100%", "h")])

    [first, second] = dead_letters(ledger)
    assert (first.shard, first.stream_id, first.raw, first.outcome) == (3, "7-1", b"no event", None)
    assert find_dead_letter(ledger, first.id) == first
    assert find_dead_letter(ledger, 99) is None
    assert dead_letters(ledger, reason="hash") == [first, second]
    assert dead_letters(ledger, reason="%") == []
    with ledger.read() as connection:
        assert [row.key for row in connection.execute(select(tables.outbox))] == [
            "dead_letter:3:7-1",
            "dead_letter:3:8-0",
        ]


def test_what_vanished_is_one_alert_per_shard_and_batch(ledger: Ledger) -> None:
    book(ledger, [Entry(3, f"{n}-0", None, "") for n in range(30)])

    with ledger.read() as connection:
        [row] = connection.execute(select(tables.outbox)).all()
    body = orjson.loads(row.body)
    assert (row.key, body["entries"], len(body["stream_ids"])) == ("stream_gap:3:0-0", 30, 20)
    assert len(dead_letters(ledger)) == 30


def test_an_entry_that_was_booked_is_found_by_its_place(ledger: Ledger) -> None:
    event = make_event()
    book(ledger, [event])
    with ledger.read() as connection:
        [row] = connection.execute(select(tables.usage_event)).all()
    place = (row.shard, row.stream_id)

    others = {(row.shard + 1, row.stream_id), (row.shard, "1-1")}
    assert booked_stream_ids(ledger, [place, *others]) == {place}
