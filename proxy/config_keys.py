"""What one key of the configuration file means: found by its path, told from the schema. Pure.

Rules: what a key means, may be and defaults to is what the schema says of it; when a change takes
effect is what `proxy.settings_changes` does. Nothing is said twice, so nothing can differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from proxy.config_schema import Schema, config_schema
from proxy.config_yaml import Path
from proxy.settings_changes import AFTER_A_RESTART, AT_ONCE

PAGE = "docs/configuration.md"

TOLD_TOGETHER: Mapping[str, str] = {"meters": "meters-plans-credits"} | dict.fromkeys(
    ("plans", "credits"), "meters-plans-credits"
)
"""Sections whose heading in the page is another."""

AT_THE_TOP = frozenset({"data_dir"})
"""Keys that have no section of their own."""


class UnknownKey(Exception):
    """No such key; `known` are the keys that stand there."""

    def __init__(self, asked: str, step: str, known: Iterable[str]) -> None:
        self.step, self.known = step, tuple(known)
        super().__init__(f"no key {asked!r} in the configuration: {step!r} is unknown there")


@dataclass(frozen=True, slots=True)
class Key:
    """One key; `path` is where it would stand in the file, None with `[]` or NAME in it."""

    pattern: str
    path: Path | None
    description: str
    type: str
    default: Any
    is_required: bool
    keys: tuple[str, ...]
    """The keys below it, if it is a section."""

    @property
    def page(self) -> str:
        """Where the documentation has its row."""
        section = self.pattern.split(".")[0].removesuffix("[]")
        anchor = "top-level" if section in AT_THE_TOP else TOLD_TOGETHER.get(section, section)
        return f"{PAGE}#{anchor.replace(' ', '-')}"


def find_key(asked: str, tree: Any) -> Key:
    """The key at `asked`: `server.port`, `tenants[0].id`, `tenants[].id`, `models.NAME.retries`.

    A name with a dot in it is quoted, or is one that the file (`tree`) has.
    """
    schema = config_schema()
    walk = _Walk(schema, tree)
    rest = asked.strip()
    while rest:
        rest = walk.step(rest, asked)
    field = walk.field
    section = walk.section()
    return Key(
        walk.pattern,
        tuple(walk.path) if walk.is_concrete else None,
        str(field.get("description", schema["title"])),
        _type(field, schema["$defs"]),
        field.get("default"),
        walk.is_required,
        () if section is None else tuple(section.get("properties", ())),
    )


def effect_of(pattern: str) -> tuple[str, tuple[str, ...]]:
    """When a change of this key takes effect: `at once`, `after a restart`, or `in part` with the
    keys below it that wait for a restart."""
    plain = re.sub(r"\[\]|\.NAME", "", pattern)
    known = dict.fromkeys(AFTER_A_RESTART.values(), "after a restart")
    known |= dict.fromkeys(AT_ONCE.values(), "at once")
    below = tuple(
        name for name in AFTER_A_RESTART.values() if name.startswith(f"{plain}.") or not plain
    )
    if below:
        return "in part", below
    around = [name for name in known if plain == name or plain.startswith(f"{name}.")]
    return known[max(around, key=len)] if around else "at once", ()


class _Walk:
    """Goes down the schema and the file together."""

    def __init__(self, schema: Schema, tree: Any) -> None:
        self._definitions = schema["$defs"]
        self._tree = tree
        self.field: Schema = schema
        self.pattern = ""
        self.path: list[str | int] = []
        self.is_concrete = True
        self.is_required = False

    def step(self, rest: str, asked: str) -> str:
        """One step further; what is left of `rest`."""
        around = self._choice("array", "object", "$ref", "properties")
        if rest.startswith("["):
            return self._into_list(around, rest, asked)
        rest = rest.removeprefix(".")
        if "items" in around:  # `tenants.keys` for `tenants[].keys`
            return self._into_list(around, f"[].{rest}", asked)
        if "properties" in around:
            name, rest = _name(rest, around["properties"])
            if name not in around["properties"]:
                raise UnknownKey(asked, name, around["properties"])
            self.is_required = name in around.get("required", ())
            return self._go(around["properties"][name], name, name, rest)
        if "additionalProperties" not in around:
            raise UnknownKey(asked, rest, ())
        known = self._tree if isinstance(self._tree, dict) else {}
        name, rest = _name(rest, known)
        self.is_concrete &= name != "NAME" or name in known
        self.is_required = False
        return self._go(around["additionalProperties"], name, "NAME", rest)

    def section(self) -> Schema | None:
        """The mapping or list item that stands here, if it is one."""
        here = self._choice("array", "object", "$ref", "properties")
        return here if "properties" in here else None

    def _into_list(self, around: Schema, rest: str, asked: str) -> str:
        match = re.match(r"\[(\d*)\]", rest)
        if match is None or "items" not in around:
            raise UnknownKey(asked, rest, ())
        self.is_concrete &= bool(match[1])
        self.is_required = False
        index = int(match[1]) if match[1] else 0
        self.field = around["items"] | {
            name: each for name, each in self.field.items() if name == "description"
        }
        self.pattern += "[]"
        self.path.append(index)
        is_there = isinstance(self._tree, list) and index < len(self._tree)
        self._tree = self._tree[index] if is_there else None
        return rest[match.end() :]

    def _go(self, field: Schema, name: str, shown: str, rest: str) -> str:
        described = {"description": self.field.get("description", "")} | field
        self.field = described
        self.pattern += f".{shown}" if self.pattern else shown
        self.path.append(name)
        self._tree = self._tree.get(name) if isinstance(self._tree, dict) else None
        return rest

    def _choice(self, *_kinds: str) -> Schema:
        """The one choice that has something below it, with references followed."""
        for each in self.field.get("anyOf", [self.field]):
            found: Schema = each
            if "$ref" in each:
                found = self._definitions[each["$ref"].rpartition("/")[2]]
            if found.keys() & {"properties", "items", "additionalProperties"}:
                return found
        return {}


def _name(rest: str, known: Iterable[str]) -> tuple[str, str]:
    """The first name of `rest` and what is left: quoted, one that is known, or up to a dot."""
    if rest.startswith('"') and '"' in rest[1:]:
        name, _, left = rest[1:].partition('"')
        return name, left
    fits = [each for each in known if rest == each or rest.startswith((f"{each}.", f"{each}["))]
    if fits:
        name = max(fits, key=len)
        return name, rest[len(name) :]
    match = re.match(r"[^.\[]*", rest)
    name = match[0] if match and match[0] else rest
    return name, rest[len(name) :]


def _type(field: Schema, definitions: Mapping[str, Schema]) -> str:
    """`integer, 0 to 65535`, ``abort` or `drain``, `mapping`: for people."""
    choices = field.get("anyOf", [field])
    said = [_one_type(each, definitions) for each in choices if not _is_aside(each)]
    found = list(dict.fromkeys(said))
    return " or ".join(found) or "mapping"


def _is_aside(choice: Schema) -> bool:
    return choice.get("type") == "null" or choice.get("$ref", "").endswith("/Variable")


def _one_type(value: Schema, definitions: Mapping[str, Schema]) -> str:
    kind = value.get("type", "object")
    if isinstance(kind, list):
        kind = kind[0]
    if "enum" in value or "const" in value:
        return " or ".join(value.get("enum", [value.get("const")]))
    if kind == "array":
        inner = _type(value["items"], definitions)
        return f"list of {inner}s" if inner == "mapping" else f"list of {inner}"
    if kind == "object":
        return "mapping"
    if kind == "boolean":
        return "true or false"
    word = {"string": "text", "integer": "integer", "number": "number"}[kind]
    low, high = value.get("minimum"), value.get("maximum")
    above = value.get("exclusiveMinimum")
    if low is not None and high is not None:
        return f"{word}, {low} to {high}"
    bounds = [f"from {low}"] if low is not None else []
    bounds += [f"above {above}"] if above is not None and low is None else []
    bounds += [f"at most {high}"] if high is not None else []
    return ", ".join([word, *bounds])
