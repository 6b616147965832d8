"""Where a worker may die: before and after each command to Redis, each statement, each commit.

A point is named by what it stands before or after. Which of them kill is drawn from the seed; those
that a run has met seldom are likelier, so that the rare ones are met, too.
"""

from __future__ import annotations

import random
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.pool import Pool

from metering.settlement.ledger.store import Ledger

KILLS_MAX = 8
"""Deaths in one course: thousands of seeds meet every point, and one has to come to its end."""

_TABLE = re.compile(r"\b(?:INTO|UPDATE|FROM)\s+(\w+)")


class Killed(BaseException):
    """kill -9: nothing of the worker runs any more. No `Exception`: nobody catches it."""


class Fate:
    """Decides at each point whether the worker that stands there dies."""

    def __init__(self, chance: random.Random, *, only: int | None = None) -> None:
        """With `only`, the worker dies at the point of that number and nowhere else."""
        self._chance, self._only = chance, only
        self.is_calm = False
        """No more deaths."""
        self.met: Counter[str] = Counter()
        self.kills: Counter[str] = Counter()
        self.points = 0

    def reach(self, point: str) -> None:
        """Somebody stands here."""
        self.points += 1
        self.met[point] += 1
        if self._dies(point):
            self.kills[point] += 1
            _drop_transactions()
            raise Killed(point)

    def _dies(self, point: str) -> bool:
        if self._only is not None:
            return self.points == self._only
        if self.is_calm or self.kills.total() >= KILLS_MAX:
            return False
        return self._chance.random() < max(0.002, 0.04 / self.met[point])


class MortalLedger(Ledger):
    """A ledger as one worker has it open: its transactions are points of its fate."""

    def __init__(self, ledger: Ledger, fate: Fate) -> None:
        self._ledger, self._fate = ledger, fate

    @contextmanager
    def write(self) -> Iterator[Connection]:
        with self._watched(), self._ledger.write() as connection:
            yield connection
        self._fate.reach("after COMMIT")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with self._watched(), self._ledger.read() as connection:
            yield connection

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Its statements and its commit are points; nobody else runs meanwhile."""
        _watching.append(self._fate)
        try:
            yield
        finally:
            _watching.pop()

    def close(self) -> None:
        """The engine is shared by all workers of a run, and by the next run."""


_watching: list[Fate] = []
_open: list[Any] = []
"""Every connection to SQLite since the last death."""


def _drop_transactions() -> None:
    """What the kernel does for a process that is gone: its files are closed, nothing is committed.

    Before the death is raised: the frames of the dead would keep a connection half open.
    """
    for connection in _open:
        with suppress(sqlite3.ProgrammingError):  # the pool may have closed it
            connection.rollback()
    _open.clear()


@contextmanager
def hooked() -> Iterator[None]:
    """Hears of every statement of every engine, for as long as runs go on."""
    heard = (("before_cursor_execute", _before), ("after_cursor_execute", _after))
    for name, hook in heard:
        event.listen(Engine, name, hook)
    event.listen(Engine, "commit", _commit)
    event.listen(Pool, "connect", _connected)
    try:
        yield
    finally:
        for name, hook in heard:
            event.remove(Engine, name, hook)
        event.remove(Engine, "commit", _commit)
        event.remove(Pool, "connect", _connected)
        _open.clear()


def _connected(connection: Any, _: Any) -> None:
    _open.append(connection)


def _before(_: Any, __: Any, statement: str, *___: Any) -> None:
    if _watching:
        _watching[-1].reach(f"before {_name(statement)}")


def _after(_: Any, __: Any, statement: str, *___: Any) -> None:
    if _watching:
        _watching[-1].reach(f"after {_name(statement)}")


def _commit(_: Any) -> None:
    if _watching:
        _watching[-1].reach("before COMMIT")


_names: dict[str, str] = {}


def _name(statement: str) -> str:
    """`INSERT usage_event`; the same statement has the same name."""
    if (found := _names.get(statement)) is None:
        verb = statement.split(None, 1)[0].upper()
        table = _TABLE.search(statement)
        found = _names[statement] = f"{verb} {table[1]}" if table else verb
        if len(_names) > 5_000:
            _names.clear()
    return found
