"""What a process tells of itself, every second."""

import asyncio
import os

import pytest
from fixtures_door import CollectingLog

from metering.background import spawn
from metering.clock import monotonic_s
from proxy import metrics_catalogue as catalogue
from proxy.metrics import Metrics
from proxy.metrics_board import Board
from proxy.metrics_report import Reporter, read_report, resume, write_report


class Look:
    """Says what it was given, or fails."""

    def __init__(self):
        self.error = None

    async def __call__(self):
        if self.error:
            raise self.error
        return {"is_ready": True}


async def first_report(reporter):
    task = spawn(reporter.run(), name="report")
    while read_report(reporter.board) is None:
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    return read_report(reporter.board)


async def test_a_report_says_who_when_what_and_how():
    """The pid, a time that others can compare, the standing and the numbers of the process."""
    metrics = Metrics()
    metrics.add(catalogue.WRITE_STALLS, by=3)
    report = await first_report(Reporter(Board(), metrics, Look(), CollectingLog()))

    assert report.pid == os.getpid()
    assert 0 <= monotonic_s() - report.at_s < 5
    assert report.standing == {"is_ready": True}
    assert ["weir_write_stalls_total", 3] in report.series["counters"]
    gauges = dict(report.series["gauges"])
    assert gauges["weir_process_resident_memory_bytes"] > 10**6
    assert gauges["weir_process_open_fds"] > 2
    assert gauges["weir_process_cpu_seconds"] > 0


async def test_a_look_that_fails_is_told_and_stops_no_report():
    """The numbers go out; the log has the cause."""
    look, log = Look(), CollectingLog()
    look.error = ValueError("broken")
    report = await first_report(Reporter(Board(), Metrics(), look, log))

    assert report.standing == {}
    assert log.lines == [("report_failed", {"cause": "ValueError('broken')"})]


def test_a_change_can_be_told_at_once():
    """A stop does not wait for the next turn; what was known besides stays."""
    reporter = Reporter(Board(), Metrics(), Look(), CollectingLog())
    reporter.write(is_ready=True, redis_up=True)
    reporter.write(is_ready=False)

    assert read_report(reporter.board).standing == {"is_ready": False, "redis_up": True}


def test_too_many_numbers_are_told_once():
    """The last report that fitted stays, and ages; the log says so once, not every second."""
    log = CollectingLog()
    reporter = Reporter(Board(slot_bytes=300), Metrics(), Look(), log)
    reporter.write()
    for name in range(100):
        reporter.metrics.add(catalogue.SELL, f"m{name}")
    reporter.write()
    reporter.write()

    assert log.lines == [("metrics_do_not_fit", {"bytes_max": 300})]
    assert read_report(reporter.board).series["counters"] == []


@pytest.mark.parametrize("is_first", [True, False])
def test_a_process_goes_on_where_the_one_before_it_was(is_first):
    """A restart loses no count; a first start begins at nothing."""
    board, metrics = Board(), Metrics()
    if not is_first:
        before = Metrics()
        before.add(catalogue.WRITE_STALLS, by=3)
        write_report(board, before, {})
    resume(board, metrics)
    metrics.add(catalogue.WRITE_STALLS)

    assert list(metrics.counters.values()) == [1 if is_first else 4]
