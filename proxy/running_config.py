"""What `weir serve` runs with, as it writes it down and `weir config diff` reads it.

Rules: no secret lies there, only a keyed hash of each value; what waits for a restart keeps the
value that it began with.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import orjson

from proxy.config_leaves import Leaf, Told
from proxy.settings_changes import AT_ONCE


def running_path(data_dir: Path) -> Path:
    """Where it lies."""
    return data_dir / "running.json"


def taken_up(running: Told, fresh: Told, waiting: Sequence[str]) -> Told:
    """What runs after a reload: the new values, but for those that wait for a restart.

    `waiting` are the names of a `Replacement`; one may stand for all that is below it.
    """
    at_once = frozenset(AT_ONCE.values())

    def waits(key: str) -> bool:
        return _below(key, waiting) and not _below(key, at_once)

    new = {key: leaf for key, leaf in fresh.leaves.items() if not waits(key)}
    kept = {key: leaf for key, leaf in running.leaves.items() if waits(key)}
    return Told(fresh.salt, {**new, **kept})


def _below(key: str, names: Iterable[str]) -> bool:
    """Whether it is one of them, or below one."""
    return any(key == each or key.startswith((f"{each}.", f"{each}[")) for each in names)


def write_running(data_dir: Path, told: Told) -> None:
    """Put it there, for the owner's eyes only; it appears whole."""
    path = running_path(data_dir)
    unfinished = path.with_suffix(".tmp")
    leaves = {key: [leaf.shown, leaf.same] for key, leaf in told.leaves.items()}
    body = orjson.dumps({"salt": told.salt.hex(), "values": leaves}) + b"\n"
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(body)
    unfinished.replace(path)


def read_running(data_dir: Path) -> Told | None:
    """What was written last; None where there is nothing that can be read."""
    try:
        found = orjson.loads(running_path(data_dir).read_bytes())
        values = {key: Leaf(shown, same) for key, (shown, same) in found["values"].items()}
        return Told(bytes.fromhex(found["salt"]), values)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
