"""The JSON Schema of the configuration file, for editors: what the decoder takes, said in advance.

Rules: whatever the decoder accepts the schema accepts. So a number, a flag or a choice may also be
a variable (`${NAME}`), and a section that is written but empty is none. What spans sections is
known to `weir config check` only. `proxy/data/config.schema.json` is a copy that a test keeps
equal. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metering.ids import ID_PATTERN
from proxy import vendors
from proxy.config_shape import FILE

Schema = dict[str, Any]

COPY = Path(__file__).parent / "data" / "config.schema.json"
"""What the package carries, for editors that open a file."""

VARIABLE: Schema = {
    "description": "A value from the environment: `${NAME}` or `${NAME:-default}`.",
    "type": "string",
    "pattern": r"\$\{[A-Za-z_]|^os\.environ/[A-Za-z_]",
}

_VARIABLE_REF: Schema = {"$ref": "#/$defs/Variable"}

_ID = f"^{ID_PATTERN.pattern}$"

_FORMS: Mapping[tuple[str, str], Schema] = {
    ("TenantShape", "id"): {"pattern": _ID},
    ("ProjectShape", "id"): {"pattern": _ID},
    ("KeyShape", "id"): {"pattern": _ID},
    ("KeyShape", "sha256"): {"pattern": r"^[0-9a-fA-F]{64}$"},
    ("ProbeShape", "every_s"): {"minimum": 1},
    ("ProbeShape", "timeout_s"): {"maximum": 60},
}
"""What the builders ask for, or pydantic does not pass on, by class and field."""


def config_schema() -> Schema:
    """The JSON Schema of the file, for editors (draft 2020-12)."""
    raw = FILE.json_schema()
    types = raw["$defs"]["ProviderShape"]["properties"]["type"]
    types["enum"] = list(vendors.vendor_types())
    for (kind, field), form in _FORMS.items():
        _narrow(raw["$defs"][kind]["properties"][field], form)
    given = raw["$defs"]
    definitions = {name: _section(each, given) for name, each in sorted(given.items())}
    whole = _section(raw, given)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Tokenweir config.yaml",
        **whole,
        "$defs": {**definitions, "Variable": VARIABLE},
    }


def schema_text() -> str:
    """The schema as the file that is shipped."""
    return json.dumps(config_schema(), indent=1, ensure_ascii=False) + "\n"


def _narrow(field: Schema, form: Schema) -> None:
    """On the value itself, which may be one of two choices beside null."""
    for each in field.get("anyOf", [field]):
        if each.get("type") != "null":
            each.update(form)


def _section(section: Schema, definitions: Mapping[str, Schema]) -> Schema:
    properties = {
        name: _field(each, definitions, is_required=name in section.get("required", ()))
        for name, each in section["properties"].items()
    }
    said = {"description": _plain(section["description"])} if "description" in section else {}
    required = {"required": section["required"]} if section.get("required") else {}
    return {
        "type": "object",
        **said,
        "additionalProperties": False,
        **required,
        "properties": properties,
    }


def _field(field: Schema, definitions: Mapping[str, Schema], *, is_required: bool) -> Schema:
    """One key: its description and default around what it may be."""
    said: Schema = {}
    if "description" in field:
        said["description"] = _plain(field["description"])
    elif "$ref" in field:
        said["description"] = _plain(_target(field, definitions)["description"])
    default = field.get("default")
    if default is not None and not isinstance(default, dict | list):
        is_number = isinstance(default, str) and _takes_numbers(field)
        said["default"] = _number(default) if is_number else default
    return said | _value(field, definitions, may_be_empty=not is_required)


def _value(value: Schema, definitions: Mapping[str, Schema], *, may_be_empty: bool) -> Schema:
    """What may stand there; `may_be_empty` says whether nothing but a key may be written."""
    if "anyOf" in value:
        choices = [_value(each, definitions, may_be_empty=False) for each in value["anyOf"]]
        return {"anyOf": _flat(choices)}
    if "$ref" in value:
        found = {"$ref": value["$ref"]}
        is_optional = may_be_empty and not _target(value, definitions).get("required")
        return {"anyOf": [found, {"type": "null"}]} if is_optional else found
    kind = value["type"]
    if kind == "array":
        items = _value(value["items"], definitions, may_be_empty=True)
        return {"type": ["array", "null"] if may_be_empty else "array", "items": items}
    if kind == "object":
        inner = _value(value["additionalProperties"], definitions, may_be_empty=True)
        return {"type": ["object", "null"] if may_be_empty else kind, "additionalProperties": inner}
    bounds = {_BOUNDS[name]: each for name, each in value.items() if name in _BOUNDS}
    if kind == "null" or (kind == "string" and not bounds.keys() - {"type"}):
        return bounds
    return {"anyOf": [bounds, _VARIABLE_REF]}


_BOUNDS: Mapping[str, str] = {
    name: name
    for name in ("type", "enum", "const", "pattern", "minimum", "maximum", "exclusiveMinimum")
} | {"ge": "minimum", "le": "maximum"}
"""What bounds a value, as pydantic writes it and as a schema does."""


def _flat(choices: list[Schema]) -> list[Schema]:
    """Choices among choices are choices; each once."""
    found: list[Schema] = []
    for each in choices:
        inner = each["anyOf"] if set(each) == {"anyOf"} else [each]
        found += [one for one in inner if one not in found]
    return found


def _target(reference: Schema, definitions: Mapping[str, Schema]) -> Schema:
    return definitions[reference["$ref"].rpartition("/")[2]]


def _takes_numbers(field: Schema) -> bool:
    return any(each.get("type") == "number" for each in field.get("anyOf", [field]))


def _number(text: str) -> int | float:
    return int(text) if re.fullmatch(r"-?\d+", text) else float(text)


def _plain(text: str) -> str:
    """One line, and links as the pages that they lead to: editors know no relative address."""
    line = " ".join(text.split())
    return re.sub(r"\[([^\]]+)\]\(([^)\s]+)\)", r"\1 (docs/\2)", line)
