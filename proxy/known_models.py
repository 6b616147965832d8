"""What is known of models by their names, from the dated list in our package. Pure but for reading
that list once.

The file is `data/models.json`: patterns of names of upstream models, each with what its makers
publish, and where. The longest pattern that matches wins, as with prices. What a name says nothing
of stays unknown, and what is unknown is never held against an upstream.
"""

from __future__ import annotations

from dataclasses import fields
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib.resources import files
from typing import Any

import orjson

from routing.abilities import ANY, Abilities

_NAMES = tuple(each.name for each in fields(Abilities))


def known_abilities(model: str) -> Abilities:
    """What is known of an upstream model; ANY of one that is not in the list."""
    name = model.lower()
    found = [each for each in _list() if fnmatchcase(name, each[0])]
    return max(found, key=lambda each: len(each[0]))[1] if found else ANY


def list_date() -> str:
    """As of when the list holds: `2026-11-21`."""
    return str(_read()["as_of"])


@lru_cache(maxsize=1)
def _list() -> tuple[tuple[str, Abilities], ...]:
    return tuple(
        [
            (pattern, Abilities(**{name: entry[name] for name in _NAMES if name in entry}))
            for entry in _read()["models"]
            for pattern in entry["names"]
        ]
    )


@lru_cache(maxsize=1)
def _read() -> dict[str, Any]:
    found = orjson.loads((files("proxy") / "data" / "models.json").read_bytes())
    assert isinstance(found, dict)
    return found
