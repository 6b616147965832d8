"""A small configuration that loads, and the two ways to read a variation of it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from proxy.config import ConfigFaults, Loaded, load
from proxy.config_schema import config_schema
from proxy.config_yaml import parse


def loaded(directory: Path, text: str, **env: str) -> Loaded:
    path = directory / "config.yaml"
    path.write_text(text, encoding="utf-8")
    found = load(path, env)
    assert schema_faults(text) == [], "the schema refuses what the decoder accepts"
    return found


@cache
def _validator() -> Draft202012Validator:
    return Draft202012Validator(config_schema())


def schema_faults(text: str) -> list[str]:
    """What the JSON Schema has against a file, as an editor would see it."""
    document = parse(text, {})
    for path, written in document.variables.items():
        document.at(path[:-1])[path[-1]] = written
    tree = {} if document.tree is None else document.tree
    return [each.message for each in _validator().iter_errors(tree)]


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
