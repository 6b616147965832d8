"""Tool definitions as the text a model reads: TypeScript types, made of JSON schemas.

OpenAI does not publish the form. This one gives the prompt counts that its API returned, with
descriptions and nesting. Any JSON is accepted: what is not a schema is rendered as "any".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_DEPTH_MAX = 16  # deeper objects are written as JSON: no schema needs it, and recursion has an end
_NAMES = {
    "string": "string",
    "number": "number",
    "integer": "number",
    "boolean": "boolean",
    "null": "null",
}


def render_tools(functions: Iterable[Mapping[str, Any]]) -> str:
    """The `namespace functions` text of some functions (name, description, parameters)."""
    lines = ["namespace functions {", ""]
    for function in functions:
        lines += _function(function)
    lines.append("} // namespace functions")
    return "\n".join(lines)


def minified(value: object) -> str:
    """A JSON value as compact JSON; its strings only, if it is deeper than the encoder goes."""
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return "\n".join(text for _, text in leaves(value))


def leaves(value: object) -> Iterator[tuple[str, str]]:
    """Every string anywhere in a JSON value, with its key; iterative, so no depth is too deep."""
    waiting: list[tuple[str, object]] = [("", value)]
    while waiting:
        key, current = waiting.pop()
        if isinstance(current, str):
            yield key, current
        elif isinstance(current, Mapping):
            waiting.extend((str(name), inner) for name, inner in current.items())
        elif isinstance(current, list):
            waiting.extend((key, inner) for inner in current)


def _function(function: Mapping[str, Any]) -> Iterator[str]:
    description, name = function.get("description"), function.get("name")
    if not isinstance(name, str):  # a tool of the vendor's own, such as a web search
        name = minified(function)
    if isinstance(description, str) and description:
        yield f"// {description}"
    parameters = function.get("parameters")
    if isinstance(parameters, Mapping) and _properties(parameters):
        yield f"type {name} = (_: {{"
        yield from _lines(parameters, depth=0)
        yield "}) => any;"
    else:
        yield f"type {name} = () => any;"
    if isinstance(function.get("format"), Mapping):  # a custom tool's grammar
        yield minified(function["format"])
    yield ""


def _lines(schema: Mapping[str, Any], *, depth: int) -> Iterator[str]:
    """One line per property, and one before it for its description, indented by two per level."""
    listed = schema.get("required")
    required = {x for x in listed if isinstance(x, str)} if isinstance(listed, list) else set()
    pad = "  " * depth
    for name, inner in _properties(schema).items():
        description = inner.get("description") if isinstance(inner, Mapping) else None
        if isinstance(description, str) and description:
            yield f"{pad}// {description}"
        mark = "" if name in required else "?"
        yield f"{pad}{name}{mark}: {_type(inner, depth=depth)},"


def _type(schema: object, *, depth: int) -> str:
    if not isinstance(schema, Mapping):
        return "any"
    kind, options = schema.get("type"), schema.get("enum")
    if isinstance(options, list) and kind in ("string", "number", "integer"):
        return " | ".join(minified(option) for option in options)
    if kind == "object":
        if depth >= _DEPTH_MAX:
            return minified(schema)
        return "\n".join(("{", *_lines(schema, depth=depth + 1), "}"))
    if kind == "array":
        suffix = 0
        while isinstance(schema, Mapping) and schema.get("type") == "array":
            schema, suffix = schema.get("items"), suffix + 1
        return _type(schema, depth=depth) + "[]" * suffix
    return _NAMES.get(kind, "any") if isinstance(kind, str) else "any"


def _properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    properties = schema.get("properties")
    return properties if isinstance(properties, Mapping) else {}
