"""Every event is summed once, at every level, and the sums can be made again."""

from __future__ import annotations

import threading

from fixtures_ledger import allow_changes, book, make_event, new_id
from sqlalchemy import func, select, text

from metering.events import Kind
from metering.recovery import reversal
from metering.settlement.histograms import bucket_of
from metering.settlement.ledger.analytics_rollup import (
    Summing,
    behind_by_shard,
    rebuild_analytics,
    update_analytics,
)
from metering.settlement.ledger.analytics_tables import (
    HISTOGRAMS,
    LEVELS,
    SUMS,
    usage_series,
)
from metering.settlement.ledger.rollups import update_rollups
from metering.settlement.ledger.store import Ledger, open_ledger
from metering.settlement.ledger.verify import verify


def state(ledger: Ledger) -> dict[str, list]:
    """What is in the tables, by the words of series."""
    with ledger.read() as connection:
        names = {row[0]: tuple(row[1:]) for row in connection.execute(select(usage_series))}
        return {
            table.name: sorted(
                (names[row[0]], *row[1:]) for row in connection.execute(select(table))
            )
            for table in (*SUMS.values(), *HISTOGRAMS.values())
        }


def without_zeros(rows: dict[str, list]) -> dict[str, list]:
    return {name: [row for row in each if any(row[3:])] for name, each in rows.items()}


def test_the_sums_are_the_same_rebuilt(ledger: Ledger) -> None:
    """However the events came: a second attempt may come after the first was summed."""
    exchange = new_id()
    failed = make_event(exchange_id=exchange, status="error", reason_code="upstream_error")
    second = make_event(exchange_id=exchange, attempt=2, model_upstream="cheap-1", ttft_ms=40)
    for batch in ([failed], [second], [make_event(tenant=f"t{n}") for n in range(9)]):
        book(ledger, batch)
        update_analytics(ledger)
    before = state(ledger)

    count = rebuild_analytics(ledger)

    assert count == 11
    assert without_zeros(state(ledger)) == without_zeros(before)
    assert verify(ledger) == []


def test_what_was_taken_back_leaves_nothing(ledger: Ledger) -> None:
    """A correction takes attempt, amounts and times of its event with it; the request stays."""
    event = make_event(latency_ms=700, ttft_ms=90)
    book(ledger, [event])
    update_analytics(ledger)

    correction = reversal(event)
    book(ledger, [correction])
    update_analytics(ledger)

    assert correction.kind == Kind.CORRECTION
    with ledger.read() as connection:
        for table in SUMS.values():
            query = select(func.sum(table.c.attempts), func.sum(table.c.sell_nano))
            assert connection.execute(query).one() == (0, 0)
            assert connection.execute(select(func.min(table.c.requests))).scalar() == 1
        for table in HISTOGRAMS.values():
            query = select(func.sum(table.c.latency), func.sum(table.c.ttft))
            assert connection.execute(query).one() == (0, 0)


def test_old_events_say_their_first_token_in_the_payload(ledger: Ledger) -> None:
    """As those that were settled before there was a column for it."""
    book(ledger, [make_event(ttft_ms=90)])
    with ledger.write() as connection:
        allow_changes(connection, "usage_event")
        connection.execute(text("UPDATE usage_event SET ttft_ms = NULL"))

    update_analytics(ledger)

    with ledger.read() as connection:
        times = HISTOGRAMS["day"]
        found = connection.execute(select(times.c.le_ms).where(times.c.ttft > 0)).scalars()
        assert set(found) == {bucket_of(90)}


def test_a_turn_has_an_end_and_the_next_goes_on(ledger: Ledger) -> None:
    book(ledger, [make_event(tenant=f"t{n}") for n in range(8)])
    summing = Summing(ledger)

    done = summing.update(1)

    with ledger.read() as connection:
        behind = sum(count for _, count in behind_by_shard(connection))
    assert 0 < done < 8
    assert behind == 8 - done
    assert summing.update() == behind
    assert summing.update() == 0


def test_rollups_and_analytics_are_summed_from_one_read(ledger: Ledger) -> None:
    """As far as both lack the same events; what one of them has already, it does not get again."""
    summing = Summing(ledger)
    book(ledger, [make_event(tenant=f"t{n}", ttft_ms=n) for n in range(8)])

    assert summing.update_beside_rollups() == 8
    assert (summing.update(), update_rollups(ledger)) == (0, 0)
    book(ledger, [make_event(tenant=f"t{n}") for n in range(8)])
    assert update_rollups(ledger) == 8
    book(ledger, [make_event(tenant=f"t{n}") for n in range(8)])
    assert summing.update_beside_rollups() == 0
    assert (summing.update(), update_rollups(ledger)) == (16, 8)
    book(ledger, [make_event()])
    assert summing.update_beside_rollups() == 1

    assert verify(ledger) == []
    before = state(ledger)
    rebuild_analytics(ledger)
    assert state(ledger) == before


def test_levels_are_the_same_sums_cut_up_otherwise(ledger: Ledger) -> None:
    """Each level's series say the dimensions of it, and nothing else; each has every attempt."""
    book(ledger, [make_event(tenant=f"t{n % 3}", feature=f"f{n % 2}") for n in range(12)])
    update_analytics(ledger)

    with ledger.read() as connection:
        for period, table in SUMS.items():
            for name, level in LEVELS.items():
                query = select(usage_series, table.c.attempts).join(
                    table, table.c.series == usage_series.c.id
                )
                rows = connection.execute(query.where(usage_series.c.level == name)).all()
                if period not in level.sums:
                    assert rows == []
                    continue
                assert sum(row.attempts for row in rows) == 12
                assert {row.tenant for row in rows} == (
                    {"t0", "t1", "t2"} if "tenant" in level.dimensions else {""}
                )
                assert {row.feature for row in rows} == (
                    {"f0", "f1"} if "feature" in level.dimensions else {""}
                )
                assert {row.model for row in rows} == (
                    {"gpt-4o"} if "model" in level.dimensions else {""}
                )


def test_two_workers_sum_each_event_once(postgres_url: str) -> None:
    """Also where they need the same series, and the same row of one."""
    ledgers = [open_ledger(postgres_url) for _ in range(3)]
    book(ledgers[0], [make_event(tenant=f"t{n % 8}") for n in range(64)])
    begin = threading.Barrier(len(ledgers))

    def sum_up(ledger: Ledger) -> None:
        begin.wait(5)
        Summing(ledger).update_beside_rollups()
        update_rollups(ledger)
        update_analytics(ledger)

    threads = [threading.Thread(target=sum_up, args=(ledger,)) for ledger in ledgers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(8)

    assert verify(ledgers[0]) == []
    with ledgers[0].read() as connection:
        day = SUMS["day"]
        assert connection.execute(select(func.max(day.c.attempts))).scalar() == 64
    for ledger in ledgers:
        ledger.close()
