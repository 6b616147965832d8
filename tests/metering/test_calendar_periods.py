"""Days, weeks and months where clocks jump."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.calendar_periods import period_at, start_ms
from metering.caps import CalendarUnit, CalendarWindow

ZONES = (
    "UTC",
    "Europe/Paris",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Tokyo",
    "America/Sao_Paulo",
    "Asia/Beirut",
    "Pacific/Apia",
    "America/Havana",
    "Asia/Kathmandu",
)
HOUR_MS = 3_600_000


def ms(text: str) -> int:
    """The Unix milliseconds of an ISO time; UTC unless it says otherwise."""
    moment = datetime.fromisoformat(text)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("zone", "moment", "start", "hours"),
    [
        ("Europe/Paris", "2026-03-29T12:00", "2026-03-28T23:00", 23),
        ("Europe/Paris", "2026-10-25T12:00", "2026-10-24T22:00", 25),
        ("Europe/Paris", "2026-06-10T21:59:59.999", "2026-06-09T22:00", 24),
        ("Europe/Paris", "2026-06-10T22:00", "2026-06-10T22:00", 24),
        ("America/New_York", "2026-03-08T12:00", "2026-03-08T05:00", 23),
        ("America/New_York", "2026-11-01T12:00", "2026-11-01T04:00", 25),
        ("Australia/Lord_Howe", "2026-04-05T00:00", "2026-04-04T13:00", 24.5),
        ("Australia/Lord_Howe", "2026-10-04T00:00", "2026-10-03T13:30", 23.5),
        ("Asia/Tokyo", "2026-03-29T12:00", "2026-03-28T15:00", 24),
        pytest.param(
            "America/Sao_Paulo", "2018-11-04T12:00", "2018-11-04T03:00", 23, id="no midnight"
        ),
        pytest.param(
            "America/Sao_Paulo", "2018-02-17T12:00", "2018-02-17T02:00", 25, id="23:00 twice"
        ),
        pytest.param("Asia/Beirut", "2022-03-27T12:00", "2022-03-26T22:00", 23, id="gap at 0:00"),
        pytest.param(
            "America/Havana", "2022-11-06T12:00", "2022-11-06T04:00", 25, id="midnight twice"
        ),
        pytest.param(
            "Pacific/Apia", "2011-12-30T12:00", "2011-12-30T10:00", 24, id="a day was skipped"
        ),
    ],
)
def test_a_day_is_as_long_as_its_zone_says(
    zone: str, moment: str, start: str, hours: float
) -> None:
    """23, 24, 25 or half an hour more or less, whether or not there is a midnight."""
    found = period_at(CalendarWindow(CalendarUnit.DAY, zone), ms(moment))

    assert found.start_ms == ms(start)
    assert found.end_ms - found.start_ms == hours * HOUR_MS


def test_weeks_begin_on_monday_and_months_on_their_first() -> None:
    """In local time, over the end of a year and of daylight saving."""
    week = period_at(CalendarWindow(CalendarUnit.WEEK, "Europe/Paris"), ms("2026-10-24T12:00"))
    month = period_at(CalendarWindow(CalendarUnit.MONTH, "Europe/Paris"), ms("2026-12-31T23:30"))

    assert (week.start_ms, week.end_ms) == (ms("2026-10-18T22:00"), ms("2026-10-25T23:00"))
    assert (month.start_ms, month.end_ms) == (ms("2026-12-31T23:00"), ms("2027-01-31T23:00"))
    assert month.next_end_ms == ms("2027-02-28T23:00")
    assert month.number == (2027 - 1970) * 12


@given(
    st.sampled_from(ZONES),
    st.sampled_from(list(CalendarUnit)),
    st.integers(ms("1999-01-01"), ms("2036-01-01")),
)
def test_periods_follow_one_another(zone: str, unit: CalendarUnit, now_ms: int) -> None:
    """Every moment is in exactly one period, numbers grow with time, and the edges agree."""
    window = CalendarWindow(unit, zone)

    found = period_at(window, now_ms)
    after = period_at(window, found.end_ms)
    before = period_at(window, found.start_ms - 1)

    assert found.start_ms <= now_ms < found.end_ms
    assert before.end_ms == found.start_ms
    assert after.start_ms == found.end_ms
    assert before.number < found.number < after.number
    assert start_ms(unit, zone, found.number) == found.start_ms
    first = datetime.fromtimestamp(found.start_ms / 1_000, ZoneInfo(zone))
    just_before = datetime.fromtimestamp(found.start_ms / 1_000 - 1, ZoneInfo(zone))
    assert first.date() > just_before.date()
