"""From a parsed document to the file's shape, with every fault of shape found in one go.

A faulty value is reported, put out of the way and remembered as broken; then the rest is decoded
again. So there is always a shape for the checks that span sections, and they stay silent about
what is broken already: one mistake is one fault.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from proxy.config_models_shape import ModelShape
from proxy.config_shape import FILE, FileShape
from proxy.config_yaml import Document, Fault, Path


class Findings:
    """What is known to be wrong so far; the checks add to it and ask it what to leave alone."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.faults: list[Fault] = list(document.faults)
        self.warnings: list[Fault] = []
        self.has_secrets = False
        """Whether the file itself holds a secret, and not just the name of a variable."""
        self.blamed: dict[Path, Fault] = {}
        """The faults by where they are, the first of each place."""
        self._broken: set[Path] = set()

    def fault(self, path: Path, message: str, suggestion: str | None = None) -> None:
        """Report a fault, unless it follows from one at or around `path`."""
        if not self.is_broken(path):
            self._blame(path, self.document.fault(path, message, suggestion))

    def unknown_key(self, path: Path, suggestion: str | None) -> None:
        """Report a key that no section knows, at the key rather than at its value."""
        self._blame(path, self.document.fault(path, "unknown key", suggestion, at_key=True))

    def _blame(self, path: Path, found: Fault) -> None:
        self.blamed.setdefault(path, found)
        self.faults.append(found)

    def warn(self, path: Path, message: str, suggestion: str | None = None) -> None:
        """Note something that works but is hardly meant."""
        self.warnings.append(self.document.fault(path, message, suggestion))

    def secret(self, path: Path, message: str, suggestion: str) -> None:
        """Warn of a secret that is written out in the file; it is not repeated."""
        self.has_secrets = True
        self.warn(path, message, suggestion)

    def mark_broken(self, path: Path) -> None:
        """The value at `path` was reported and stands in the shape no more."""
        self._broken.add(path)

    def is_broken(self, path: Path) -> bool:
        """Whether the value at `path`, or one around it, was reported and replaced."""
        return any(path[:length] in self._broken for length in range(len(path) + 1))


def decode(findings: Findings) -> FileShape:
    """The file's shape; faults go to `findings`, and what they concern takes its default."""
    document = findings.document
    _report_unset(findings)
    tree = {} if document.tree is None else copy.deepcopy(document.tree)
    if not isinstance(tree, dict):
        findings.fault((), "the file must be a mapping of sections")
        return FileShape()
    for _ in range(_ROUNDS_MAX):
        try:
            return FILE.validate_python(tree)
        except ValidationError as failure:
            for error in failure.errors(include_url=False):
                _report(findings, error)
                _repair(findings, tree, error)
    raise AssertionError("a repair did not make the value at its place decodable")


_ROUNDS_MAX = 16
"""Each round repairs one level of nesting at least; the shape is eight deep."""


def suggest(name: str, known: Iterable[str]) -> str | None:
    """The closest of the known names as a question, or the names themselves when they are few."""
    names = sorted(known)
    folded = {each.casefold(): each for each in names}
    close = difflib.get_close_matches(name.casefold(), folded, n=1)
    if close:
        return f"did you mean {folded[close[0]]!r}?"
    return f"known: {', '.join(names)}" if 0 < len(names) <= 8 else None


def suggest_model(name: str, models: Mapping[str, ModelShape]) -> str | None:
    """The route that was meant: one that calls an upstream model of that name, or a close name."""
    for route, model in sorted(models.items()):
        if name and any(upstream.model == name for upstream in model.upstreams):
            return f"the route to it is called {route!r}"
    return suggest(name, models)


def keys_at(path: Path) -> list[str]:
    """The keys that may stand in the mapping at `path`."""
    kind: Any = FileShape
    for step in path:
        if is_dataclass(kind):
            kind = _inner(_hints(kind)[str(step)])
        else:
            kind = _inner(get_args(kind)[0 if isinstance(step, int) else 1])
    return list(_hints(kind)) if is_dataclass(kind) else []


def shape_keys(kind: Any = FileShape, head: str = "") -> Iterator[str]:
    """Every key of the file: `providers.NAME.type`, `tenants[].keys[].id`; for documentation."""
    for name, hint in _hints(kind).items():
        path = f"{head}.{name}" if head else name
        yield path
        inner = _inner(hint)
        if get_origin(inner) is tuple:
            path, inner = f"{path}[]", get_args(inner)[0]
        elif isinstance(get_origin(inner), type):
            path, inner = f"{path}.NAME", get_args(inner)[1]
        if is_dataclass(inner):
            yield from shape_keys(inner, path)


def _hints(kind: Any) -> dict[str, Any]:
    """The types by key: `from_` is the key `from`, which is no name in Python."""
    return {name.removesuffix("_"): hint for name, hint in get_type_hints(kind).items()}


def _inner(hint: Any) -> Any:
    """The type itself when it may also be None."""
    options = [option for option in get_args(hint) if option is not type(None)]
    is_optional = len(options) == 1 and len(get_args(hint)) == 2
    return options[0] if is_optional else hint


def is_api_key(path: Path) -> bool:
    """Whether `path` is a provider's credential, or an option that may be one: unset, it makes the
    provider unavailable."""
    if path[:1] != ("providers",):
        return False
    return (len(path) == 3 and path[2] == "api_key") or (len(path) == 4 and path[2] == "options")


def _is_admin_key(path: Path) -> bool:
    """Unset, its provider is served all the same, and is not asked what was used."""
    return path[:1] == ("providers",) and path[2:] == ("reconcile", "admin_key")


def _report_unset(findings: Findings) -> None:
    for path, name in findings.document.unset.items():
        if not is_api_key(path) and not _is_admin_key(path):
            findings.fault(
                path,
                f"environment variable {name} is not set",
                f"set it, or write ${{{name}:-default}}",
            )
            findings.mark_broken(path)


def _report(findings: Findings, error: ErrorDetails) -> None:
    path, kind = error["loc"], error["type"]
    if kind == "unexpected_keyword_argument":
        findings.unknown_key(path, suggest(str(path[-1]), keys_at(path[:-1])))
    elif not (kind in _EMPTY and error["input"] is None):
        findings.fault(path, *_explain(error))


_EMPTY: Mapping[str, Any] = {
    "dataclass_type": {},
    "dict_type": {},
    "mapping_type": {},
    "tuple_type": [],
    "list_type": [],
}
"""Stand-ins by type of error; a section that is written but empty (null) is one of these too."""


def _explain(error: ErrorDetails) -> tuple[str, str | None]:
    context: Mapping[str, Any] = error.get("ctx", {})
    match error["type"]:
        case "missing":
            return "is missing", None
        case "dataclass_type" | "dict_type" | "mapping_type":
            return "must be a mapping", None
        case "tuple_type" | "list_type":
            return "must be a list", "write [ ... ]"
        case "literal_error":
            choices = context["expected"].replace("'", "").replace(" or ", ", ").split(", ")
            return f"must be {context['expected']}", suggest(str(error["input"]), choices)
        case "greater_than_equal":
            return f"must be at least {context['ge']}", None
        case "greater_than":
            return f"must be more than {context['gt']}", None
        case "less_than_equal":
            return f"must be at most {context['le']}", None
    return error["msg"].removeprefix("Value error, "), None


def _repair(findings: Findings, tree: dict[str, Any], error: ErrorDetails) -> None:
    """Make the tree decodable at the place of the error: an empty text, mapping or list, or no key.

    An empty text is no valid id or name, so whatever meets it later knows it for a stand-in.
    """
    *around, last = error["loc"]
    container: Any = tree
    for step in around:
        container = container[step]
    kind, was_empty = error["type"], error["input"] is None and error["type"] in _EMPTY
    is_again = findings.is_broken(tuple(error["loc"]))
    if not was_empty and kind != "unexpected_keyword_argument":
        findings.mark_broken(tuple(error["loc"]))
    if kind in _EMPTY:
        container[last] = copy.copy(_EMPTY[kind])
    elif kind == "missing" or isinstance(container, list):
        # in a list of numbers an empty text does not do, and comes back
        other = 1 if is_again and isinstance(last, int) else _stand_in(str(last))
        container[last] = [] if last == "upstreams" else other
    else:
        del container[last]


def _stand_in(key: str) -> str | int:
    if key in ("at", "above_tokens"):
        return 1
    if key == "events_days":
        return 40
    return {
        "type": "simulator",
        "scope": "tenant",
        "kind": "flat",
        "aggregation": "count",
        "job": "verify",
    }.get(key, "")
