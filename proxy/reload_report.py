"""What became of the last reload, as `weir serve` writes it down and `weir reload` reads it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import orjson


@dataclass(slots=True)
class ReloadReport:
    """One time that the file was read again. Times are Unix nanoseconds."""

    why: str
    started_ns: int
    finished_ns: int = 0
    ok: bool = False
    generation: int = 0
    sha256: str = ""
    applied: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    """Keys that hold after a restart only."""
    faults: list[dict[str, Any]] = field(default_factory=list)
    before: dict[str, Any] = field(default_factory=dict)
    """Where there was nothing to apply: `why`, `finished_ns` and `applied` of the last that did."""
    processes: dict[str, str] = field(default_factory=dict)
    """What each process made of it: `applied`, `started with it`, or `failed: ` and the cause."""


def report_path(data_dir: Path) -> Path:
    """Where it lies; private like all of the directory."""
    return data_dir / "reload.json"


def write_report(data_dir: Path, report: ReloadReport) -> None:
    """Put it there; it appears whole."""
    path = report_path(data_dir)
    unfinished = path.with_suffix(".tmp")
    unfinished.write_bytes(orjson.dumps(asdict(report)) + b"\n")
    unfinished.replace(path)


def read_report(data_dir: Path) -> ReloadReport | None:
    """The last one; None where there is none that can be read."""
    try:
        found = orjson.loads(report_path(data_dir).read_bytes())
        known = {each.name for each in fields(ReloadReport)}
        return ReloadReport(**{name: value for name, value in found.items() if name in known})
    except (OSError, ValueError, TypeError, AttributeError):
        return None
