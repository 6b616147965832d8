"""What can be wrong with a ledger that waiting does not cure, and how a database says so.

Rules: a damaged ledger is never written on, nor is one that a newer version has migrated.
Everything else (full, locked, away) passes: whoever writes backs off and tries again. A message
names the ledger without its password, and what to do.
"""

from __future__ import annotations

import sqlite3

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

_SQLITE_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_POSTGRESQL_DAMAGE = frozenset({"XX001", "XX002"})
"""data_corrupted, index_corrupted."""


class LedgerUnusableError(SQLAlchemyError):
    """This ledger cannot be settled into until a person has done something about it."""


class LedgerDamagedError(LedgerUnusableError):
    """The database found that its own files are not what it wrote; `how` is what it said."""

    how: str = ""


class LedgerTooNewError(LedgerUnusableError):
    """A newer version has migrated the ledger to tables that this one does not know."""


class OtherLedgerError(LedgerUnusableError):
    """Redis is settled into another ledger than this one."""


def safe_url(url: URL) -> str:
    """A ledger's URL as it may be shown: no password, and no query, which may hold one too."""
    return url.set(query={}).render_as_string(hide_password=True)


def damage(error: DBAPIError) -> str | None:
    """How the database describes damage to its files; None when that is not what it reports."""
    cause = error.orig
    if isinstance(cause, sqlite3.Error):  # an extended code has the primary one in its low byte
        found = getattr(cause, "sqlite_errorcode", 0) & 0xFF in _SQLITE_DAMAGE
    else:
        found = getattr(cause, "sqlstate", None) in _POSTGRESQL_DAMAGE
    return str(cause).partition("\n")[0] if found else None


def damaged(url: URL, how: str) -> LedgerDamagedError:
    """The error that ends settling on a damaged ledger."""
    error = LedgerDamagedError(
        f"the ledger {safe_url(url)} is damaged ({how}): nothing more is settled, events wait in "
        "Redis; run `weir ledger verify`, put a backup in its place, then start the worker again"
    )
    error.how = how
    return error


def too_new(url: URL, *, found: str, known: str) -> LedgerTooNewError:
    """The error for a ledger of a newer version."""
    return LedgerTooNewError(
        f"the ledger {safe_url(url)} is at migration {found} and this version knows none after "
        f"{known}: run the newer version"
    )
