"""The row of a shard's watermark is the lease of its one writer, for one transaction."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import pytest
from fixtures_ledger import KEYS, book, make_event, new_id
from fixtures_postgres import PostgresServer
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from metering.events import UsageEvent
from metering.settlement.batches import BatchReport
from metering.settlement.ledger import tables
from metering.settlement.ledger.store import Ledger, open_ledger
from metering.settlement.ledger.verify import verify
from metering.settlement.ledger.writer import _lock_shards

ACME = KEYS.shard("acme")


@pytest.fixture
def other(ledger_url: str) -> Iterator[Ledger]:
    """The same ledger, as another worker has it open."""
    with closing(open_ledger(ledger_url)) as opened:
        yield opened


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def _is_waiting(future: Future[BatchReport]) -> bool:
    time.sleep(0.1)
    return not future.done()


def test_a_shard_has_one_writer_at_a_time(
    ledger: Ledger, other: Ledger, threads: ThreadPoolExecutor
) -> None:
    """F-21: the second waits, then knows what the first has booked and continues its chain."""
    book(ledger, [make_event()])
    event = make_event()

    with ledger.write() as connection:
        _lock_shards(connection, [ACME])
        waiting = threads.submit(book, other, [event, make_event()])
        assert _is_waiting(waiting)
    report = waiting.result(5)

    assert report.settled == 2
    assert book(ledger, [event]).repeats == 1
    assert verify(ledger) == []


def test_shards_have_writers_of_their_own_on_postgresql(
    postgres_url: str, threads: ThreadPoolExecutor
) -> None:
    """While one shard is being written, another is settled."""
    ledger = open_ledger(postgres_url)
    book(ledger, [make_event(), make_event(tenant="zeta")])

    with ledger.write() as connection:
        _lock_shards(connection, [ACME])
        assert threads.submit(book, ledger, [make_event(tenant="zeta")]).result(5).settled == 1
    ledger.close()


def test_the_same_batch_by_two_workers_is_booked_once(
    ledger: Ledger, other: Ledger, threads: ThreadPoolExecutor
) -> None:
    """F-21: two that were given the same entries, at once, on shards nobody has seen before."""
    events = [make_event(tenant=f"t{n}") for n in range(30)]
    begin = threading.Barrier(2)

    def settle(mine: Ledger, order: int) -> BatchReport:
        begin.wait(5)
        return book(mine, events[::order])

    reports = [
        each.result(9)
        for each in [threads.submit(settle, ledger, 1), threads.submit(settle, other, -1)]
    ]

    assert sorted((one.settled, one.repeats) for one in reports) == [(0, 30), (30, 0)]
    assert verify(ledger) == []


def test_one_id_in_two_shards_is_booked_once(
    ledger: Ledger, other: Ledger, threads: ThreadPoolExecutor
) -> None:
    """No lease covers this: the second insert fails whole, and is a conflict when it is redone."""
    same = new_id()
    book(ledger, [make_event(), make_event(tenant="zeta")])
    assert KEYS.shard("zeta") != ACME
    one, two = (make_event(event_id=same, tenant=tenant) for tenant in ("acme", "zeta"))

    first = threads.submit(book, ledger, [one])
    second = threads.submit(book, other, [two])
    reports = []
    for future, mine, event in ((first, ledger, one), (second, other, two)):
        try:
            reports.append(future.result(9))
        except DBAPIError:
            reports.append(book(mine, [event]))

    assert sorted((each.settled, each.conflicts) for each in reports) == [(0, 1), (1, 0)]
    assert verify(ledger) == []


def test_a_zombie_loses_its_lease_and_its_batch(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    """F-21: a worker stopped in mid-transaction is thrown out; what it wrote is as if never."""
    options = "&options=-c%20idle_in_transaction_session_timeout%3D200ms"
    zombie, healthy = open_ledger(postgres_url + options), open_ledger(postgres_url)
    event = make_event()
    book(healthy, [make_event()])

    with pytest.raises(DBAPIError):
        _stand_still(zombie, healthy, event)

    assert book(zombie, [event]).repeats == 1  # with a new connection
    with healthy.read() as connection:
        assert connection.execute(select(tables.rollup_watermark)).all() == []
    assert verify(healthy) == []
    zombie.close()
    healthy.close()


def _stand_still(zombie: Ledger, healthy: Ledger, event: UsageEvent) -> None:
    with zombie.write() as connection:
        _lock_shards(connection, [ACME])
        connection.execute(tables.rollup_watermark.insert().values(shard=99, seq=1))
        began = time.monotonic()
        assert book(healthy, [event]).settled == 1  # waits for the server to lose its patience
        assert time.monotonic() - began > 0.1
        connection.execute(text("SELECT 1"))


def test_a_late_copy_of_a_batch_with_one_changed_body_is_a_conflict(
    ledger: Ledger, other: Ledger
) -> None:
    """F-21: what a zombie brings late is compared with what stands, body by body."""
    events = [make_event() for _ in range(3)]
    book(ledger, events)

    report = book(other, [events[0], replace(events[1], latency_ms=7), events[2]])

    assert (report.settled, report.repeats, report.conflicts) == (0, 2, 1)
