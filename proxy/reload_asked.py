"""A reload asked for from beside: a signal to who serves the data directory, and its report.

The report is that of a reload that began after it was asked for, so a file that was saved before is
what the report is about. It waits, so it is called from commands and threads.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from metering.clock import monotonic_s, now_ns
from proxy.data_dir import serving_pid
from proxy.reload_report import ReloadReport, read_report

_POLL_S = 0.05


class NobodyServesError(Exception):
    """Nobody serves the data directory."""


class ReloadFailedError(Exception):
    """Whoever serves it cannot be asked, or has not answered in time."""


def ask_reload(data_dir: Path, timeout_s: float) -> ReloadReport:
    """What came of it."""
    pid = serving_pid(data_dir)
    if pid is None:
        raise NobodyServesError(f"nobody serves {data_dir}: start `weir serve`")
    asked_ns, deadline_s = now_ns(), monotonic_s() + timeout_s
    try:
        os.kill(pid, signal.SIGHUP)
    except OSError as error:
        why = f"cannot signal `weir serve` (pid {pid}): {error.strerror}"
        raise ReloadFailedError(why) from error
    while (report := read_report(data_dir)) is None or report.started_ns < asked_ns:
        if monotonic_s() > deadline_s:
            late = f"`weir serve` (pid {pid}) has not answered within {timeout_s:g} s"
            raise ReloadFailedError(late)
        time.sleep(_POLL_S)
    return report


def report_body(report: ReloadReport) -> dict[str, object]:
    """As `weir reload --json` and the admin API tell it."""
    return {
        "ok": report.ok,
        "generation": report.generation,
        "sha256": report.sha256,
        "applied": report.applied,
        "needs_a_restart": report.waiting,
        "faults": report.faults,
        "processes": report.processes,
        "before": report.before,
    }
