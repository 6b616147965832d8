"""When something becomes an alert."""

from __future__ import annotations

import orjson
import pytest

from metering.fullness import Memory
from metering.settlement.crossings import (
    REPORT_FORGET_MS,
    Marks,
    Reading,
    backlog_reading,
    memory_reading,
    spool_readings,
)

MARKS = Marks(backlog_high=100)
NOW_MS = 10**12


@pytest.mark.parametrize(
    ("unsettled", "over", "ended"),
    [(100, True, False), (99, False, False), (80, False, False), (79, False, True)],
)
def test_a_crossing_ends_well_below_its_mark(unsettled: int, over: bool, ended: bool) -> None:
    reading = backlog_reading(unsettled, MARKS)

    assert (reading.is_over, reading.has_ended) == (over, ended)


def test_memory_without_a_limit_is_never_full() -> None:
    assert not memory_reading(Memory(10**12, 0), MARKS).is_over
    assert memory_reading(Memory(80, 100), MARKS).is_over
    assert not memory_reading(Memory(79, 100), MARKS).is_over


def _report(ago_s: float, records: int, oldest_s: float) -> bytes:
    spool = {"records": records, "bytes": records * 9, "oldest_s": oldest_s}
    return orjson.dumps({"at_ms": NOW_MS - int(ago_s * 1_000), "spool": spool})


def _spool(report: bytes) -> Reading:
    readings, _ = spool_readings({"p1": report}, MARKS, now_ms=NOW_MS)
    return readings[0]


def test_a_spool_waits_as_long_as_its_oldest_record() -> None:
    assert _spool(_report(5, 3, 596)).is_over
    assert not _spool(_report(5, 3, 590)).is_over
    assert _spool(_report(5, 3, 596)).body["waited_s"] == 601
    assert _spool(_report(5, 3, 596)).name == "spool_depth:p1"


def test_what_a_dead_process_left_goes_on_waiting() -> None:
    assert _spool(_report(3_600, 1, 0)).is_over
    assert not _spool(_report(3_600, 0, 0)).is_over


def test_a_process_that_is_gone_and_left_nothing_is_forgotten() -> None:
    old = REPORT_FORGET_MS / 1_000 + 1
    reports = {"a": _report(old, 0, 0), "b": _report(old, 1, 0), "c": _report(9, 0, 0)}

    _, forgotten = spool_readings(reports, MARKS, now_ms=NOW_MS)

    assert forgotten == ["a"]


@pytest.mark.parametrize("report", [b"", b"[]", b'{"spool": 3}', b"\xff"])
def test_a_report_that_is_none_stops_nobody(report: bytes) -> None:
    assert not _spool(report).is_over
