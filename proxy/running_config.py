"""What `weir serve` runs with, as it writes it down and `weir config diff` reads it.

Rules: no secret lies there, only a keyed hash of each value; what waits for a restart keeps the
value that it began with.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import orjson

from proxy.config_leaves import Leaf, Told
from proxy.settings_changes import AFTER_A_RESTART


def running_path(data_dir: Path) -> Path:
    """Where it lies."""
    return data_dir / "running.json"


def taken_up(running: Told, fresh: Told) -> Told:
    """What runs after a reload: the new values, but for those that wait for a restart."""
    waiting = frozenset(AFTER_A_RESTART.values())

    def part(of: Mapping[str, Leaf], *, waits: bool) -> dict[str, Leaf]:
        return {key: leaf for key, leaf in of.items() if (key in waiting) is waits}

    kept, new = part(running.leaves, waits=True), part(fresh.leaves, waits=False)
    return Told(fresh.salt, {**new, **kept})


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
