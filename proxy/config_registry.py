"""Tenants of the registry beside those of the file: one decoder and one set of checks for both.

Rules:
- The file wins: a tenant that stands in both is the file's, and that is said.
- A tenant of the registry with a fault is left out, by name and with the reason; it is no reason to
  refuse a file, or another tenant.
- Documents are taken as they are: no variable is expanded in them, and they hold no key in clear.
Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any

from metering.registry_body import NOTHING, BrokenRegistryError, Json, Snapshot
from proxy.config_decode import Findings
from proxy.config_yaml import Document, Fault, Path
from proxy.settings import Settings

ReadRegistry = Callable[[FilePath], Snapshot]
"""Reads what was published last, from a data directory; BrokenRegistryError for what is no copy."""

CALLED = "registry"
"""How faults call the place of such a tenant."""


@dataclass(frozen=True, slots=True)
class Registered:
    """What became of the registry: which version it is, and which tenants are not served by it."""

    version: str = ""
    tenants: int = 0
    left_out: Mapping[str, str] = field(default_factory=dict)
    """By id, the first fault of each that has one."""
    overruled: tuple[str, ...] = ()
    """Those that stand in the file as well."""
    failed: str | None = None
    """Why the whole of it cannot be used."""

    @property
    def warnings(self) -> list[Fault]:
        """What people should know of it."""
        found = [
            Fault(f"{CALLED}.{name}", 0, 0, "stands in the file, too, which goes before", None)
            for name in self.overruled
        ]
        found += [
            Fault(f"{CALLED}.{name}", 0, 0, f"is left out: {why}", "see `weir tenants show`")
            for name, why in self.left_out.items()
        ]
        if self.failed is not None:
            message = f"what was kept of it cannot be used: {self.failed}"
            found.append(Fault(CALLED, 0, 0, message, "it comes again from Redis"))
        return found


NOBODY = Registered()
"""Of an installation whose tenants all stand in its file."""


def read_registry(data_dir: FilePath, read: ReadRegistry) -> tuple[Snapshot, str | None]:
    """The registry, or nothing and why."""
    try:
        return read(data_dir), None
    except BrokenRegistryError as error:
        return NOTHING, str(error)


Built = tuple[Settings, Findings]


def build_with(
    document: Document, snapshot: Snapshot, build: Callable[[Document], Built]
) -> tuple[Settings, Findings, Registered]:
    """What comes of a document with the registry's tenants; faults that are left are the file's.

    Each round leaves out who has a fault, so there are few: a fault of one seldom hides another's.
    """
    theirs, overruled = _apart(document, snapshot)
    left_out: dict[str, str] = {}
    while True:
        whole, names = _with_tenants(document, theirs)
        settings, findings = build(whole)
        blamed: dict[str, str] = {}
        for path, fault in findings.blamed.items():
            if (name := names.get(path[:2])) is not None:
                blamed.setdefault(name, _told(fault, name))
        if not blamed:
            break
        left_out |= blamed
        theirs = [each for each in theirs if str(each.get("id")) not in blamed]
    version = snapshot.version if snapshot.number else ""
    made = replace(settings, registry=version)
    return made, findings, Registered(version, len(theirs), left_out, overruled)


def _apart(document: Document, snapshot: Snapshot) -> tuple[list[Json], tuple[str, ...]]:
    """The documents that no tenant of the file stands against, and the ids of the others."""
    written = document.at(("tenants",))
    ours = {each.get("id") for each in written or () if isinstance(each, dict)}
    theirs = [each for each in snapshot.tenants if each.get("id") not in ours]
    overruled = [str(each["id"]) for each in snapshot.tenants if each.get("id") in ours]
    return theirs, tuple(overruled)


def _with_tenants(document: Document, theirs: list[Json]) -> tuple[Document, dict[Path, str]]:
    """The document with these behind its own tenants, and which of its places are whose."""
    tree: Any = {} if document.tree is None else document.tree
    written = tree.get("tenants") if isinstance(tree, dict) else 0
    if not theirs or not (written is None or isinstance(written, list)):
        return document, {}
    ours: list[Any] = written or []
    names: dict[Path, str] = {
        ("tenants", len(ours) + index): str(each.get("id")) for index, each in enumerate(theirs)
    }
    added = {place: f"{CALLED}.{name}" for place, name in names.items()}
    more = [_without_dead_caps(each) for each in theirs]
    return replace(document, tree={**tree, "tenants": [*ours, *more]}, added=added), names


def _told(fault: Fault, name: str) -> str:
    """The fault without the name of its tenant, which stands beside it."""
    place = fault.path.removeprefix(f"{CALLED}.{name}").lstrip(".")
    hint = f" ({fault.suggestion})" if fault.suggestion else ""
    return f"{place}: {fault.message}{hint}" if place else f"{fault.message}{hint}"


def _without_dead_caps(tenant: Json) -> Json:
    """Caps of keys that are gone count nothing: a key that is revoked must not stop its tenant."""
    limits = tenant.get("limits")
    caps = limits.get("caps") if isinstance(limits, dict) else None
    if not isinstance(limits, dict) or not isinstance(caps, list):
        return tenant
    keys = {each.get("id") for each in tenant.get("keys", ()) if isinstance(each, dict)}
    alive = [each for each in caps if not _is_of_key(each) or each.get("id") in keys]
    return {**tenant, "limits": {**limits, "caps": alive}}


def _is_of_key(cap: Any) -> bool:
    return isinstance(cap, dict) and cap.get("scope") == "key" and cap.get("id") is not None
