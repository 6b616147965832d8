"""When something becomes an alert, and when it is over. Pure.

Rules: one alert per crossing, however long it lasts and however many workers look. It is over only
well below the mark, so that a number that wavers around it is no crossing each time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from metering.fullness import Memory

REPORT_FORGET_MS = 86_400_000
"""A process that has not reported for so long and left nothing on its disk is forgotten."""


@dataclass(frozen=True, slots=True)
class Marks:
    """Where alerts begin."""

    backlog_high: int = 1_000_000
    memory_high_ppm: int = 800_000
    """Of `maxmemory`; proxies act on `metering.on_backlog` at nine tenths."""
    spool_wait_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Reading:
    """A number beside its mark; `subject` tells alerts of one kind apart."""

    kind: str
    subject: str
    value: float
    high: float
    body: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What crosses the mark."""
        return f"{self.kind}:{self.subject}" if self.subject else self.kind

    @property
    def is_over(self) -> bool:
        """Whether it has reached its mark."""
        return self.value >= self.high

    @property
    def has_ended(self) -> bool:
        """Whether it is far enough below its mark to begin anew."""
        return self.value < self.high * 0.8


def backlog_reading(unsettled: int, marks: Marks) -> Reading:
    """How many events wait in the streams."""
    body = {"entries": unsettled, "high_water": marks.backlog_high}
    return Reading("backlog", "", unsettled, marks.backlog_high, body)


def memory_reading(memory: Memory, marks: Marks) -> Reading:
    """How full Redis is; one without a limit is never full."""
    body = {"used_bytes": memory.used, "max_bytes": memory.limit}
    return Reading("memory", "", memory.used_ppm, marks.memory_high_ppm, body)


def spool_readings(
    reports: Mapping[str, bytes], marks: Marks, *, now_ms: int
) -> tuple[list[Reading], list[str]]:
    """How long the spool of each process waits, and the processes to forget.

    The time since its last report counts as waiting: what a process left on its disk when it died
    waits for somebody to start it again.
    """
    readings: list[Reading] = []
    forgotten: list[str] = []
    for proxy_id, report in sorted(reports.items()):
        at_ms, records, size, oldest_s = read_report(report)
        silent_ms = max(0, now_ms - at_ms)
        if records == 0 and silent_ms > REPORT_FORGET_MS:
            forgotten.append(proxy_id)
        waited_s = oldest_s + silent_ms / 1_000 if records else 0.0
        body = {
            "proxy_id": proxy_id,
            "records": records,
            "bytes": size,
            "waited_s": round(waited_s),
            "last_report_ms": at_ms,
        }
        readings.append(Reading("spool_depth", proxy_id, waited_s, marks.spool_wait_s, body))
    return readings, forgotten


def read_report(report: bytes) -> tuple[int, int, int, float]:
    """When a process reported (Unix ms), commits in its spool, their bytes, the age of the oldest.

    Zeros for what is no report of ours: another version's is no reason to stop."""
    try:
        body = orjson.loads(report)
        spool = body["spool"]
        return (
            int(body["at_ms"]),
            int(spool["records"]),
            int(spool["bytes"]),
            float(spool["oldest_s"]),
        )
    except (ValueError, KeyError, TypeError):
        return 0, 0, 0, 0.0
