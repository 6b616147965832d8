"""When something is due, daylight saving included."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.cron import Cron, read_cron

BERLIN = "Europe/Berlin"


def ns(text: str) -> int:
    return int(datetime.fromisoformat(f"{text}Z").timestamp()) * 10**9


def texts(times: list[int]) -> list[str]:
    return [datetime.fromtimestamp(t // 10**9, UTC).strftime("%m-%d %H:%M") for t in times]


DAYS: dict[str, tuple[str, str, str, list[str]]] = {
    "a skipped hour in spring": (
        "30 2 * * *",
        "2026-03-28T12:00",
        "2026-03-30T12:00",
        ["03-29 01:00", "03-30 00:30"],
    ),
    "an hour that comes twice in autumn": (
        "30 2 * * *",
        "2026-10-24T12:00",
        "2026-10-26T12:00",
        ["10-25 00:30", "10-26 01:30"],
    ),
    "seen from between the two": ("30 2 * * *", "2026-10-25T01:15", "2026-10-25T12:00", []),
    "seen up to between the two": (
        "30 2 * * *",
        "2026-10-24T12:00",
        "2026-10-25T01:15",
        ["10-25 00:30"],
    ),
    "every hour": (
        "0 * * * *",
        "2026-10-24T23:30",
        "2026-10-25T03:00",
        ["10-25 00:00", "10-25 01:00", "10-25 02:00", "10-25 03:00"],
    ),
}


@pytest.mark.parametrize(("fields", "after", "until", "due"), DAYS.values(), ids=DAYS)
def test_a_time_of_day_comes_once_a_day(
    fields: str, after: str, until: str, due: list[str]
) -> None:
    """In spring when the gap is over, in autumn the first time; forwards and backwards alike."""
    cron, at, end = Cron(fields, BERLIN), ns(after), ns(until)

    assert texts(cron.between(at, end, 100)) == due
    forward = []
    while (at := cron.next(at)) <= end:
        forward.append(at)
    assert texts(forward) == due


@given(
    st.sampled_from(["30 2 * * *", "*/7 * * * *", "15 1-3 * * *", "0 3 * * 0", "59 23 28-31 * *"]),
    st.sampled_from([BERLIN, "UTC", "America/New_York", "Australia/Lord_Howe"]),
    st.integers(ns("2026-01-01T00:00"), ns("2027-01-01T00:00")),
    st.integers(0, 3 * 86_400 * 10**9),
)
def test_looking_back_finds_what_looking_ahead_does(
    fields: str, zone: str, after: int, long: int
) -> None:
    """Whatever the zone does to its clocks: nothing is lost between two looks, nothing twice."""
    cron, until, forward = Cron(fields, zone), after + long, []
    at = after
    while (at := cron.next(at)) <= until:
        forward.append(at)

    assert cron.between(after, until, 10_000) == forward
    middle = after + long // 3
    parts = cron.between(after, middle, 10_000) + cron.between(middle, until, 10_000)
    assert parts == forward


def test_only_the_newest_are_told() -> None:
    """A worker that was away for a year does not count the minutes of it."""
    cron = Cron("* * * * *")

    found = cron.between(ns("2025-01-01T00:00"), ns("2026-01-01T00:00"), 2)

    assert found == [ns("2025-12-31T23:59"), ns("2026-01-01T00:00")]


BAD = {
    "no fields": ("daily", "five cron fields"),
    "seconds": ("* * * * * *", "five cron fields"),
    "no minute": ("60 * * * *", "bad minute"),
    "no day": ("0 0 31 2 *", "bad day"),
}


@pytest.mark.parametrize(("fields", "says"), BAD.values(), ids=BAD)
def test_what_is_no_schedule_says_why(fields: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read_cron(fields)


@pytest.mark.parametrize("zone", ["Europe/Nowhere", "", "../etc/passwd", "/etc/passwd"])
def test_there_is_no_such_zone(zone: str) -> None:
    with pytest.raises(KeyError):
        read_cron("0 0 * * *", zone)
