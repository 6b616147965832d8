"""Tool definitions as text."""

import json
from typing import Any

import pytest

from metering.schema_text import leaves, minified, render_tools


def one(schema: Any) -> str:
    parameters = {"type": "object", "properties": {"p": schema}, "required": ["p"]}
    return (
        render_tools([{"name": "f", "parameters": parameters}]).split("\n", 3)[3].split("\n})")[0]
    )


def test_a_function_reads_like_typescript() -> None:
    """Descriptions, required marks and nesting stand where the measured counts put them."""
    inner = {"type": "object", "properties": {"deep": {"type": "integer", "description": "Depth"}}}
    parameters = {
        "type": "object",
        "properties": {"city": {"type": "string", "description": "A city"}, "more": inner},
        "required": ["city"],
    }

    text = render_tools([{"name": "look", "description": "Look", "parameters": parameters}])

    assert text == (
        "namespace functions {\n\n// Look\ntype look = (_: {\n// A city\ncity: string,\nmore?: {\n"
        "  // Depth\n  deep?: number,\n},\n}) => any;\n\n} // namespace functions"
    )


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "boolean"}, "boolean"),
        ({"type": "null"}, "null"),
        ({"type": "string", "enum": ["a", "b"]}, '"a" | "b"'),
        ({"type": "integer", "enum": [1, 2]}, "1 | 2"),
        ({"type": "array", "items": {"type": "array", "items": {"type": "number"}}}, "number[][]"),
        ({"type": "array"}, "any[]"),
        ({"type": ["string", "null"]}, "any"),
        ({"type": {}}, "any"),
        ({}, "any"),
        (None, "any"),
        (7, "any"),
    ],
)
def test_types(schema: Any, text: str) -> None:
    """Each JSON type has its name; what is not a type is any."""
    assert one(schema) == f"p: {text},"


def test_any_depth_is_rendered() -> None:
    """A schema deeper than anybody's recursion limit loses its shape, not its text."""
    schema: dict[str, Any] = {"type": "string", "const": "treasure"}
    for _ in range(20_000):
        schema = {"type": "object", "properties": {"x": schema}}

    assert "treasure" in one(schema)


def test_a_tool_of_the_vendors_own_is_written_as_json() -> None:
    """A web search has no name or parameters, but its settings reach the model somehow."""
    assert '{"type":"web_search"}' in render_tools([{"type": "web_search"}])


def test_leaves_are_all_strings() -> None:
    """Strings are found under any mix of lists and objects, with the key they stand under."""
    value = json.loads('{"a": ["x", {"b": "y"}], "c": 1, "d": null}')

    assert sorted(leaves(value)) == [("a", "x"), ("b", "y")]
    assert minified(value) == '{"a":["x",{"b":"y"}],"c":1,"d":null}'
