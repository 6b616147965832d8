"""A ledger is copied while it is written; what is there already stays."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures_ledger import book, make_event, new_ledger
from sqlalchemy import inspect

from metering.settlement.ledger.backup import BackupError, back_up
from metering.settlement.ledger.store import open_ledger
from metering.settlement.ledger.verify import examine


def test_a_copy_is_one_moment_of_an_open_ledger(tmp_path: Path) -> None:
    """What is in the WAL is in it, what is not committed is not, and it is whole by itself."""
    ledger = new_ledger(tmp_path)
    book(ledger, [make_event(), make_event()])
    target = tmp_path / "elsewhere" / "copy.db"
    target.parent.mkdir()
    with ledger.write() as connection:
        connection.exec_driver_sql("CREATE TABLE uncommitted (x)")

        size = back_up(tmp_path / "ledger.db", target)

    book(ledger, [make_event()])
    ledger.close()
    copy = open_ledger(f"sqlite:///{target}")
    found = examine(copy)
    with copy.read() as connection:
        tables = set(inspect(connection).get_table_names())
    copy.close()

    assert (found.events, found.findings) == (2, [])
    assert "usage_event" in tables
    assert "uncommitted" not in tables
    assert size > 0
    assert target.stat().st_mode & 0o777 == 0o600
    assert not target.with_name("copy.db.part").exists()


@pytest.mark.parametrize("taken", ["copy.db", "copy.db.part"])
def test_what_is_there_is_left_alone(tmp_path: Path, taken: str) -> None:
    """A file of that name, and one of a backup that is being made."""
    new_ledger(tmp_path).close()
    (tmp_path / taken).write_text("mine")

    with pytest.raises(BackupError, match="is there"):
        back_up(tmp_path / "ledger.db", tmp_path / "copy.db")

    assert (tmp_path / taken).read_text() == "mine"


def test_what_is_no_ledger_leaves_no_file(tmp_path: Path) -> None:
    """Neither a copy nor the beginning of one."""
    (tmp_path / "ledger.db").write_text("no database, and longer than a header of one" * 20)

    with pytest.raises(BackupError, match="not a database"):
        back_up(tmp_path / "ledger.db", tmp_path / "copy.db")
    with pytest.raises(BackupError, match="there is no ledger"):
        back_up(tmp_path / "none.db", tmp_path / "copy.db")

    assert [path.name for path in tmp_path.iterdir()] == ["ledger.db"]
