"""What the end of a month waits for."""

from __future__ import annotations

import orjson
import pytest

from metering.settlement.month_gate import Seen, lacking
from metering.settlement.redis_stream import StreamStanding

S = 1_000
HOUR = 3_600 * S
END_MS = 1_796_083_200_000  # 2026-12-01
BORDER_MS = END_MS + HOUR
NOW_MS = END_MS + 3 * HOUR


def _report(*, at_ms: int, records: int = 0, oldest_s: float = 0.0) -> bytes:
    spool = {"records": records, "bytes": 10 * records, "oldest_s": oldest_s}
    return orjson.dumps({"at_ms": at_ms, "run": "r", "spool": spool})


def _lacking(seen: Seen) -> list[str]:
    return lacking(seen, END_MS * 1_000_000, NOW_MS * 1_000_000)


def _waiting(since_ms: int | None, waiting: int = 2) -> Seen:
    return Seen([StreamStanding(), StreamStanding("9-0", waiting, since_ms)])


def test_todays_traffic_is_not_waited_for() -> None:
    """An installation that is never idle gets its invoices all the same."""
    assert _lacking(_waiting(BORDER_MS)) == []
    assert _lacking(_waiting(BORDER_MS - 1)) == [
        "2 events wait for the ledger, the oldest since 2026-12-01T00:59:59Z"
    ]
    assert _lacking(_waiting(END_MS, 1)) == [
        "1 event waits for the ledger, the oldest since 2026-12-01T00:00:00Z"
    ]


P = "p-1"
SPOOLED = f"3 commits in the spool of proxy {P}"
CASES = {
    "well": ({"at_ms": NOW_MS}, None, []),
    "old commits": ({"at_ms": NOW_MS, "records": 3, "oldest_s": 7_201.0}, None, [SPOOLED]),
    "new commits": ({"at_ms": NOW_MS, "records": 3, "oldest_s": 7_199.0}, None, []),
    "silent since, with some": (
        {"at_ms": END_MS - S, "records": 3, "oldest_s": 5.0},
        None,
        [SPOOLED],
    ),
    "silent since before": (
        {"at_ms": END_MS - S},
        None,
        [f"proxy {P} was last heard of at 2026-11-30T23:59:59Z"],
    ),
    "silent since after": ({"at_ms": END_MS}, None, []),
    "silent, its disk is empty": ({"at_ms": END_MS - S}, 0, []),
    "silent, its disk is not": ({"at_ms": END_MS - S}, 3, [SPOOLED]),
    "alive, its disk is not": ({"at_ms": NOW_MS - S}, 3, []),
    "never reported": (None, 3, [SPOOLED]),
}


@pytest.mark.parametrize(("report", "here", "said"), CASES.values(), ids=CASES)
def test_spools(report: dict[str, int] | None, here: int | None, said: list[str]) -> None:
    """What a process reports, what it may have without saying so, and what this disk shows."""
    reports = {} if report is None else {P: _report(**report)}

    assert _lacking(Seen([], reports, {} if here is None else {P: here})) == said


def test_what_is_no_report_stops_nobody() -> None:
    assert _lacking(Seen([], {P: b"nonsense"})) == []
