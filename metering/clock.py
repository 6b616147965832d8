"""The only place that reads a clock. Pure code takes the time as an argument.

Shell modules import these functions; ruff bans the originals everywhere else.
"""

from __future__ import annotations

import time


def now_ns() -> int:
    """Wall-clock time, UTC, nanoseconds since the epoch. May jump; never used for waiting."""
    return time.time_ns()  # noqa: TID251 - the one reader


def now_ms() -> int:
    """Wall-clock time, UTC, milliseconds since the epoch."""
    return time.time_ns() // 1_000_000  # noqa: TID251 - the one reader


def monotonic_s() -> float:
    """Seconds that never run backwards; only differences mean anything."""
    return time.monotonic()  # noqa: TID251 - the one reader
