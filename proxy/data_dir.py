"""The data directory as a place: who owns it now, which installation it is, who serves it.

Everything we keep lies below it, so it is private (0700), and one supervisor works in it at a time.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import orjson

from metering.clock import now_ns


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

    Forked children inherit the lock: no second start while they still finish after a crash.
    """
    path = data_dir / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = path.read_text(encoding="ascii", errors="replace").strip() or "unknown"
            raise DataDirError(
                f"{data_dir} is in use by another weir serve (pid {owner}): stop it, "
                "or choose another directory with --data-dir"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def installation_id(data_dir: Path) -> str:
    """Eight letters that tell this data directory from others; made once."""
    path = data_dir / "installation"
    with contextlib.suppress(FileNotFoundError):
        if known := path.read_text(encoding="ascii").strip():
            return known
    made = secrets.token_hex(4)
    path.write_text(made + "\n", encoding="ascii")
    return made


def state_path(data_dir: Path) -> Path:
    """Written while somebody serves: {pid, url, started_at}."""
    return data_dir / "serve.json"


def write_state(data_dir: Path, url: str) -> None:
    """For tools: who serves this directory and where. Appears whole, goes when we go."""
    started_at = datetime.fromtimestamp(now_ns() / 1e9, UTC).isoformat(timespec="seconds")
    state = {"pid": os.getpid(), "url": url, "started_at": started_at}
    path = state_path(data_dir)
    unfinished = path.with_suffix(".tmp")
    unfinished.write_bytes(orjson.dumps(state) + b"\n")
    unfinished.replace(path)


def clear_state(data_dir: Path) -> None:
    """Nobody serves it any more."""
    state_path(data_dir).unlink(missing_ok=True)
