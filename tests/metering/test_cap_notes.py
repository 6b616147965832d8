"""Marks are told once per crossing."""

from __future__ import annotations

from caps_samples import KEY, SHORT, TENANT, cap
from hypothesis import given
from hypothesis import strategies as st

from metering.cap_notes import crossed, marks_of, rearmed, scope_name
from metering.caps import ROLLING_DAY, CapMode

MARKS = marks_of(
    [
        cap(1_000, marks=(0.8, 0.5)),
        cap(600, marks=(1.0,), mode=CapMode.ALERT),
        cap(100, scope=KEY, marks=(0.1,)),
        cap(100, window=SHORT, marks=(0.2,)),
        cap(None, requests=5, marks=(0.3,)),
    ],
    TENANT,
    ROLLING_DAY,
)


def test_the_marks_of_a_window_stand_on_one_line() -> None:
    """Of every cap over it that bounds money, lowest first."""
    assert [(mark.at_nano, mark.ppm, mark.limit_nano) for mark in MARKS] == [
        (500, 500_000, 1_000),
        (600, 1_000_000, 600),
        (800, 800_000, 1_000),
    ]


@given(st.lists(st.integers(0, 1_000), max_size=30))
def test_a_mark_is_told_once_until_spend_falls_well_below(spends: list[int]) -> None:
    """Each is told when spend is at or over it for the first time, and again only after spend was
    under 95 % of it."""
    told, armed = 0, {mark.at_nano: True for mark in MARKS}
    for spent in spends:
        told = rearmed(told, MARKS, spent)
        armed = {at: is_armed or spent * 100 < at * 95 for at, is_armed in armed.items()}
        expected = [at for at, is_armed in armed.items() if is_armed and spent >= at]

        news = crossed(told, MARKS, spent)

        assert [mark.at_nano for mark in news] == expected
        armed |= dict.fromkeys(expected, False)
        told = max([told, *(mark.at_nano for mark in news)])


def test_scopes_have_one_name() -> None:
    assert (scope_name(TENANT), scope_name(KEY)) == ("tenant", "key/k1")
