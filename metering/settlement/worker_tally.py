"""What the worker says and counts: the logger it needs, and what a run came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from metering.settlement.batches import BatchReport


class Log(Protocol):
    """What the worker needs of a logger: structlog's shape."""

    def info(self, event: str, **values: Any) -> Any:
        """Say that something happened."""

    def warning(self, event: str, **values: Any) -> Any:
        """Say that something should be looked at."""


@dataclass(slots=True)
class Tally:
    """What a run came to."""

    batches: int = 0
    settled: int = 0
    repeats: int = 0
    conflicts: int = 0
    malformed: int = 0

    def add(self, report: BatchReport) -> None:
        """Count a batch in."""
        self.batches += 1
        self.settled += report.settled
        self.repeats += report.repeats
        self.conflicts += report.conflicts
        self.malformed += report.malformed
