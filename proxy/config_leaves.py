"""A configuration as single values with their places: to be shown, and to be compared.

Rules:
- Secrets are never shown: a variable stays as it is written, without its default, and what is
  written out is `***`. Addresses lose their password, their query, and where they are secrets by
  themselves (alerts, webhooks), their path.
- Two values are compared by what they mean, with variables expanded and defaults filled in; of a
  secret a keyed hash stands for it.
- Items of a list go by their id or name where they have one, so that one in front moves nothing.
Pure.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from proxy.config_decode import is_api_key
from proxy.config_shape import FileShape
from proxy.config_yaml import Document, Path, format_path
from proxy.vendors import vendor, vendor_types

HIDDEN = "***"

_SECRET_NAMES = frozenset({"api_key", "admin_key", "secret", "previous_secret", "salt", "key"})
_SECRET_LISTS = frozenset({"webhook_secrets"})
_ADDRESSES = frozenset({"url", "base_url", "proxy", "api_base"})
_TELLING = frozenset({"sinks", "webhooks"})
"""Lists whose addresses let whoever knows them write there."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One value: what it looks like to people, and what it is compared by."""

    shown: Any
    same: str


@dataclass(frozen=True, slots=True)
class Told:
    """A file's values that are not defaults, and what their hashes are keyed with."""

    salt: bytes
    leaves: Mapping[str, Leaf]


def shown_tree(shape: FileShape, written: Document) -> dict[str, Any]:
    """The whole configuration with defaults filled in, as plain data without a secret.

    `written` is the file that it came from.
    """
    tree = _plain(shape, (), written)
    assert isinstance(tree, dict)
    return tree


def leaves(shape: FileShape, written: Document, salt: bytes) -> dict[str, Leaf]:
    """Every value that is not its default, by its path."""
    return dict(_leaves(shape, (), "", _Source(written, salt)))


@dataclass(frozen=True, slots=True)
class _Source:
    written: Document
    salt: bytes


def is_secret(path: Path, written: Document) -> bool:
    """Whether nobody may see what stands there."""
    names = [each for each in path if isinstance(each, str)]
    if not names:
        return False
    if path[0] == "providers" and len(path) == 4 and path[2] == "options":
        return _is_secret_option(path, written)
    if isinstance(path[-1], int):
        return names[-1] in _SECRET_LISTS
    return (is_api_key(path) or names[-1] in _SECRET_NAMES) and _is_leaf_name(path)


def _is_leaf_name(path: Path) -> bool:
    """Names of your own choice (a provider called `secret`) are none of ours."""
    return not (len(path) == 2 and path[0] in ("providers", "models", "plans"))


def _is_secret_option(path: Path, written: Document) -> bool:
    kind = written.at((*path[:2], "type"))
    if kind not in vendor_types():
        return True
    known = vendor(kind).OPTIONS.get(str(path[3]))
    return known is None or known.is_secret


def _plain(value: Any, path: Path, written: Document) -> Any:
    if is_dataclass(value):
        return {name: _plain(inner, (*path, name), written) for name, inner in _fields_of(value)}
    if isinstance(value, Mapping):
        return {name: _plain(inner, (*path, name), written) for name, inner in value.items()}
    if isinstance(value, tuple):
        return [_plain(inner, (*path, index), written) for index, inner in enumerate(value)]
    return shown(value, path, written)


def shown(value: Any, path: Path, written: Document) -> Any:
    """One value as people may see it."""
    as_written = written.variables.get(path)
    secret = is_secret(path, written)
    if as_written is not None:
        return _without_defaults(as_written) if secret or _is_address(path) else as_written
    if value is None:
        return None
    if secret:
        return HIDDEN
    if isinstance(value, str) and _is_address(path):
        return _address(value, is_telling=bool(_TELLING & set(map(str, path))))
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value


def _without_defaults(text: str) -> str:
    """`${NAME:-default}` with the default hidden, and so is what stands around variables."""
    found = re.findall(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(:-[^}]*)?\}", text)
    if text.startswith("os.environ/"):
        return text
    names = [f"${{{name}{':-' + HIDDEN if default else ''}}}" for name, default in found]
    rest = re.sub(r"\$\{[^}]*\}", "", text)
    return HIDDEN.join(["", *names, ""]) if rest else "".join(names) or HIDDEN


def _is_address(path: Path) -> bool:
    return bool(path) and path[-1] in _ADDRESSES


def _address(text: str, *, is_telling: bool) -> str:
    try:
        parts = urlsplit(text)
    except ValueError:
        return HIDDEN
    user, at, host = parts.netloc.rpartition("@")
    if at:
        name, colon, _ = user.partition(":")
        user = f"{name}:{HIDDEN}" if colon else HIDDEN
    where = f"/{HIDDEN}" if is_telling and parts.path.strip("/") else parts.path
    tail = f"?{HIDDEN}" if parts.query or parts.fragment else ""
    scheme = f"{parts.scheme}://" if parts.scheme else ""
    return f"{scheme}{user}{at}{host}{where}{tail}"


def _leaves(value: Any, path: Path, name: str, told: _Source) -> Iterator[tuple[str, Leaf]]:
    if is_dataclass(value):
        defaults = {each.name: each.default for each in fields(value)}
        for key, inner in _fields_of(value):
            default = defaults.get(key, defaults.get(f"{key}_"))
            if inner != default or not isinstance(inner, type(default)):
                below = f"{name}.{key}" if name else key
                yield from _leaves(inner, (*path, key), below, told)
        return
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key), f"{name}{_step(key)}", told)
        return
    if isinstance(value, tuple) and any(is_dataclass(each) for each in value):
        for index, (label, inner) in enumerate(_labelled(value)):
            yield from _leaves(inner, (*path, index), f"{name}[{label}]", told)
        return
    yield name, _leaf(value, path, told)


def _leaf(value: Any, path: Path, told: _Source) -> Leaf:
    if isinstance(value, tuple):
        seen = [shown(each, (*path, at), told.written) for at, each in enumerate(value)]
    else:
        seen = shown(value, path, told.written)
    spelled = format(value.normalize(), "f") if isinstance(value, Decimal) else _spelled(value)
    same = hashlib.blake2b(spelled.encode(), key=told.salt, digest_size=16).hexdigest()
    return Leaf(seen, same)


def _spelled(value: Any) -> str:
    if isinstance(value, tuple):
        return "\n".join(_spelled(each) for each in value)
    return f"{type(value).__name__}:{value}"


def _labelled(items: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    """Each item with what tells it from the others: its id, its name, its model, else its place."""
    for attributes in (("id",), ("name",), ("model",), ("provider", "model"), ("type",)):
        names = [[getattr(each, one, None) for one in attributes] for each in items]
        labels = ["/".join(map(str, each)) for each in names]
        if all(map(all, names)) and len(set(labels)) == len(labels):
            yield from zip(labels, items, strict=True)
            return
    yield from ((str(index), each) for index, each in enumerate(items))


def _fields_of(value: Any) -> Iterator[tuple[str, Any]]:
    """`from_` is the key `from`, which is no name in Python."""
    for each in fields(value):
        yield each.name.removesuffix("_"), getattr(value, each.name)


def _step(name: str) -> str:
    return f".{format_path((name,))}"
