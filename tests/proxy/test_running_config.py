"""What runs, written down."""

from __future__ import annotations

import stat
from pathlib import Path

from proxy.config_leaves import Leaf, Told
from proxy.running_config import read_running, running_path, taken_up, write_running


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    """For the owner only, and twice in a row."""
    told = Told(b"salt", {"server.port": Leaf(1, "a"), "x": Leaf("***", "b")})

    write_running(tmp_path, told)
    write_running(tmp_path, told)

    assert read_running(tmp_path) == told
    assert stat.S_IMODE(running_path(tmp_path).stat().st_mode) == 0o600


def test_nothing_there(tmp_path: Path) -> None:
    """A file that is missing or is none of ours."""
    assert read_running(tmp_path) is None
    running_path(tmp_path).write_text("[]", encoding="utf-8")
    assert read_running(tmp_path) is None


def test_what_waits_for_a_restart_keeps_its_value() -> None:
    """A reload changes what it can; a diff afterwards still tells the rest."""
    running = Told(b"s", {"server.port": Leaf(1, "a"), "server.max_body_mb": Leaf(1, "b")})
    fresh = Told(b"s", {"server.port": Leaf(2, "c"), "redis.url": Leaf("r", "d")})

    waiting = ("server.port", "redis.url")
    assert taken_up(running, fresh, waiting).leaves == {"server.port": Leaf(1, "a")}


def test_a_section_that_waits_keeps_what_is_below_it() -> None:
    """The console's port stays; its keys hold at once although they stand in the same section."""
    old, new = Leaf(1, "a"), Leaf(2, "b")
    keys = ("admin.port", "admin.keys[ops].sha256", "telemetry.endpoint")
    fresh = Told(b"s", {**dict.fromkeys(keys, new), "admin.host": new})

    taken = taken_up(Told(b"s", dict.fromkeys(keys, old)), fresh, ("admin", "telemetry"))

    assert taken.leaves == {
        "admin.keys[ops].sha256": new,
        "admin.port": old,
        "telemetry.endpoint": old,
    }
