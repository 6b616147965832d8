"""The file that says who serves where, on a disk that takes nothing."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import orjson

from proxy.metrics import Metrics
from proxy.reloading import Reloads
from proxy.supervisor import _Supervisor


def test_a_state_that_cannot_be_written_is_written_later(tmp_path: Path) -> None:
    """A start on a full disk serves as far as it can, and writes the file when that is possible."""
    blocked = tmp_path / "serve.json"
    blocked.mkdir()
    opened = SimpleNamespace(
        settings=SimpleNamespace(data_dir=tmp_path, source=None),
        url="http://here:1",
        admin_url=None,
    )
    supervisor = _Supervisor(
        cast("Any", opened), cast("Any", None), Reloads(cast("Any", opened), {}, Metrics()), "", 1.0
    )
    supervisor._is_ready = True

    supervisor._tell_where()
    supervisor._tell_where()
    assert blocked.is_dir()
    blocked.rmdir()
    supervisor._tell_where()

    assert orjson.loads(blocked.read_bytes())["pid"] == os.getpid()
