"""The configuration as of now: `load` is pure, and rules with dates need to know the time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from metering.clock import now_ns
from proxy.config import Loaded, load
from proxy.config_registry import ReadRegistry
from proxy.registry_copy import read_copy


def load_now(
    path: Path,
    env: Mapping[str, str],
    *,
    data_dir: Path | None = None,
    salt: bytes | None = None,
    text: str | None = None,
    registry: ReadRegistry = read_copy,
) -> Loaded:
    """`load` with the prices in force at this moment, and the tenants that were published last."""
    return load(
        path,
        env,
        data_dir=data_dir,
        now_ns=now_ns(),
        salt=salt,
        text=text,
        registry=registry,
    )
