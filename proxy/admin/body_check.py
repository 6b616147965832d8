"""A value against the part of JSON Schema that the routes use: the first fault, by its path. Pure.

Known are type, enum, const, properties, required, additionalProperties (false, or a schema), items,
minItems, maxItems, minLength, maxLength, pattern, minimum, maximum and anyOf. `$ref` leads to a
document that a decoder of its own reads, and that is where it is judged. Any other word is a fault
of ours, so that no route believes in a check that nobody makes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

Schema = Mapping[str, Any]


class Fault(NamedTuple):
    """Where, and what is wrong there."""

    path: str
    message: str


_NUMBERS = (int, float, Decimal)

_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, _NUMBERS) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}
_SAID = frozenset({"description", "title", "examples", "default", "format"})
"""What tells people something, and refuses nothing."""


def first_fault(value: Any, schema: Schema, path: str = "") -> Fault | None:
    """What of `value` is not as `schema` wants it; None when all is."""
    if "$ref" in schema:
        return None if isinstance(value, dict) else Fault(path, "must be an object")
    for word, wanted in schema.items():
        if word in _SAID:
            continue
        if (found := _JUDGES[word](value, wanted, path, schema)) is not None:
            return found
    return None


def _type(value: Any, wanted: Any, path: str, _: Schema) -> Fault | None:
    kinds = [wanted] if isinstance(wanted, str) else wanted
    if any(_TYPES[kind](value) for kind in kinds):
        return None
    return Fault(path, f"must be {' or '.join(kinds)}")


def _any_of(value: Any, wanted: Any, path: str, _: Schema) -> Fault | None:
    faults = [first_fault(value, each, path) for each in wanted]
    return None if None in faults else faults[0]


def _properties(value: Any, wanted: Any, path: str, _: Schema) -> Fault | None:
    for name, inner in wanted.items() if isinstance(value, dict) else ():
        if name in value and (found := first_fault(value[name], inner, _at(path, name))):
            return found
    return None


def _required(value: Any, wanted: Any, path: str, _: Schema) -> Fault | None:
    missing = [name for name in wanted if isinstance(value, dict) and name not in value]
    return Fault(_at(path, missing[0]), "is missing") if missing else None


def _additional(value: Any, wanted: Any, path: str, schema: Schema) -> Fault | None:
    known = schema.get("properties", {})
    for name in [each for each in value if each not in known] if isinstance(value, dict) else ():
        if wanted is False:
            names = ", ".join(known)
            return Fault(_at(path, name), f"is not known here; known: {names}")
        if isinstance(wanted, Mapping):
            found = first_fault(value[name], wanted, _at(path, name))
            if found is not None:
                return found
    return None


def _items(value: Any, wanted: Any, path: str, _: Schema) -> Fault | None:
    for index, each in enumerate(value if isinstance(value, list) else ()):
        if (found := first_fault(each, wanted, f"{path}[{index}]")) is not None:
            return found
    return None


def _judge(
    kind: type | tuple[type, ...], fits: Callable[[Any, Any], bool], words: str
) -> Callable[[Any, Any, str, Schema], Fault | None]:
    """A judge of values of one kind; it has nothing to say of others."""

    def judge(value: Any, wanted: Any, path: str, _: Schema) -> Fault | None:
        concerns = isinstance(value, kind) and not isinstance(value, bool)
        return Fault(path, words.format(wanted)) if concerns and not fits(value, wanted) else None

    return judge


def _enum(value: Any, wanted: Any, path: str, _: Schema) -> Fault | None:
    return None if value in wanted else Fault(path, f"must be one of {', '.join(map(str, wanted))}")


_JUDGES: Mapping[str, Callable[[Any, Any, str, Schema], Fault | None]] = {
    "type": _type,
    "enum": _enum,
    "const": lambda value, wanted, path, schema: _enum(value, [wanted], path, schema),
    "anyOf": _any_of,
    "required": _required,
    "additionalProperties": _additional,
    "properties": _properties,
    "items": _items,
    "minItems": _judge(list, lambda value, least: len(value) >= least, "needs at least {} items"),
    "maxItems": _judge(list, lambda value, most: len(value) <= most, "has more than {} items"),
    "minLength": _judge(str, lambda value, least: len(value) >= least, "is too short (min. {})"),
    "maxLength": _judge(str, lambda value, most: len(value) <= most, "is longer than {} signs"),
    "pattern": _judge(str, lambda value, form: bool(re.search(form, value)), "must be like {}"),
    "minimum": _judge(_NUMBERS, lambda value, least: value >= least, "must be at least {}"),
    "maximum": _judge(_NUMBERS, lambda value, most: value <= most, "must be at most {}"),
}


def _at(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
