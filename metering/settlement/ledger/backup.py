"""A copy of a SQLite ledger while it is written: the whole of one moment, in one file.

Rules: SQLite's own backup in one step, so the copy is a committed state and the writer never waits
(a file that is copied by other means lacks what its WAL has). The copy is on disk before it gets
its name; what has that name already is never touched; nobody but its owner can read it.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

UNFINISHED = ".part"
"""What the name of a copy ends with until it is whole."""


class BackupError(Exception):
    """There is no backup; the message says why and what to do."""


def back_up(ledger: Path, target: Path) -> int:
    """Copy the ledger at `ledger` to `target`; how many bytes the copy has."""
    if not ledger.exists():
        raise BackupError(f"there is no ledger at {ledger}")
    if target.exists():
        raise BackupError(f"{target} is there already: choose another name, or move it away")
    unfinished = target.with_name(target.name + UNFINISHED)
    try:
        os.close(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        raise BackupError(
            f"{unfinished} is there: another backup is being made; if none is, remove it"
        ) from None
    except OSError as failure:
        raise BackupError(f"cannot write {unfinished}: {failure.strerror}") from failure
    try:
        _copy(ledger, unfinished)
        _sync(unfinished)
        os.link(unfinished, target)  # refuses a name that is taken, where a rename would replace
        _sync(target.parent)
        return target.stat().st_size
    except sqlite3.Error as failure:
        raise BackupError(f"cannot copy {ledger} to {unfinished}: {failure}") from failure
    except OSError as failure:
        raise BackupError(f"cannot write {target}: {failure.strerror}") from failure
    finally:
        unfinished.unlink(missing_ok=True)


def _copy(ledger: Path, unfinished: Path) -> None:
    # Not opened with mode=ro: after a crash the first reader must be able to recover the WAL.
    with (
        contextlib.closing(
            sqlite3.connect(f"{ledger.absolute().as_uri()}?mode=rw", uri=True)
        ) as source,
        contextlib.closing(sqlite3.connect(unfinished)) as copy,
    ):
        source.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")  # one file that is whole without another


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
