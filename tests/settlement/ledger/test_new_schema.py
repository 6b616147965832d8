"""A new ledger is what the migrations would have made of it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from sqlalchemy import text

from metering.settlement.ledger import store, tables
from metering.settlement.ledger.new_schema import create_schema
from metering.settlement.ledger.store import Ledger, open_ledger


def schema(ledger: Ledger) -> set[tuple[str, ...]]:
    """Every object of the database, its words in any order: ALTER TABLE puts a column behind the
    constraints in the text, where it makes no difference."""
    with ledger.read() as connection:
        rows = connection.execute(text("SELECT type, name, tbl_name, sql FROM sqlite_master")).all()
        return {
            (kind, name, table, *sorted(re.findall(r"[^\s,()]+", sql or "")))
            for kind, name, table, sql in rows
        }


def columns(ledger: Ledger) -> dict[str, list[str]]:
    """The columns of every table, in their order."""
    with ledger.read() as connection:
        return {
            table: [row.name for row in connection.execute(text(f"PRAGMA table_info({table})"))]
            for table in tables.metadata.tables
        }


def test_a_new_ledger_is_what_the_migrations_make(tmp_path: Path) -> None:
    """Tables, columns and their order, constraints, indexes, triggers, and the stamp."""
    new = open_ledger(f"sqlite:///{tmp_path / 'new.db'}")
    migrated = open_ledger(f"sqlite:///{tmp_path / 'migrated.db'}")

    with new.write() as connection:
        assert create_schema(connection)
    with migrated.write() as connection:
        store._upgrade(connection)

    assert schema(new) == schema(migrated)
    assert columns(new) == columns(migrated)
    assert new.revision() == migrated.revision() == tables.HEAD_REVISION
    new.close()
    migrated.close()


def test_what_is_not_empty_is_left_to_the_migrations(tmp_path: Path) -> None:
    """Whatever lies in the file: only the migrations know what to do about it."""
    ledger = open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")

    with ledger.write() as connection:
        connection.execute(text("CREATE TABLE stranger (id INTEGER)"))
        assert not create_schema(connection)
        assert connection.execute(text("SELECT count(*) FROM sqlite_master")).scalar() == 1
    ledger.close()


def test_a_first_start_does_not_import_alembic(tmp_path: Path) -> None:
    """It would be a third of the worker's start."""
    code = (
        "import sys; from metering.settlement.ledger.store import open_ledger\n"
        f"open_ledger('sqlite:///{tmp_path / 'ledger.db'}').migrate()\n"
        "sys.exit('alembic' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
