"""What a run of the worker came to."""

from __future__ import annotations

from dataclasses import dataclass

from metering.settlement.batches import BatchReport


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
