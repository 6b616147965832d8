"""No true interval of a window is ever passed at admission, whatever happens when."""

from __future__ import annotations

from caps_samples import NOW_MS, SHORT, ask, cap, exchange_id
from hypothesis import given
from hypothesis import strategies as st

from metering.caps import CalendarUnit, CalendarWindow, Hold, Reservation, Vector, Window
from metering.caps_model import MemoryCapsModel
from metering.window import bucket_at, leaves_ms

LIMIT = 100
RATE = 3
DAY = CalendarWindow(CalendarUnit.DAY, "America/New_York")
TTL_MS = 10**12

turns = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 700, 999, 1_000, 1_300, 4_000]),
        st.integers(0, 4),
        st.integers(1, 60),
        st.integers(0, 100),
    ),
    max_size=60,
)


@given(turns)
def test_no_interval_of_a_rolling_window_passes_its_cap(script: list[tuple[int, ...]]) -> None:
    """When a hold is placed, what was used in the last 3 s and what is held are within the cap;
    and of the requests that began, no 3 s have more than were allowed."""
    model, bound = MemoryCapsModel(), cap(LIMIT, window=SHORT, requests=RATE)
    length_ms = SHORT.bucket_ms * SHORT.buckets
    used: list[tuple[int, int]] = []
    begun: list[int] = []
    open_holds: dict[int, tuple[Hold, int]] = {}
    now_ms = NOW_MS
    for passed_ms, number, nano, share in script:
        now_ms += passed_ms
        if number in open_holds:
            what, held = open_holds.pop(number)
            spent = held * share // 100  # at most what was held
            model.commit(what, Vector(spent, 0, 1), [], now_ms=now_ms)
            used.append((now_ms, spent))
            continue
        what = Hold("acme", exchange_id(), (bound,))
        answer = model.reserve(what, [ask(nano)], owner="p", ttl_ms=TTL_MS, now_ms=now_ms)
        if isinstance(answer, Reservation):
            open_holds[number] = (what, nano)
            begun.append(now_ms)
            lately = sum(amount for at, amount in used if at > now_ms - length_ms)
            assert lately + sum(held for _, held in open_holds.values()) <= LIMIT
            assert len([at for at in begun if at > now_ms - length_ms]) <= RATE


@given(st.lists(st.tuples(st.integers(0, 40 * 3_600_000), st.integers(1, 60)), max_size=40))
def test_no_calendar_day_passes_its_cap(script: list[tuple[int, int]]) -> None:
    """However long a day is, what was spent since its midnight is within the cap."""
    model, bound = MemoryCapsModel(), cap(LIMIT, window=DAY)
    spent: dict[int, int] = {}
    now_ms = NOW_MS
    for passed_ms, nano in script:
        now_ms += passed_ms
        day = bucket_at(DAY, now_ms)
        what = Hold("acme", exchange_id(), (bound,))
        answer = model.reserve(what, [ask(nano)], owner="p", ttl_ms=TTL_MS, now_ms=now_ms)
        fits = spent.get(day, 0) + nano <= LIMIT
        assert isinstance(answer, Reservation) == fits
        if fits:
            model.commit(what, Vector(nano), [], now_ms=now_ms)
            spent[day] = spent.get(day, 0) + nano
            assert leaves_ms(DAY, day) > now_ms


def test_a_window_of_one_bucket_is_a_window() -> None:
    """The smallest there is: one full bucket and the current one."""
    model, bound = MemoryCapsModel(), cap(10, window=Window("w", 10, 1))
    model.commit(Hold("acme", exchange_id(), (bound,)), Vector(10), [], now_ms=5)

    answers = [
        model.reserve(
            Hold("acme", exchange_id(), (bound,)), [ask(1)], owner="p", ttl_ms=1, now_ms=at
        )
        for at in (9, 19, 20)
    ]

    assert [isinstance(answer, Reservation) for answer in answers] == [False, False, True]
