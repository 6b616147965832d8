"""A small configuration that loads, and the two ways to read a variation of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config import ConfigFaults, Loaded, load


def loaded(directory: Path, text: str, **env: str) -> Loaded:
    path = directory / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path, env)


def faults(directory: Path, text: str, **env: str) -> list[str]:
    with pytest.raises(ConfigFaults) as caught:
        loaded(directory, text, **env)
    return [str(fault) for fault in caught.value.faults]


BASE = """\
providers:
  sim: {type: simulator}
models:
  big: {upstreams: [{provider: sim, model: up-big}], fallbacks: [small]}
  small: {upstreams: [{provider: sim, model: up-small}]}
pricing:
  rules:
    - {model: "up-*", input_per_mtok: 2, output_rate: 5e-6, cache_read_per_mtok: 0.5,
       multiplier: 1.25}
"""
