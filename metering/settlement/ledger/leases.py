"""Leases: of several workers one does a thing at a time, and another goes on when it dies.

A lease is a row. Whoever holds it renews it within every transaction that relies on it; who lost it
finds that out there, and changes nothing. On PostgreSQL the time is the database's: workers whose
clocks differ would take leases from each other that are not over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Table, and_, or_, text, update

from metering.settlement.ledger.store import Ledger, keep_rows


class LeaseLostError(Exception):
    """Another has it now."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A row of `table` with the columns `holder` and `until`."""

    table: Table
    key: Mapping[str, Any]
    lasts_ns: int
    fresh: Mapping[str, Any] = field(default_factory=dict)
    """Further columns of a new row."""
    by_own_clock: bool = False
    """Go by the clock of the caller: where two holders at once do no harm."""

    def take(self, ledger: Ledger, holder: str, now_ns: int) -> bool:
        """Take the lease if it is free, over, or ours."""
        table = self.table.c
        with ledger.write() as connection:
            keep_rows(
                connection,
                self.table,
                [{**self.key, "holder": holder, "until": 0, **self.fresh}],
            )
            at_ns = self._time(connection, now_ns)
            free = or_(table.until <= at_ns, table.holder == holder)
            taken = update(self.table).where(self._here(), free)
            taken = taken.values(holder=holder, until=at_ns + self.lasts_ns)
            return connection.execute(taken).rowcount == 1

    def give(self, ledger: Ledger, holder: str) -> None:
        """Let the next have it at once."""
        with ledger.write() as connection:
            ours = update(self.table).where(self._here(), self.table.c.holder == holder)
            connection.execute(ours.values(until=0))

    def keep(self, connection: Connection, holder: str, now_ns: int) -> int:
        """Part of a transaction of whoever holds it; the time it is. LeaseLostError ends it."""
        at_ns = self._time(connection, now_ns)
        ours = and_(self._here(), self.table.c.holder == holder, self.table.c.until > at_ns)
        kept = update(self.table).where(ours).values(until=at_ns + self.lasts_ns)
        if connection.execute(kept).rowcount != 1:
            raise LeaseLostError
        return at_ns

    def _time(self, connection: Connection, now_ns: int) -> int:
        return now_ns if self.by_own_clock else ledger_time(connection, now_ns)

    def _here(self) -> Any:
        return and_(*(self.table.c[name] == value for name, value in self.key.items()))


def ledger_time(connection: Connection, now_ns: int) -> int:
    """The time that all workers of a ledger share; on SQLite they share a machine, and so ours."""
    if connection.dialect.name != "postgresql":
        return now_ns
    query = text("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint * 1000")
    return int(connection.execute(query).scalar_one())
