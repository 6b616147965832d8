"""What a process tells of itself: its numbers and its standing, on its board, every second.

A report is JSON: {pid, at_s (monotonic, one clock for all processes of a machine), standing,
series}. A process that is stuck or gone is known by the age of its report.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from metering.clock import monotonic_s
from proxy import metrics_catalogue as catalogue
from proxy.metrics import Metrics
from proxy.metrics_board import Board

REPORT_EVERY_S = 1.0

_PAGE_BYTES = resource.getpagesize()


@dataclass(frozen=True, slots=True)
class Report:
    """One process as it was at `at_s`."""

    pid: int
    at_s: float
    standing: Mapping[str, Any]
    series: Mapping[str, Any]


def read_report(board: Board) -> Report | None:
    """What stands on a board; None when its process has not come that far."""
    body = board.read()
    return None if body is None else Report(**orjson.loads(body))


def write_report(board: Board, metrics: Metrics, standing: Mapping[str, Any]) -> bool:
    """Put these numbers on a board; False when they are too many for it."""
    report = {
        "pid": os.getpid(),
        "at_s": monotonic_s(),
        "standing": standing,
        "series": metrics.series(),
    }
    return board.write(orjson.dumps(report))


def resume(board: Board, metrics: Metrics) -> None:
    """Go on counting from where the process before us on this board was."""
    before = read_report(board)
    if before is not None:
        metrics.resume(dict(before.series))


@dataclass(slots=True)
class Reporter:
    """Reports for one process with an event loop. `look` sets gauges and says how things stand."""

    board: Board
    metrics: Metrics
    look: Callable[[], Awaitable[Mapping[str, Any]]]
    log: Any
    _standing: Mapping[str, Any] = field(default_factory=dict)
    _is_too_long: bool = False

    async def run(self) -> None:
        """Report until cancelled. A look that fails is logged; the numbers go out all the same."""
        lag_s = 0.0
        while True:
            try:
                self._standing = await self.look()
            except Exception as error:  # noqa: BLE001 - the top of a task; the next look tries again
                self.log.error("report_failed", cause=repr(error))
            self.metrics.set(catalogue.LOOP_LAG, to=lag_s)
            _look_at_process(self.metrics)
            self.write()
            due_s = monotonic_s() + REPORT_EVERY_S
            await asyncio.sleep(REPORT_EVERY_S)
            lag_s = max(0.0, monotonic_s() - due_s)

    def write(self, **changed: Any) -> None:
        """Report now; `changed` goes over what the last look has found."""
        self._standing = {**self._standing, **changed}
        is_whole = write_report(self.board, self.metrics, self._standing)
        if not is_whole and not self._is_too_long:
            self.log.error("metrics_do_not_fit", bytes_max=self.board.slot_bytes)
        self._is_too_long = not is_whole


def _look_at_process(metrics: Metrics) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    metrics.set(catalogue.CPU_SECONDS, to=used.ru_utime + used.ru_stime)
    with contextlib.suppress(OSError):  # elsewhere than on Linux there is no /proc
        resident = Path("/proc/self/statm").read_bytes().split()[1]
        metrics.set(catalogue.MEMORY, to=int(resident) * _PAGE_BYTES)
        metrics.set(catalogue.OPEN_FDS, to=len(os.listdir("/proc/self/fd")))  # noqa: PTH208 - names suffice
