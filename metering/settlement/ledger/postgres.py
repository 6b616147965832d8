"""The ledger on PostgreSQL: how a connection is made and kept in bounds, and what only it can do.

Rules: a write is READ COMMITTED, so that what is read after a lock is what the lock protects. A
read is one REPEATABLE READ snapshot, and read-only. Nothing waits for ever: for a server, a lock, a
statement, or a client that was stopped in the middle of a transaction. A commit is on disk when it
returns. A connection to a server that went down, or that no longer is the primary, is not used
again. Loaded only where a ledger is on PostgreSQL.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import ArgumentError, DBAPIError

DRIVER = "postgresql+psycopg"

_CONNECT: dict[str, Any] = {
    "connect_timeout": 3,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "application_name": "weir",
}
"""How libpq connects, unless the URL says otherwise: a server that went silent is given up within
25 s, one that answers again is used within 5 s (with the worker's pauses between tries)."""

_SETTINGS = """
SELECT set_config(name, wanted, false)
FROM (VALUES
  ('lock_timeout', '0', '10s'),
  ('statement_timeout', '0', '5min'),
  ('idle_in_transaction_session_timeout', '0', '30s'),
  ('synchronous_commit', 'off', 'on')
) AS ours(name, unwanted, wanted)
WHERE current_setting(name) = unwanted
"""
"""Only what nobody has chosen: a limit set for the role, the database or in the URL stands. The
third one frees the locks of a worker that was stopped, so that another can settle its entries."""

_GONE = frozenset({"25006", "25P03", "57P01", "57P02", "57P03", "57P05"})
"""States after which the server behind a connection is of no use: it became a standby, ended our
session, or is stopping or starting."""

_CURSORS = "weir_cursors"
"""Where a connection has the server's cursors of its transaction."""

_MIGRATION_LOCK = 0x77656972  # "weir"


def postgres_engine(url: URL) -> Engine:
    """An engine for writing; ImportError and ArgumentError say in one line what to change."""
    if url.drivername == "postgresql":  # SQLAlchemy would take psycopg2
        url = url.set(drivername=DRIVER)
    if url.drivername != DRIVER:
        raise ArgumentError(
            f"`ledger.url` names the driver {url.drivername!r}; write postgresql:// instead"
        )
    asked = {name: value for name, value in _CONNECT.items() if name not in url.query}
    try:
        engine = create_engine(
            url,
            connect_args=asked,
            isolation_level="READ COMMITTED",
            pool_pre_ping=True,
            hide_parameters=True,
        )
    except ImportError as error:
        raise ImportError(
            "a ledger on PostgreSQL needs the driver psycopg: pip install 'tokenweir[postgres]' "
            f"({error})"
        ) from error
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "handle_error", _drop_useless)
    event.listen(engine, "after_cursor_execute", _remember_cursor)
    event.listen(engine, "reset", _close_cursors)
    return engine


def snapshot_engine(engine: Engine) -> Engine:
    """The same connections for reading: each transaction sees one state, and writes nothing."""
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def lock_migrations(connection: Connection) -> None:
    """Let one migrate at a time, to the end of the transaction; building an index takes its time.

    Whoever waits for longer than `lock_timeout` fails, and tries again like after any failure.
    """
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
    connection.execute(text("SET LOCAL statement_timeout = 0"))
    connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))


def copy_values(
    connection: Connection, table: Table, names: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Append the values of these columns by COPY. It fails with SQLAlchemy's errors.

    In binary: as text, a payload is written in hexadecimal here and read back there, which was a
    third of the server's work for an event and more than half of ours.
    """
    import psycopg  # noqa: PLC0415 - an extra; this is reached with a connection of it only

    statement = f"COPY {table.name} ({', '.join(names)}) FROM STDIN (FORMAT BINARY)"
    types = [table.c[name].type.compile(connection.dialect).lower() for name in names]
    for place, name in enumerate(names):
        if types[place] == "integer":
            _need_four_bytes(name, [row[place] for row in rows])
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types(types)
            try:
                for row in rows:
                    copy.write_row(row)
            except (TypeError, struct.error) as error:  # a value that is not of its column's type
                raise psycopg.DataError(str(error)) from None
    except psycopg.Error as error:
        gone = driver.closed or error.sqlstate in _GONE
        if gone:
            connection.invalidate(error)
        raise DBAPIError.instance(
            statement,
            None,
            error,
            psycopg.Error,
            hide_parameters=True,
            connection_invalidated=gone,
            dialect=connection.dialect,
        ) from error


def _need_four_bytes(name: str, values: Sequence[Any]) -> None:
    """OverflowError for what the driver would write without its upper half, and say nothing."""
    numbers = [value for value in values if type(value) is int]
    if numbers and not -(2**31) <= min(numbers) <= max(numbers) < 2**31:
        raise OverflowError(f"{name} has a number that does not fit into four bytes")


def add_tuples(
    connection: Connection,
    table: Table,
    names: Sequence[str],
    rows: Sequence[tuple[Any, ...]],
    measures: Sequence[str],
) -> None:
    """Insert rows or add to those that are there, in one statement: a column is one array."""
    columns = [table.c[name] for name in names]
    arrays = ", ".join(f"%s::{column.type.compile(connection.dialect)}[]" for column in columns)
    keys = ", ".join(column.name for column in table.primary_key)
    summed = ", ".join(f"{name} = {table.name}.{name} + excluded.{name}" for name in measures)
    statement = (
        f"INSERT INTO {table.name} ({', '.join(names)}) SELECT * FROM unnest({arrays}) "  # noqa: S608 - names of ours
        f"ON CONFLICT ({keys}) DO UPDATE SET {summed}"
    )
    values = tuple(list(column) for column in zip(*rows, strict=True))
    connection.exec_driver_sql(statement, values)


def _prepare(connection: Any, _record: object) -> None:
    connection.execute(_SETTINGS)
    connection.commit()


def _remember_cursor(connection: Connection, cursor: Any, *_: object) -> None:
    """A read in parts that is left early leaves its cursor open on the server: psycopg wants it
    closed, not forgotten, and who left may be a generator that nobody ends."""
    if hasattr(cursor, "name"):  # none but those of the server have one
        kept = connection.info.get(_CURSORS, ())
        connection.info[_CURSORS] = [*(each for each in kept if not each.closed), cursor]


def _close_cursors(_connection: object, record: Any, _state: object) -> None:
    """At the end of a transaction; psycopg knows by itself when there is nobody to tell."""
    for cursor in record.info.pop(_CURSORS, ()):
        cursor.close()


def _drop_useless(context: ExceptionContext) -> None:
    if getattr(context.original_exception, "sqlstate", None) in _GONE:
        context.is_disconnect = True
