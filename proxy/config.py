"""The configuration file: found, loaded, checked, and turned into settings.

`load` does everything that `weir config check` and `weir serve` do before anything is opened. It
raises once, with every fault of the file; a file with warnings only is a sound one.
"""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath

from metering.registry_body import NOTHING
from proxy.config_build import build
from proxy.config_decode import Findings, decode
from proxy.config_files import digest
from proxy.config_leaves import Told, leaves
from proxy.config_registry import (
    NOBODY,
    Built,
    ReadRegistry,
    Registered,
    build_with,
    read_registry,
)
from proxy.config_schema import config_schema
from proxy.config_yaml import TEXT_BYTES_MAX, Document, Fault, Path, parse
from proxy.settings import Settings

__all__ = [
    "UNENFORCED",
    "ConfigFaults",
    "ConfigNotFound",
    "Fault",
    "Loaded",
    "config_schema",
    "find_config",
    "load",
]

AFTER_ALL_NS = 2**63 - 1
"""A time after every date that a rule may have."""

WEIR_CONFIG = "WEIR_CONFIG"
"""The environment variable that names the file."""


@dataclass(frozen=True)
class Loaded:
    """Sound settings, and what their author may want to know about the file."""

    settings: Settings
    warnings: tuple[Fault, ...] = ()
    unenforced: tuple[Fault, ...] = ()
    """Keys that were accepted and do nothing yet; the message says why."""
    sha256: str = ""
    """Of the file, as it was right before it was read."""
    told: Told | None = None
    """Its values without secrets, where they were asked for."""
    text: str = field(default="", repr=False)
    """The file itself, to be read again with another registry."""
    registry: Registered = NOBODY


class ConfigFaults(Exception):
    """The file cannot be used: every reason at once, in the order of the file."""

    def __init__(
        self, source: FilePath, faults: Sequence[Fault], warnings: Sequence[Fault] = ()
    ) -> None:
        self.source = source
        self.faults = tuple(faults)
        self.warnings = tuple(warnings)
        super().__init__(f"{source}: {len(self.faults)} faults, first: {self.faults[0].message}")


class ConfigNotFound(Exception):
    """There is no configuration file; `tried` holds the paths in the order of looking."""

    def __init__(self, tried: Sequence[FilePath]) -> None:
        self.tried = tuple(tried)
        super().__init__("no configuration file; tried " + ", ".join(map(str, self.tried)))


def find_config(explicit: str | None, env: Mapping[str, str], cwd: FilePath) -> FilePath:
    """The file to load; ConfigNotFound names the paths tried.

    A path that was named (by --config or $WEIR_CONFIG) is the only one tried: falling back to
    another file would start with settings that nobody asked for.
    """
    named = explicit or env.get(WEIR_CONFIG)
    tried = [cwd / named] if named else [cwd / "config.yaml", *_usual_places(env)]
    for path in tried:
        with contextlib.suppress(OSError, ValueError):  # a name too long, say, is no file either
            if path.is_file():
                return path
    raise ConfigNotFound(tried)


def load(
    path: FilePath,
    env: Mapping[str, str],
    *,
    data_dir: FilePath | None = None,
    now_ns: int = AFTER_ALL_NS,
    salt: bytes | None = None,
    text: str | None = None,
    registry: ReadRegistry | None = None,
) -> Loaded:
    """The settings in the file at `path`, variables from `env`; ConfigFaults says what is wrong.

    `data_dir` (absolute) goes before the file's own, and the default ledger follows it. The prices
    are those of `now_ns`, with the others beside; without it, those of the newest rules. With
    `salt` its values are told, too, to be compared with those of another file. `text` stands for
    what lies at `path`. The tenants of `registry` come behind those of the file.
    """
    before = digest((path,))
    text = _read(path) if text is None else text
    document = parse(text, env)
    if document.tree is None and document.faults:
        raise ConfigFaults(path, document.faults)
    first = Findings(document)
    shape = decode(first)
    folder = data_dir or _data_dir(path, shape.data_dir, env)
    snapshot, failed = (NOTHING, None) if registry is None else read_registry(folder, registry)

    def built(whole: Document) -> Built:
        findings = Findings(whole)
        decoded = shape if whole is document and not first.faults else decode(findings)
        return build(decoded, findings, source=path, now_ns=now_ns, data_dir=folder), findings

    settings, findings, registered = build_with(document, snapshot, built)
    registered = replace(registered, failed=failed)
    if findings.has_secrets and _is_open_to_all(path):
        findings.warn((), "every user of this machine can read the secrets here", "chmod o-r it")
    warnings = (*_in_order(findings.warnings), *registered.warnings)
    if findings.faults:
        raise ConfigFaults(path, _in_order(findings.faults), warnings)
    told = None if salt is None else Told(salt, leaves(shape, document, salt))
    unenforced = unenforced_keys(document)
    return Loaded(settings, warnings, unenforced, before, told, text, registered)


def unenforced_keys(document: Document) -> tuple[Fault, ...]:
    """Every key of the file that does nothing yet, with the reason."""
    found = []
    for path in document.places:
        for pattern, reason, values in UNENFORCED:
            if _matches(path, pattern) and (not values or document.at(path) in values):
                found.append(document.fault(path, reason))
    return _in_order(found)


UNENFORCED: tuple[tuple[str, str, frozenset[object]], ...] = (
    (
        "metering.consumer_concurrency",
        "the settlement worker works on one batch at a time yet",
        frozenset(),
    ),
)
"""What is accepted and not enforced: pattern of the path, reason, the values it goes for (all).

An entry leaves this table in the change that enforces the key.
"""


def _matches(path: Path, pattern: str) -> bool:
    steps = pattern.split(".")
    return len(steps) == len(path) and all(
        want in ("*", step) for want, step in zip(steps, path, strict=True)
    )


def _in_order(found: Sequence[Fault]) -> tuple[Fault, ...]:
    return tuple(sorted(found, key=lambda fault: (fault.line, fault.column)))


def _read(path: FilePath) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(TEXT_BYTES_MAX + 1)
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise ConfigFaults(
            path, [Fault("", 0, 0, f"cannot be read: {error.strerror or error}")]
        ) from None
    except UnicodeDecodeError as error:
        if error.start >= TEXT_BYTES_MAX - 4:  # the cut went through a character
            return raw.decode("utf-8-sig", "replace")
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigFaults(path, [Fault("", line, 1, "the file is not UTF-8 text")]) from None


def _is_open_to_all(path: FilePath) -> bool:
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:  # gone since it was read
        return False


def _usual_places(env: Mapping[str, str]) -> list[FilePath]:
    home = env.get("HOME")
    own = [FilePath(home) / ".config" / "tokenweir" / "config.yaml"] if home else []
    return [*own, FilePath("/etc/tokenweir/config.yaml")]


def _data_dir(config: FilePath, written: str, env: Mapping[str, str]) -> FilePath:
    """Relative to the file, not to where the command happens to be started."""
    home = env.get("HOME")
    if home and (written == "~" or written.startswith("~/")):
        written = home + written[1:]
    return (config.parent / written).resolve()
