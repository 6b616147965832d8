"""The data directory as a place: who owns it now, which installation it is, who serves it.

Everything we keep lies below it, so it is private (0700), and one supervisor works in it at a time.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import orjson

from metering.clock import monotonic_s, now_ns

ORPHANS_S = 40.0
"""How long children of a supervisor that crashed may take to finish; they drain for less."""

_POLL_S = 0.05

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9.-]+")


class DataDirError(Exception):
    """The directory cannot be used; the message is one line that says why."""


def own(data_dir: Path) -> None:
    """Make it when it is missing, and keep others out of it."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if data_dir.stat().st_mode & 0o077:
            data_dir.chmod(0o700)
    except OSError as failure:
        raise DataDirError(f"cannot use data_dir {data_dir}: {failure.strerror}") from failure


@contextlib.contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Ours alone inside the block; a DataDirError that names the other's pid when it is not.

    Forked children inherit the lock, so after a crash of the supervisor those that still finish
    their streams keep it: then we wait for them, as a restart by systemd would want.
    """
    path = data_dir / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline_s = monotonic_s() + ORPHANS_S
        while not _try_lock(descriptor):
            owner = path.read_text(encoding="ascii", errors="replace").strip() or "unknown"
            if _is_running(owner) or monotonic_s() > deadline_s:
                raise DataDirError(
                    f"{data_dir} is in use by another weir serve (pid {owner}): stop it, "
                    "or choose another directory with --data-dir"
                )
            time.sleep(_POLL_S)
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError as failure:
            raise DataDirError(f"cannot write {path}: {failure.strerror}") from failure
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_running(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except PermissionError:
        return True
    except (ValueError, ProcessLookupError):
        return False
    return True


def installation_id(data_dir: Path) -> str:
    """Eight letters that tell this data directory from others; made once."""
    path = data_dir / "installation"
    with contextlib.suppress(FileNotFoundError):
        if known := path.read_text(encoding="ascii").strip():
            return known
    made = secrets.token_hex(4)
    path.write_text(made + "\n", encoding="ascii")
    return made


@contextlib.contextmanager
def worker_name(data_dir: Path) -> Iterator[str]:
    """The name of a settlement worker of this directory, its own for as long as the block runs.

    The first free of `<host>-<installation>-w0`, `-w1`, ...: a worker that is started again finds
    under its name what it had not finished, and two at once never share one.
    """
    host = _NOT_IN_NAMES.sub("-", socket.gethostname())
    for seat in itertools.count():
        descriptor = os.open(data_dir / f"worker-{seat}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if _try_lock(descriptor):
                yield f"{host}-{installation_id(data_dir)}-w{seat}"
                return
        finally:
            os.close(descriptor)


def state_path(data_dir: Path) -> Path:
    """Written while somebody serves: {pid, url, admin, started_at}."""
    return data_dir / "serve.json"


def write_state(data_dir: Path, url: str, admin: str | None = None) -> None:
    """For tools: who serves this directory and where. Appears whole, goes when we go."""
    started_at = datetime.fromtimestamp(now_ns() / 1e9, UTC).isoformat(timespec="seconds")
    state = {"pid": os.getpid(), "url": url, "admin": admin, "started_at": started_at}
    path = state_path(data_dir)
    unfinished = path.with_suffix(".tmp")
    unfinished.write_bytes(orjson.dumps(state) + b"\n")
    unfinished.replace(path)


def is_served(data_dir: Path) -> bool:
    """Whether somebody serves this directory now, as far as the state file tells."""
    try:
        state = orjson.loads(state_path(data_dir).read_bytes())
        return _is_running(str(state["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def serving_pid(data_dir: Path) -> int | None:
    """The supervisor that holds this directory now; None when nobody does.

    The lock decides, and not the state file: that of a run that was killed names a pid that may be
    anybody's by now.
    """
    path = data_dir / "lock"
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return None
    try:
        if _try_lock(descriptor):
            return None
        owner = path.read_text(encoding="ascii", errors="replace").strip()
    finally:
        os.close(descriptor)
    return int(owner) if owner.isdigit() and _is_running(owner) else None


def clear_state(data_dir: Path) -> None:
    """Nobody serves it any more."""
    state_path(data_dir).unlink(missing_ok=True)
