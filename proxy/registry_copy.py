"""The registry as a machine keeps it beside Redis: what it starts with, and serves by in an outage.

Rules: the file holds hashes of keys and no key, and is for its owner alone; it appears whole, and
what was cut or edited by hand into nonsense is refused by name, never guessed at.
"""

from __future__ import annotations

import os
from pathlib import Path

from metering.registry_body import (
    BODY_BYTES_MAX,
    NOTHING,
    BrokenRegistryError,
    Snapshot,
    parse,
    read_snapshot,
    version_of,
)


def copy_path(data_dir: Path) -> Path:
    """Where it lies."""
    return data_dir / "registry.json"


def read_copy(data_dir: Path) -> Snapshot:
    """What was kept last; nothing where nothing was. BrokenRegistryError for what is no copy."""
    path = copy_path(data_dir)
    try:
        with path.open("rb") as file:
            body = file.read(BODY_BYTES_MAX + 1)
    except FileNotFoundError:
        return NOTHING
    except OSError as failure:
        raise BrokenRegistryError(f"{path} cannot be read: {failure.strerror}") from None
    try:
        number = parse(body)["number"]
        return read_snapshot(version_of(int(number), body), body)
    except BrokenRegistryError as error:
        raise BrokenRegistryError(f"{path}: {error}") from None
    except (ValueError, TypeError, KeyError):
        raise BrokenRegistryError(f"{path} is not what we have written") from None


def write_copy(data_dir: Path, snapshot: Snapshot) -> None:
    """Keep it; OSError where the disk does not take it."""
    path = copy_path(data_dir)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(snapshot.body)
    unfinished.replace(path)
