"""Reads the values of a body whose types nobody has checked: what is wrong is named by its path.

`null` is what is not set. Paths are dotted, as in Anthropic's own errors: `messages.0.content`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxy.errors import InvalidRequest

Fields = Mapping[str, Any]


def wrong(path: str, wanted: str) -> InvalidRequest:
    """The refusal of a value that is not what it has to be."""
    return InvalidRequest(f"`{path}` must be {wanted}.", param=path)


def text(fields: Fields, name: str, where: str = "") -> str:
    """A string that has to be there."""
    value = fields.get(name)
    if not isinstance(value, str):
        raise wrong(_path(where, name), "a string")
    return value


def text_or_none(fields: Fields, name: str, where: str = "") -> str | None:
    """A string that may be missing."""
    return None if fields.get(name) is None else text(fields, name, where)


def mapping(value: object, path: str) -> dict[str, Any]:
    """An object."""
    if not isinstance(value, dict):
        raise wrong(path, "an object")
    return value


def mapping_or_none(fields: Fields, name: str, where: str = "") -> dict[str, Any] | None:
    """An object that may be missing."""
    value = fields.get(name)
    return None if value is None else mapping(value, _path(where, name))


def mappings(value: object, path: str) -> list[dict[str, Any]]:
    """A list of objects."""
    if not isinstance(value, list):
        raise wrong(path, "a list")
    return [mapping(each, f"{path}.{at}") for at, each in enumerate(value)]


def _path(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name
