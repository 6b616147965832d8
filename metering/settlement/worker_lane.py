"""A lane: where one reader of the worker stands and what it waits for. Times are monotonic s.

Rule: a lane waits longer each time that what it waits for has not come.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from metering.settlement.timing import Timing


@dataclass(slots=True)
class Lane:
    """What waits for something to come, and when something is due."""

    timing: Timing
    waiting: set[str] = field(default_factory=set)
    """What entries of this lane wait for, in words."""
    recovered: bool = False
    stuck_since_s: float | None = None
    retry_s: float = 0.0
    retry_at: float = 0.0
    claim_at: float = 0.0
    upkeep_at: float = 0.0

    def wait_for(self, what: set[str], *, now_s: float) -> bool:
        """Note that entries wait for this; False when that was known."""
        if what <= self.waiting:
            return False
        self.waiting |= what
        first, last = self.timing.retry_first_s, self.timing.retry_max_s
        self.retry_s = min(max(self.retry_s * 2, first), last)
        self.retry_at = now_s + self.retry_s
        return True

    def block_ms(self, *, now_s: float) -> int:
        """How long a read may wait for a first entry."""
        if not self.waiting:
            return self.timing.block_ms
        left_ms = int((self.retry_at - now_s) * 1_000)
        return max(1, min(self.timing.block_ms, left_ms))

    @property
    def wants(self) -> str | None:
        """What this lane waits for, in words."""
        return f"nobody has {' or '.join(sorted(self.waiting))}" if self.waiting else None
