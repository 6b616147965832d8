"""The configuration as of now: `load` is pure, and rules with dates need to know the time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from metering.clock import now_ns
from proxy.config import Loaded, load


def load_now(
    path: Path,
    env: Mapping[str, str],
    *,
    data_dir: Path | None = None,
    salt: bytes | None = None,
) -> Loaded:
    """`load` with the prices in force at this moment."""
    return load(path, env, data_dir=data_dir, now_ns=now_ns(), salt=salt)
