"""The ledger's database: how it is opened, brought up to date, read and written.

Rules: one writer at a time and whole transactions only. On SQLite a write begins IMMEDIATE, so a
transaction never finds halfway that somebody else wrote first; a read begins DEFERRED and never
waits for the writer. A commit is on disk when it returns (WAL, synchronous FULL). What differs on
PostgreSQL stands in `postgres`: there, many write at once, and locks on rows keep them apart.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from time import sleep
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import Connection, Engine, Table, create_engine, event, inspect, make_url, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError

from metering.settlement.ledger.faults import damage, damaged, too_new
from metering.settlement.ledger.new_schema import create_schema
from metering.settlement.ledger.tables import HEAD_REVISION

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

BUSY_TIMEOUT_MS = 10_000
"""How long a writer waits for another (a migration, `weir` on the command line) before it fails."""

PAGE_BYTES = 16_384
"""An event takes 2.1 kB: of SQLite's own pages of 4 kB each would hold one and be half empty."""

_WAL_RETRY_MS = 20

_READ_ONLY = "ledger_read_only"

Insert: TypeAlias = "sqlite.Insert | postgresql.Insert"


class Ledger:
    """An open ledger. Threads may share it: every transaction has a connection of its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        reader = engine
        if engine.dialect.name == "postgresql":
            reader = _postgres().snapshot_engine(engine)
        self._reader = reader.execution_options(**{_READ_ONLY: True})

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that commits at the end of the block, or rolls back."""
        with self._naming_damage(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent view; nothing written in the block is kept."""
        with self._naming_damage(), self._reader.connect() as connection:
            yield connection

    def revision(self) -> str | None:
        """The migration this database stands at, or None when it is empty."""
        with self.read() as connection:
            return _revision(connection)

    def migrate(self) -> None:
        """Bring the database to the newest schema; at once when it is there already.

        Alembic is imported only when there is work for it: it would be a third of `serve`'s start.
        LedgerTooNewError when a newer version was here before.
        """
        if self.revision() == HEAD_REVISION:
            return
        with self.write() as connection:
            if connection.dialect.name == "postgresql":
                _postgres().lock_migrations(connection)
            found = _revision(connection)
            if found == HEAD_REVISION:  # another process was first
                return
            if found is not None and found > HEAD_REVISION:
                raise too_new(self._engine.url, found=found, known=HEAD_REVISION)
            if not create_schema(connection):
                _upgrade(connection)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextmanager
    def _naming_damage(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            if (how := damage(error)) is not None:
                raise damaged(self._engine.url, how) from error
            raise


def open_ledger(url: str) -> Ledger:
    """The ledger at a SQLAlchemy URL: `sqlite:///path/ledger.db` or `postgresql://...`.

    Nothing is connected to yet. ArgumentError and ImportError say what is wrong with the URL, or
    what to install, without showing a password.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # ValueError: what stands in the place of a port
        raise ArgumentError("`ledger.url` is no SQLAlchemy URL") from None
    if parsed.get_backend_name() != "sqlite":
        return Ledger(_postgres().postgres_engine(parsed))
    engine = create_engine(
        parsed, connect_args={"timeout": BUSY_TIMEOUT_MS / 1000}, hide_parameters=True
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return Ledger(engine)


def insert_into(connection: Connection, table: Table) -> Insert:
    """An INSERT that can say ON CONFLICT; both databases spell it alike, SQLAlchemy does not."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql  # noqa: PLC0415 - 0.1 s of every start on SQLite

    return postgresql.insert(table)


def insert_rows(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Append rows, straight to the driver; nothing when there are none.

    All rows have the same keys. SQLAlchemy's handling of 50 parameters takes longer than SQLite's
    insert, so values must be what the driver takes as they are: integers, text, bytes, None.
    """
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        _postgres().copy_rows(connection, table, rows)
        return
    names = tuple(rows[0])
    marks = ", ".join("?" * len(names))
    statement = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({marks})"  # noqa: S608 - names of ours
    connection.exec_driver_sql(statement, [tuple(row.values()) for row in rows])


def add_rows(
    connection: Connection, table: Table, rows: Sequence[dict[str, Any]], *, measures: Sequence[str]
) -> None:
    """Insert rows, or add their `measures` to the row that has the same primary key.

    No two of `rows` have the same; they are locked in their order.
    """
    if rows:
        values = [tuple(row.values()) for row in rows]
        add_tuples(connection, table, list(rows[0]), values, measures=measures)


def add_tuples(
    connection: Connection,
    table: Table,
    names: Sequence[str],
    rows: Sequence[tuple[Any, ...]],
    *,
    measures: Sequence[str],
) -> None:
    """The same, of values in the order of `names`; straight to the driver, as in `insert_rows`."""
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        _postgres().add_tuples(connection, table, names, rows, measures)
        return
    keys = ", ".join(column.name for column in table.primary_key)
    summed = ", ".join(f"{name} = {name} + excluded.{name}" for name in measures)
    statement = (
        f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))}) "  # noqa: S608 - names of ours
        f"ON CONFLICT ({keys}) DO UPDATE SET {summed}"
    )
    connection.exec_driver_sql(statement, rows)


def keep_rows(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows; one that breaks a uniqueness is already known and is left as it is."""
    if rows:
        connection.execute(insert_into(connection, table).on_conflict_do_nothing(), rows)


def _postgres() -> ModuleType:
    """Loaded where a ledger is on PostgreSQL: it would be part of every start on SQLite."""
    return import_module("metering.settlement.ledger.postgres")


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # BEGIN is ours to send, see _begin_sqlite
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # of a new file; others keep theirs
    _use_wal(connection)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")


def _use_wal(connection: sqlite3.Connection) -> None:
    """Write-ahead logging. It stays with the file, so only the first to open a new one switches.

    SQLite does not apply its busy timeout to the switch: two first openers have to take turns.
    """
    for _ in range(BUSY_TIMEOUT_MS // _WAL_RETRY_MS):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            sleep(_WAL_RETRY_MS / 1000)
        else:
            return
    raise sqlite3.OperationalError("the ledger stays locked by another process")


def _begin_sqlite(connection: Connection) -> None:
    read_only = connection.get_execution_options().get(_READ_ONLY, False)
    connection.exec_driver_sql("BEGIN DEFERRED" if read_only else "BEGIN IMMEDIATE")


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


def _upgrade(connection: Connection) -> None:
    command, config = import_module("alembic.command"), import_module("alembic.config")
    options = config.Config()
    options.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    options.set_main_option("path_separator", "os")
    options.attributes["connection"] = connection
    command.upgrade(options, "head")
