"""Opening, migrating, and what the database itself refuses."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from fixtures_ledger import book, make_event, new_ledger
from sqlalchemy import delete, select, text, update
from sqlalchemy.exc import DatabaseError, OperationalError

from metering.settlement.entries import Entry
from metering.settlement.ledger import store, tables
from metering.settlement.ledger.faults import LedgerTooNewError
from metering.settlement.ledger.store import Ledger, open_ledger


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place for a ledger where there is none yet."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("empty_postgres_url"))
    return f"sqlite:///{tmp_path / 'ledger.db'}"


def test_an_empty_database_is_migrated_to_the_head_and_twice_is_once(empty_url: str) -> None:
    ledger = open_ledger(empty_url)
    before = ledger.revision()

    ledger.migrate()
    ledger.migrate()

    assert before is None
    assert ledger.revision() == tables.HEAD_REVISION
    ledger.close()


def test_two_that_migrate_at_once_both_succeed(empty_url: str) -> None:
    ledgers = [open_ledger(empty_url) for _ in range(2)]
    failures: list[BaseException] = []

    def migrate(ledger: Ledger) -> None:
        try:
            ledger.migrate()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=migrate, args=(ledger,)) for ledger in ledgers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    for ledger in ledgers:
        ledger.close()


def test_the_migrations_end_where_the_tables_are(empty_url: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    ledger = open_ledger(empty_url)
    with ledger.write() as connection:
        store._upgrade(connection)

    with ledger.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, tables.metadata) == []
    ledger.close()


def test_the_head_in_code_is_the_newest_migration() -> None:
    from alembic.script import ScriptDirectory

    folder = Path(tables.__file__).parent / "migrations"

    assert ScriptDirectory(str(folder)).get_heads() == [tables.HEAD_REVISION]


def test_a_current_ledger_is_opened_without_alembic(tmp_path: Path) -> None:
    new_ledger(tmp_path).close()
    code = (
        "import sys; from metering.settlement.ledger.store import open_ledger\n"
        f"open_ledger('sqlite:///{tmp_path / 'ledger.db'}').migrate()\n"
        "sys.exit('alembic' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_sqlite_is_durable_and_waits_for_other_writers(tmp_path: Path) -> None:
    with closing(new_ledger(tmp_path)) as ledger, ledger.read() as connection:
        pragmas = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }

    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 10_000,
    }


def test_a_write_holds_the_lock_from_its_beginning_and_a_read_does_not(tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path)
    other = open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")

    with ledger.write(), other.read() as connection:
        connection.execute(text("PRAGMA busy_timeout = 1"))
        assert connection.execute(select(tables.txn)).all() == []
        with pytest.raises(OperationalError, match="locked"):
            connection.execute(text("INSERT INTO rollup_watermark VALUES (1, 1)"))
    ledger.close()
    other.close()


@pytest.mark.parametrize("name", tables.APPEND_ONLY)
@pytest.mark.parametrize("verb", ["update", "delete"])
def test_the_books_refuse_to_be_changed(ledger: Ledger, name: str, verb: str) -> None:
    book(ledger, [make_event(), Entry(0, "1-0", b"no event", "")])
    with ledger.write() as connection:
        connection.execute(
            text("INSERT INTO dead_letter_resolution VALUES (1, 1, 'a', 'known', 'e', 'h')")
        )
        connection.execute(
            text("INSERT INTO review_item VALUES (1, 0, 'a', '', 'x', 'y', 1, 1, 1, 1, 'z', 1)")
        )
        connection.execute(text("INSERT INTO review_step VALUES (1, 'alert', 1)"))
        connection.execute(
            text("INSERT INTO review_decision VALUES (1, 1, 'keep', NULL, 'b', 'c', 1)")
        )
        connection.execute(text("INSERT INTO plan_version VALUES ('v', 'p', 'd', '', 1)"))
        connection.execute(
            text("INSERT INTO stripe_carry VALUES ('a', 'e', 1, 0, NULL, 1, 'b', 1)")
        )
        connection.execute(text("INSERT INTO plan_statement VALUES ('a', 'm', '', 'h', 1)"))
    table = tables.metadata.tables[name]
    column = next(iter(table.columns))
    statement = delete(table) if verb == "delete" else update(table).values({column: column})

    with pytest.raises(DatabaseError, match=f"{name} is append-only"), ledger.write() as write:
        write.execute(statement)


def test_a_ledger_of_a_newer_version_is_left_alone(ledger: Ledger) -> None:
    """A worker that is started again in the middle of an upgrade says what to do, once."""
    with ledger.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(LedgerTooNewError, match=r"is at migration 9999 .* run the newer version"):
        ledger.migrate()


def _write_and_fail(ledger: Ledger) -> None:
    with ledger.write() as connection:
        connection.execute(text("INSERT INTO rollup_watermark VALUES (1, 1)"))
        raise ZeroDivisionError


def test_a_failing_block_leaves_nothing(ledger: Ledger) -> None:
    with pytest.raises(ZeroDivisionError):
        _write_and_fail(ledger)

    with ledger.read() as connection:
        assert connection.execute(select(tables.rollup_watermark)).all() == []


def test_a_new_file_has_pages_that_hold_more_than_one_event(tmp_path: Path) -> None:
    with closing(new_ledger(tmp_path)) as ledger, ledger.read() as connection:
        assert connection.execute(text("PRAGMA page_size")).scalar_one() == store.PAGE_BYTES
