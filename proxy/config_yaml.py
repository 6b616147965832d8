"""YAML text to a plain tree that knows where each of its values was written.

Rules: YAML 1.2 core, read from the source text: only true and false are booleans (`no` and `on`
are strings), `5e-6` is a number and stays a Decimal, `0o17`, `1:30` and `2026-01-01` are strings.
Keys are strings and stand once; merge keys and tags are refused. Variables (`${NAME}`,
`${NAME:-default}`, a whole scalar `os.environ/NAME`) are expanded after parsing, in values only, so
that nothing in the environment can change the structure; what they give is an `EnvText`, read as
the type of its field. Nothing is raised: every fault is collected with its line and column.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

TEXT_BYTES_MAX = 1_048_576
"""A configuration file is written by people; what is larger is the wrong file."""

NODES_MAX = 50_000
"""Values in the file, and in the tree with aliases expanded: a thousand tenants fit, an alias bomb
does not."""

DEPTH_MAX = 64
"""The shape is eight levels deep; the parser recurses once per level."""

Path = tuple[str | int, ...]
"""Where a value stands in the tree: keys of mappings, indexes of lists."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong, where, and what to write instead; warnings have the same fields.

    Lines and columns count from 1; 0 means the file as a whole.
    """

    path: str
    line: int
    column: int
    message: str
    suggestion: str | None = None

    def __str__(self) -> str:
        return self.located()

    def located(self, label: str = "") -> str:
        """`line:column path: message (suggestion)`, with what kind it is before the path."""
        path = f"{self.path}: " if self.path else ""
        hint = f" ({self.suggestion})" if self.suggestion else ""
        return f"{self.line}:{self.column} {label}{path}{self.message}{hint}"


class EnvText(str):
    """Text that came (in part) from the environment: read as the type of the field it is for."""

    __slots__ = ()


@dataclass(slots=True)
class Document:
    """A parsed file: its tree, where everything was written, and what was wrong with it.

    `unset` names the variable that a value asked for in vain; that value is an empty EnvText.
    `variables` has those values as they are written.
    `literal` is false for a value that took anything from the environment.
    """

    tree: Any = None
    faults: list[Fault] = field(default_factory=list)
    unset: dict[Path, str] = field(default_factory=dict)
    variables: dict[Path, str] = field(default_factory=dict)
    places: dict[Path, tuple[int, int]] = field(default_factory=dict)
    key_places: dict[Path, tuple[int, int]] = field(default_factory=dict)
    added: dict[Path, str] = field(default_factory=dict)
    """What stands in the tree and in no file, and what it is called instead of by its place."""

    def is_added(self, path: Path) -> bool:
        """Whether `path` leads to something that stands in no file."""
        return path[:2] in self.added

    def fault(
        self, path: Path, message: str, suggestion: str | None = None, *, at_key: bool = False
    ) -> Fault:
        """A fault at the place of `path`, or of the nearest thing around it that was written."""
        if (called := self.added.get(path[:2])) is not None:
            rest = format_path(path[2:])
            dot = "" if rest.startswith("[") or not rest else "."
            return Fault(f"{called}{dot}{rest}", 0, 0, message, suggestion)
        places = self.key_places if at_key else self.places
        around = path
        while around and around not in places:
            around = around[:-1]
            places = self.places
        line, column = places.get(around, (0, 0))
        return Fault(format_path(path), line, column, message, suggestion)

    def at(self, path: Path) -> Any:
        """The value at `path` as it was read, or None."""
        value = self.tree
        for step in path:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def literal(self, path: Path) -> bool:
        """Whether the value was written in the file itself, variables aside."""
        value = self.at(path)
        return value is not None and not isinstance(value, EnvText)


def format_path(path: Path) -> str:
    """`models.gpt-4o.upstreams[0].provider`; a key with a dot in it is quoted."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
            continue
        name = step if re.fullmatch(r"[A-Za-z0-9_-]+", step) else f'"{step}"'
        text += f".{name}" if text else name
    return text


def parse(text: str, env: Mapping[str, str]) -> Document:
    """The document in `text`, variables taken from `env`; its `faults` say what was wrong."""
    document = Document()
    if len(text.encode()) > TEXT_BYTES_MAX:
        document.faults.append(
            document.fault((), f"the file is larger than {TEXT_BYTES_MAX // 1024} KiB")
        )
        return document
    try:
        root = _Loader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        document.faults.append(_syntax_fault(error, text))
        return document
    except yaml.YAMLError as error:  # a character that YAML forbids, without a mark
        document.faults.append(document.fault((), f"not YAML: {error}"))
        return document
    if root is not None:
        _Reader(document, env).read_root(root)
    return document


_PLAIN = "plain"
"""Our tag for an unquoted, untagged scalar: the only kind that may be a number or a boolean."""

_TAG_OF: dict[type[Node], str] = {
    ScalarNode: "tag:yaml.org,2002:str",
    MappingNode: "tag:yaml.org,2002:map",
    SequenceNode: "tag:yaml.org,2002:seq",
}
_ALLOWED_TAGS = frozenset({_PLAIN, *_TAG_OF.values()})


class _Loader(yaml.SafeLoader):
    """Composes nodes only, and leaves what a plain scalar means to `_Reader`."""

    depth = 0
    values = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        self.depth += 1
        self.values += not isinstance(parent, MappingNode) or index is not None  # else it is a key
        if parent is not None and self.values > NODES_MAX:
            raise yaml.MarkedYAMLError(
                problem=f"more than {NODES_MAX} values", problem_mark=parent.start_mark
            )
        if parent is not None and self.depth > DEPTH_MAX:
            raise yaml.MarkedYAMLError(
                problem=f"nested deeper than {DEPTH_MAX} levels", problem_mark=parent.start_mark
            )
        node: Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def resolve(self, kind: type[Node], value: Any, implicit: Any) -> str:
        if kind is ScalarNode and implicit[0]:
            return _PLAIN
        return _TAG_OF[kind]


def _syntax_fault(error: yaml.MarkedYAMLError, text: str) -> Fault:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    problem = error.problem or error.context or "cannot be read"
    suggestion = None
    if "'\\t'" in problem:
        problem, suggestion = "a tab cannot indent", "indent with spaces"
    elif mark and text[: mark.index].endswith("$"):
        suggestion = 'put quotes around "${NAME}" inside { } and [ ]'
    return Fault("", line, column, f"not YAML: {problem}", suggestion)


_ALLOWED_TAGS = frozenset(
    {_PLAIN, *(f"tag:yaml.org,2002:{name}" for name in ("str", "map", "seq"))}
)


class _Reader:
    """Turns nodes into values, noting the place of each and every fault."""

    def __init__(self, document: Document, env: Mapping[str, str]) -> None:
        self._document = document
        self._env = env
        self._nodes = 0
        self._open: list[Node] = []

    def read_root(self, root: Node) -> None:
        """Fill in the document's tree."""
        self._document.places[()] = _place(root)
        self._document.tree = self._read(root, ())
        if self._nodes > NODES_MAX:
            self._add((), f"more than {NODES_MAX} values once aliases are expanded")

    def _read(self, node: Node, path: Path) -> Any:
        self._nodes += 1
        if self._nodes > NODES_MAX:
            return None
        if any(node is other for other in self._open):
            self._add(path, "an alias that contains itself")
            return None
        if node.tag not in _ALLOWED_TAGS:
            self._add(path, f"the tag {node.tag} is not supported", "leave the tag out")
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        self._open.append(node)
        if isinstance(node, MappingNode):
            value: Any = self._mapping(node, path)
        else:
            assert isinstance(node, SequenceNode)
            value = self._sequence(node, path)
        self._open.pop()
        return value

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                place = _place(key_node)
                self._document.faults.append(
                    Fault(format_path(path), *place, "a key must be plain text")
                )
                continue
            key = _joined(key_node.value)
            inner = (*path, key)
            if key in values:
                line = self._document.key_places[inner][0]
                self._document.faults.append(
                    Fault(
                        format_path(inner),
                        *_place(key_node),
                        f"duplicate key, first written on line {line}",
                        "keep one of them",
                    )
                )
                continue
            self._document.key_places[inner] = _place(key_node)
            is_scalar = isinstance(value_node, ScalarNode)
            self._document.places[inner] = _place(value_node if is_scalar else key_node)
            self._check_key(key_node, inner)
            values[key] = self._read(value_node, inner)
        return values

    def _sequence(self, node: SequenceNode, path: Path) -> list[Any]:
        values = []
        for index, item in enumerate(node.value):
            self._document.places[*path, index] = _place(item)
            values.append(self._read(item, (*path, index)))
        return values

    def _check_key(self, node: ScalarNode, path: Path) -> None:
        if node.value == "<<" and node.tag == _PLAIN:
            self._add(path, "merge keys are not YAML 1.2", "alias the whole value instead")
        elif "${" in node.value:
            self._add(path, "variables are not expanded in keys", "write the key out")

    def _scalar(self, node: ScalarNode, path: Path) -> Any:
        text = _joined(node.value)
        if "${" in text or text.startswith(_OS_ENVIRON):
            return self._expand(text, path)
        return resolve_plain(text) if node.tag == _PLAIN else text

    def _expand(self, text: str, path: Path) -> str:
        self._document.variables[path] = text
        if text.startswith(_OS_ENVIRON):
            text = "${" + text.removeprefix(_OS_ENVIRON) + "}"
        taken = False

        def value_of(match: re.Match[str]) -> str:
            nonlocal taken
            if match["escaped"]:
                return "${"
            taken = True
            name, default = match["name"], match["default"]
            if name is None or (default is not None and "${" in default):
                # The text is not shown: it may be a password with a dollar in it.
                self._add(path, "a malformed variable", "write ${NAME} or ${NAME:-default}")
                return ""
            value = self._env.get(name)
            if default is not None:
                return value or default
            if value is None:
                self._document.unset[path] = name
            return value or ""

        expanded = _VARIABLE.sub(value_of, text)
        if path in self._document.unset:
            return EnvText("")
        return EnvText(expanded) if taken else expanded

    def _add(self, path: Path, message: str, suggestion: str | None = None) -> None:
        self._document.faults.append(self._document.fault(path, message, suggestion))


_OS_ENVIRON = "os.environ/"

_VARIABLE = re.compile(
    r"(?P<escaped>\$\$\{)"
    r"|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}"
    r"|\$\{"
)

_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
}
_INTEGER = re.compile(r"[-+]?[0-9]{1,30}")
_NUMBER = re.compile(r"[-+]?(\.[0-9]{1,30}|[0-9]{1,30}(\.[0-9]{0,30})?)([eE][-+]?[0-9]{1,3})?")


def resolve_plain(text: str) -> bool | int | Decimal | str | None:
    """What an unquoted scalar means: YAML 1.2 core without hexadecimal, octal, infinity and NaN.

    Numbers have at most 30 digits on each side of the point: what is longer is text.
    """
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text):
        return Decimal(text)
    return text


def _joined(text: str) -> str:
    """Halves of a character that JSON writes as two escapes, as the one that is meant."""
    if not _HALVES.search(text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


_HALVES = re.compile("[\ud800-\udfff]")


def _place(node: Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1
