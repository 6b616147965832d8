"""What only PostgreSQL can do, refuse, or fail at."""

from __future__ import annotations

import contextlib
import gc
import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest
from fixtures_ledger import book, make_event
from fixtures_postgres import PostgresServer
from sqlalchemy import func, select, text
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, OperationalError

from metering.settlement.ledger import tables
from metering.settlement.ledger.analytics_rollup import rebuild_analytics
from metering.settlement.ledger.dead_letters import is_data_failure
from metering.settlement.ledger.queries import invoice_report
from metering.settlement.ledger.rollups import rebuild_rollups, update_rollups
from metering.settlement.ledger.store import Ledger, insert_rows, open_ledger
from metering.settlement.ledger.usage_report import usage_report
from metering.settlement.ledger.verify import verify

BIG = 2**53 - 1


def _shown(ledger: Ledger, *names: str) -> dict[str, str]:
    with ledger.write() as connection:
        return {name: connection.execute(text(f"SHOW {name}")).scalar_one() for name in names}


def test_nothing_waits_for_ever_and_a_commit_is_on_disk(postgres_url: str) -> None:
    """Our bounds, where nobody has set others."""
    names = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
    theirs = "&options=-c%20lock_timeout%3D7s%20-c%20synchronous_commit%3Doff"

    with (
        closing(open_ledger(postgres_url)) as ledger,
        closing(open_ledger(postgres_url + theirs)) as other,
    ):
        assert list(_shown(ledger, *names).values()) == ["10s", "5min", "30s"]
        assert _shown(other, "lock_timeout", "synchronous_commit") == {
            "lock_timeout": "7s",
            "synchronous_commit": "on",
        }


def test_a_read_that_is_left_early_leaves_nothing_open(postgres_url: str) -> None:
    """Neither on the server nor in the driver, which would warn of a cursor that was forgotten."""
    query = select(func.generate_series(1, 100)).execution_options(yield_per=10)
    opened = text("SELECT count(*) FROM pg_cursors")
    with closing(open_ledger(postgres_url)) as ledger:
        for _ in range(3):
            with ledger.read() as connection:
                assert next(iter(connection.execute(query))) == (1,)
                gc.collect()
                assert connection.execute(opened).scalar_one() == 1
        with contextlib.suppress(LookupError), ledger.read() as connection:
            assert next(iter(connection.execute(query))) == (1,)
            raise LookupError
        with ledger.read() as connection:
            assert connection.execute(opened).scalar_one() == 0
    gc.collect()


def test_reads_are_one_snapshot_and_write_nothing(postgres_url: str) -> None:
    """A report does not see what is committed while it is being made."""
    with closing(open_ledger(postgres_url)) as ledger:
        book(ledger, [make_event()])
        count = select(func.count()).select_from(tables.usage_event)
        with ledger.read() as connection:
            before = connection.execute(count).scalar_one()
            book(ledger, [make_event()])
            assert connection.execute(count).scalar_one() == before == 1
            with pytest.raises(DBAPIError, match="read-only"):
                connection.execute(text("INSERT INTO rollup_watermark VALUES (1, 1)"))
        with ledger.write() as connection:  # the same connection, ready to write again
            connection.execute(text("INSERT INTO rollup_watermark VALUES (1, 1)"))
            level = connection.execute(text("SHOW transaction_isolation")).scalar_one()
        assert level == "read committed"


def test_the_largest_amounts_and_odd_bytes_come_back(postgres_url: str) -> None:
    """What the events may hold at most, and text that COPY has to escape."""
    event = make_event(
        feature="tab\tnew\nline\\N\\. \N{SNOWMAN}",
        units={"output_text": BIG},
        latency_ms=BIG,
        attempt=2**31 - 1,
        cost_version=None,
        sell_version=None,
        admission_nano=BIG,
        cost_nano=BIG,
        proxy_id="p",
        spool_seq=BIG,
    )
    with closing(open_ledger(postgres_url)) as ledger:
        book(ledger, [event])
        book(ledger, [make_event(feature="\\N")])
        update_rollups(ledger)

        with ledger.read() as connection:
            rows = {row.feature: row for row in connection.execute(select(tables.usage_event))}
        row = rows[event.feature]
        assert (row.q_output_text, row.latency_ms, row.admission_nano) == (BIG, BIG, BIG)
        assert "\\N" in rows
        assert verify(ledger) == []
        report = usage_report(ledger)
        assert report is not None
        assert report["totals"]["units"]["output_text"] == BIG + 200


@pytest.mark.parametrize("table", tables.APPEND_ONLY)
def test_the_books_refuse_to_be_truncated(postgres_url: str, table: str) -> None:
    """TRUNCATE fires no trigger for rows."""
    with (
        closing(open_ledger(postgres_url)) as ledger,
        pytest.raises(DBAPIError, match=f"{table} is append-only"),
    ):
        _run(ledger, f"TRUNCATE {table} CASCADE")


def _run(ledger: Ledger, *statements: str) -> None:
    with ledger.write() as connection:
        for statement in statements:
            connection.execute(text(statement))


RIGHTS = """
GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role};
GRANT INSERT ON ALL TABLES IN SCHEMA public TO {role};
GRANT UPDATE ON balance, watermark, spool_confirmed TO {role};
GRANT UPDATE, DELETE ON rollup, rollup_watermark TO {role};
GRANT UPDATE, DELETE ON usage_hour, usage_day, usage_hour_times, usage_day_times, usage_mark
TO {role};
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role};
"""
"""As documented."""


def test_a_role_that_cannot_change_the_books_is_enough(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    """The documented rights settle, report, sum and verify; and drop no trigger."""
    database = re.search(r"@/(\w+)", postgres_url)
    assert database is not None
    role = f"worker_{database[1]}"
    with closing(postgres_server.connect(database[1])) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN")
        connection.execute(RIGHTS.format(role=role))
    with closing(open_ledger(postgres_server.url(database[1], user=role))) as ledger:
        ledger.migrate()
        book(ledger, [make_event(), make_event(proxy_id="p", spool_seq=1)])

        assert rebuild_rollups(ledger) == rebuild_analytics(ledger) == 2
        assert invoice_report(ledger, "acme", "2026-11") is not None
        assert verify(ledger) == []
        for statement in ("DROP TRIGGER usage_event_append_only ON usage_event", "DELETE FROM txn"):
            with pytest.raises(DBAPIError, match=r"must be owner|permission denied"):
                _run(ledger, statement)
    with closing(postgres_server.connect(database[1])) as connection:
        connection.execute(f"DROP OWNED BY {role}")
        connection.execute(f"DROP ROLE {role}")


def test_a_server_that_dies_in_mid_batch_leaves_nothing_of_it(
    own_postgres_server: PostgresServer,
) -> None:
    """F-18: stopped hard before the COPY: rolled back; the next try takes a new connection."""
    server = own_postgres_server
    event = make_event()
    with closing(open_ledger(server.url(server.new_database()))) as ledger:
        book(ledger, [make_event()])
        with pytest.raises(OperationalError):
            _stop_in_the_middle(ledger, server)
        with pytest.raises(OperationalError):
            book(ledger, [event])
        server.start()

        assert book(ledger, [event]).settled == 1
        assert verify(ledger) == []


def _stop_in_the_middle(ledger: Ledger, server: PostgresServer) -> None:
    with ledger.write() as connection:
        connection.execute(text("UPDATE watermark SET events = 99"))
        server.stop()
        connection.execute(text("SELECT 1"))


def test_a_copy_that_loses_its_connection_fails_like_any_statement(postgres_url: str) -> None:
    """F-18: SQLAlchemy's error, and the connection is not used again."""
    with closing(open_ledger(postgres_url)) as ledger, closing(open_ledger(postgres_url)) as other:
        with pytest.raises(DBAPIError):
            _copy_after_the_end(ledger, other)
        with pytest.raises(DBAPIError, match="violates not-null"), ledger.write() as connection:
            insert_rows(connection, tables.rollup_watermark, [{"shard": 1, "seq": None}])

        assert book(ledger, [make_event()]).settled == 1


@pytest.mark.parametrize(
    ("events", "booked_at", "error"),
    [(2**31, 1, OverflowError), (1, 2**63, OverflowError), ("7", 1, DataError)],
)
def test_a_copy_refuses_what_its_column_cannot_hold(
    postgres_url: str, events: object, booked_at: int, error: type[Exception]
) -> None:
    """In binary, the driver would cut a number to four bytes without a word."""
    row = {"id": 1, "tenant": "t", "kind": "usage", "idem_key": "k", "events": events}
    with closing(open_ledger(postgres_url)) as ledger:
        with pytest.raises(error) as refused, ledger.write() as connection:
            insert_rows(connection, tables.txn, [{**row, "booked_at": booked_at}])

        assert is_data_failure(refused.value)
        assert book(ledger, [make_event()]).settled == 1


def _copy_after_the_end(ledger: Ledger, killer: Ledger) -> None:
    with ledger.write() as connection:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        _run(killer, f"SELECT pg_terminate_backend({pid}, 5000)")
        insert_rows(connection, tables.rollup_watermark, [{"shard": 1, "seq": 1}])


def test_a_primary_that_became_a_standby_is_left(postgres_url: str) -> None:
    """F-18: a connection to it still works and cannot write; the pool forgets it."""
    with closing(open_ledger(postgres_url)) as ledger:
        with ledger.write() as connection:
            before = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        with pytest.raises(DBAPIError, match="read-only"):
            _run(ledger, "SET TRANSACTION READ ONLY", "INSERT INTO rollup_watermark VALUES (1, 1)")
        with ledger.write() as connection:
            assert connection.execute(text("SELECT pg_backend_pid()")).scalar_one() != before


def test_of_several_hosts_the_one_that_writes_is_taken(postgres_server: PostgresServer) -> None:
    """F-18: libpq's own list of hosts, as documented for a failover."""
    hosts = f"host=/nowhere&host={postgres_server.folder}&target_session_attrs=read-write"

    with closing(open_ledger(f"postgresql:///weir_template?user=weir&{hosts}")) as ledger:
        assert ledger.revision() == tables.HEAD_REVISION


def test_rollups_by_two_workers_are_summed_once(postgres_url: str) -> None:
    """F-21: also the first time, when a shard has no mark yet that could be locked."""
    ledgers = [open_ledger(postgres_url) for _ in range(4)]
    events = [make_event(tenant=f"t{n % 8}") for n in range(64)]
    book(ledgers[0], events)
    begin = threading.Barrier(len(ledgers))

    def roll_up(ledger: Ledger) -> None:
        begin.wait(5)
        update_rollups(ledger)

    threads = [threading.Thread(target=roll_up, args=(ledger,)) for ledger in ledgers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(8)

    with ledgers[0].read() as connection:
        sums = select(func.sum(tables.rollup.c.sell_nano))
        assert connection.execute(sums).scalar_one() == sum(each.admission_nano for each in events)
    for ledger in ledgers:
        ledger.close()


SECRET = "s3cr3t-pa55"


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://weir:{SECRET}@127.0.0.1:1/db",
        f"postgresql://weir@127.0.0.1:1/db?password={SECRET}",
        f"postgresql://weir:{SECRET}",
    ],
)
def test_a_password_is_in_no_error(url: str) -> None:
    """Neither in the message nor anywhere in a traceback's text."""
    code = (
        f"from metering.settlement.ledger.store import open_ledger\nopen_ledger({url!r}).migrate()"
    )

    failed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )

    source = f"open_ledger({url!r})"  # Python 3.13 shows the line of `-c` itself
    assert failed.returncode == 1
    assert SECRET not in failed.stderr.replace(source, "")


def test_a_missing_driver_says_what_to_install() -> None:
    """One line, with the extra's name."""
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from metering.settlement.ledger.store import open_ledger\n"
        "open_ledger('postgresql://weir@/db')"
    )

    failed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )

    assert "psycopg: pip install 'tokenweir[postgres]'" in failed.stderr.splitlines()[-1]


def test_another_driver_is_refused() -> None:
    """Ours is psycopg; what we send is made for it."""
    with pytest.raises(ArgumentError, match=r"'postgresql\+psycopg2'; write postgresql:// instead"):
        open_ledger("postgresql+psycopg2://weir@/db")


def test_a_server_that_does_not_answer_is_given_up() -> None:
    """Within connect_timeout, although somebody accepts."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        began = time.monotonic()
        with (
            closing(open_ledger(f"postgresql://weir@127.0.0.1:{port}/db")) as ledger,
            pytest.raises(OperationalError, match="timeout"),
        ):
            ledger.revision()

    assert time.monotonic() - began < 5
