"""Tenants that were made while everything runs, as they travel: one body of canonical JSON. Pure.

Rules:
- A tenant is a document of the shape that the configuration file's `tenants` have; of keys it holds
  hashes only.
- The version is a number that grows with each change, and a digest of the body: whoever has both
  sees a body that was cut or mixed up.
- Numbers keep their digits: a float never stands for an amount.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeAlias

Json: TypeAlias = Mapping[str, Any]

SCHEMA = 1

BODY_BYTES_MAX = 64 * 1_048_576
"""Some ten thousand tenants with many keys; what is larger is no registry of ours."""

_DIGEST_LENGTH = 16


class BrokenRegistryError(ValueError):
    """A body cannot be what was published; the message says why, and quotes nothing of it."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Every tenant at one moment. `number` counts changes; 0 is before the first."""

    number: int = 0
    tenants: tuple[Json, ...] = ()
    read_from: bytes | None = field(default=None, compare=False, repr=False)

    @property
    def body(self) -> bytes:
        """As it travels."""
        if self.read_from is not None:
            return self.read_from
        whole = {"schema": SCHEMA, "number": self.number, "tenants": list(self.tenants)}
        return canonical(whole).encode()

    @property
    def version(self) -> str:
        """What tells this snapshot from every other."""
        return version_of(self.number, self.body)


NOTHING = Snapshot()
"""Of an installation whose tenants all stand in its file."""


def version_of(number: int, body: bytes) -> str:
    """`<number>-<start of the body's SHA-256>`."""
    return f"{number}-{hashlib.sha256(body).hexdigest()[:_DIGEST_LENGTH]}"


def read_snapshot(version: str, body: bytes) -> Snapshot:
    """What was published under `version`; BrokenRegistryError for anything else."""
    if len(body) > BODY_BYTES_MAX:
        raise BrokenRegistryError(f"it has more than {BODY_BYTES_MAX} bytes")
    number = version.partition("-")[0]
    if not (number.isascii() and number.isdigit() and len(number) <= 18):
        raise BrokenRegistryError("its version is none of ours")
    if version_of(int(number), body) != version:
        raise BrokenRegistryError("its digest is not that of its version")
    try:
        found = parse(body)
    except ValueError:
        raise BrokenRegistryError("it is not JSON") from None
    tenants = found.get("tenants") if isinstance(found, dict) else None
    if not isinstance(tenants, list) or not all(isinstance(each, dict) for each in tenants):
        raise BrokenRegistryError("it has no list of tenants")
    if found.get("schema") != SCHEMA:
        raise BrokenRegistryError(f"its schema is not {SCHEMA}: a newer version has written it")
    return Snapshot(int(number), tuple(tenants), body)


def parse(text: bytes | str) -> Any:
    """JSON whose numbers keep their digits: whole ones are int, others Decimal."""
    return json.loads(text, parse_float=Decimal, parse_constant=_refuse_constant)


def canonical(found: Any) -> str:
    """The one way to write `found` as JSON: keys sorted, no spaces, exact numbers.

    TypeError for what JSON cannot say, a float included: it has lost its digits already.
    """
    match found:
        case None:
            return "null"
        case bool():
            return "true" if found else "false"
        case int():
            return str(int(found))
        case str():
            return json.dumps(str(found), ensure_ascii=False)
        case Decimal() if found.is_finite():
            return format(found, "f")
        case Mapping():
            return "{" + ",".join(_members(found)) + "}"
        case list() | tuple():
            return "[" + ",".join(canonical(each) for each in found) + "]"
    raise TypeError(f"{type(found).__name__} cannot be written as exact JSON")


def _members(found: Json) -> Iterable[str]:
    for key in sorted(found):
        yield f"{json.dumps(key, ensure_ascii=False)}:{canonical(found[key])}"


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
