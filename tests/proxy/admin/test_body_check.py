"""Bodies against schemas: what is refused, and under which name."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from proxy.admin import catalogue
from proxy.admin.body_check import first_fault

SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["id"],
    "properties": {
        "id": {"type": "string", "pattern": "^[a-z]+$", "minLength": 2, "maxLength": 4},
        "n": {"type": ["integer", "null"], "minimum": 1, "maximum": 9},
        "on": {"type": "boolean"},
        "tags": {"type": "array", "minItems": 1, "maxItems": 2, "items": {"enum": ["a", "b"]}},
        "by": {"type": "object", "additionalProperties": {"type": "string"}},
        "either": {"anyOf": [{"type": "number"}, {"const": "all"}]},
    },
}
SOUND = {"id": "abc", "n": None, "on": True, "tags": ["a"], "by": {"x": "y"}, "either": "all"}


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({}, None),
        ({"id": 1}, "id"),
        ({"id": "A1"}, "id"),
        ({"id": "a"}, "id"),
        ({"id": "abcde"}, "id"),
        ({"n": True}, "n"),
        ({"n": 0}, "n"),
        ({"n": 10}, "n"),
        ({"on": 1}, "on"),
        ({"tags": []}, "tags"),
        ({"tags": ["a", "c"]}, "tags[1]"),
        ({"tags": ["a", "b", "a"]}, "tags"),
        ({"by": {"x": 1}}, "by.x"),
        ({"either": "none"}, "either"),
        ({"role": "admin"}, "role"),
    ],
)
def test_the_first_fault_is_named(change: dict[str, Any], path: str | None) -> None:
    """By its path, and jsonschema finds a fault where we do."""
    body = SOUND | change
    found = first_fault(body, SCHEMA)

    assert (found and found.path) == path
    assert Draft202012Validator(SCHEMA).is_valid(body) is (path is None)


def test_what_is_missing_is_named() -> None:
    """A required field, and a body that is no object at all."""
    missing, other = first_fault({}, SCHEMA), first_fault([], SCHEMA)

    assert missing is not None and missing.path == "id"
    assert other is not None and other.path == ""


def test_every_schema_of_a_route_is_one_we_check() -> None:
    """A word that nobody judges would be a promise that nobody keeps."""
    for route in catalogue.routes():
        for schema in [route.body, *(param.schema for param in route.query)]:
            if schema is not None:
                Draft202012Validator.check_schema(dict(schema))
                first_fault({}, schema)
