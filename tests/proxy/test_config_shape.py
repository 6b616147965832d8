"""The shape: closed classes, fields read as their type, a schema for editors."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import is_dataclass
from decimal import Decimal
from typing import Any, get_args, get_type_hints

import pytest
from pydantic import ValidationError

from proxy.config_shape import FILE, FileShape
from proxy.config_yaml import EnvText


def _classes(kind: Any) -> Iterator[type]:
    if is_dataclass(kind):
        yield kind  # type: ignore[misc]
        for hint in get_type_hints(kind).values():
            yield from _classes(hint)
    for part in get_args(kind):
        yield from _classes(part)


def test_every_class_forbids_unknown_keys() -> None:
    """No class of the shape drops a key silently, and none stands outside the file."""
    reachable = set(_classes(FileShape))
    written = {
        each
        for name, module in sys.modules.items()
        if name.startswith("proxy.config_")
        for each in vars(module).values()
        if isinstance(each, type) and hasattr(each, "__pydantic_config__")
    }

    assert reachable == written
    assert all(each.__pydantic_config__["extra"] == "forbid" for each in reachable)  # type: ignore[attr-defined]


READ = {
    "number from env": ({"daily_cap": EnvText("12.50")}, Decimal("12.50")),
    "number from int": ({"daily_cap": 12}, Decimal(12)),
    "number": ({"daily_cap": Decimal("5e-6")}, Decimal("0.000005")),
}


@pytest.mark.parametrize(("section", "value"), READ.values(), ids=READ)
def test_fields_are_read_as_their_type(section: dict[str, Any], value: Decimal) -> None:
    """What a variable gave is read as its field's type; a number stays exact."""
    shape = FILE.validate_python({"limits": {"tenant": section}})

    assert shape.limits.tenant.daily_cap == value


REFUSED = {
    "quoted number": {"limits": {"tenant": {"daily_cap": "50"}}},
    "boolean as number": {"limits": {"tenant": {"daily_cap": True}}},
    "variable that is no number": {"limits": {"tenant": {"daily_cap": EnvText("5 USD")}}},
    "variable NaN": {"limits": {"tenant": {"daily_cap": EnvText("NaN")}}},
    "endless number": {"limits": {"tenant": {"daily_cap": Decimal("1e900")}}},
    "quoted port": {"server": {"port": "8080"}},
    "fraction of a port": {"server": {"port": Decimal("80.5")}},
    "port too high": {"server": {"port": 65536}},
    "number as text": {"server": {"host": 127}},
    "word as flag": {"pricing": {"rules": [{"model": "m", "free": "yes"}]}},
}


@pytest.mark.parametrize("tree", REFUSED.values(), ids=REFUSED)
def test_wrong_types_are_refused(tree: dict[str, Any]) -> None:
    """Nothing written in the file is converted from one type to another."""
    with pytest.raises(ValidationError):
        FILE.validate_python(tree)


def test_flags_and_whole_numbers_from_variables() -> None:
    """`${PORT}` and `${FREE}` arrive as text and are read as number and boolean."""
    rule = {"model": EnvText("m"), "free": EnvText("true")}
    tree = {"server": {"port": EnvText("8081")}, "pricing": {"rules": [rule]}}

    shape = FILE.validate_python(tree)

    assert (shape.server.port, shape.pricing.rules[0].free) == (8081, True)
