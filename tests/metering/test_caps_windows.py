"""Rates and calendar windows, and what caps have to tell: on every `Caps`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from caps_samples import KEY, RedisSubject, Subject, ask, cap, hold
from fixtures_caps import denied, held, spend

from metering.caps import CalendarUnit, CalendarWindow, CapMode, DenialReason, Vector
from metering.window import rolling

MINUTE = rolling(60)
DAY_MS = 86_400_000


def ms(text: str) -> int:
    moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


# -- rates ------------------------------------------------------------------------------------


async def test_requests_of_a_rate_count_when_they_begin(subject: Subject) -> None:
    """So the refusal knows to the second when the next one fits, however long those run."""
    bound = cap(window=MINUTE, requests=2)
    await held(subject, hold(bound), ask())
    subject.clock.ms += 10_000
    second = await held(subject, hold(bound), ask())

    full = await denied(subject, hold(bound), ask())
    assert full.state is not None
    subject.clock.ms = full.state.reset_ms or 0
    after = await held(subject, hold(bound), ask())

    assert second.states[0].spent.requests == 2
    assert second.states[0].held.requests == 0
    assert (full.reason, full.dimension) == (DenialReason.SPENT, "requests")
    assert after.states[0].spent.requests == 2


async def test_a_request_of_a_rate_counts_once(subject: Subject) -> None:
    """Not again when it is repeated, swapped or committed; and in a day when it ends."""
    bounds = cap(window=MINUTE, requests=1, tokens=100), cap()
    what = hold(*bounds)

    first = await held(subject, what, ask(tokens=60))
    again = await held(subject, what, ask(tokens=60))
    moved = await subject.caps.swap(what, ask(tokens=100))
    done = await subject.caps.commit(what, Vector(5, 90, 1), [])

    assert first.states[0].spent == again.states[0].spent == Vector(0, 0, 1)
    assert first.states[0].held == Vector(0, 60, 0)
    assert [state.spent for state in getattr(moved, "states", ())] == [Vector(0, 0, 1), Vector()]
    assert [state.spent for state in done.states] == [Vector(5, 90, 1)] * 2


async def test_what_was_never_held_counts_at_its_commit(subject: Subject) -> None:
    """After an outage: a rate, too, learns of it then."""
    bound = cap(window=MINUTE, requests=5)

    done = await spend(subject, bound, nano=1)

    assert done.states[0].spent == Vector(1, 0, 1)


async def test_an_hour_is_a_rate_and_more_is_not(subject: Subject) -> None:
    hour, longer = cap(window=rolling(3_600)), cap(scope=KEY, window=rolling(3_660))

    answer = await held(subject, hold(hour, longer), ask())

    assert [state.spent.requests for state in answer.states] == [1, 0]
    assert [state.held.requests for state in answer.states] == [0, 1]


# -- calendar windows -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "zone", "before", "end"),
    [
        ("day", "Europe/Paris", "2026-03-29T00:00", "2026-03-29T22:00"),
        ("day", "Europe/Paris", "2026-10-25T00:00", "2026-10-25T23:00"),
        ("day", "America/Sao_Paulo", "2018-11-04T02:59", "2018-11-04T03:00"),
        ("week", "America/New_York", "2026-11-01T06:30", "2026-11-02T05:00"),
        ("month", "Asia/Tokyo", "2026-02-28T14:59", "2026-02-28T15:00"),
    ],
)
async def test_a_calendar_window_ends_when_its_zone_says(
    subject: Subject, unit: str, zone: str, before: str, end: str
) -> None:
    """A day of 23 or 25 hours, a week over the end of summer time: spend goes at once, not
    before, and the refusal names the moment."""
    bound = cap(100, window=CalendarWindow(CalendarUnit(unit), zone))
    subject.clock.ms = ms(before)
    await spend(subject, bound, nano=100)

    refused = await denied(subject, hold(bound), ask(1))
    subject.clock.ms = ms(end) - 1
    still = await denied(subject, hold(bound), ask(1))
    subject.clock.ms += 1
    anew = await held(subject, hold(bound), ask(100))

    assert refused.state is not None
    assert refused.state.reset_ms == ms(end)
    assert still.reason is DenialReason.SPENT
    assert anew.states[0].spent == Vector()


@pytest.mark.parametrize("behind_ms", [-90_000, 90_000])
async def test_redis_time_decides_which_day_it_is(subject: Subject, behind_ms: int) -> None:
    """A proxy whose clock is wrong at midnight spends in the same day as the others."""
    if not isinstance(subject, RedisSubject):
        pytest.skip("the model has one clock")
    bound = cap(100, window=CalendarWindow(CalendarUnit.DAY, "Europe/Paris"))
    midnight = ms("2026-06-10T22:00")
    subject.clock.ms = midnight - 30_000
    await spend(subject, bound, nano=70)
    skewed = subject.with_clock(lambda: subject.clock.ms + behind_ms)

    old_day = await denied(skewed, hold(bound), ask(100))
    subject.clock.ms = midnight + 30_000
    what = hold(bound)
    new_day = await held(skewed, what, ask(100))
    await skewed.caps.commit(what, Vector(5), [])
    both = await held(subject, hold(bound), ask(0))

    assert old_day.state is not None
    assert (old_day.state.spent.nano, old_day.state.reset_ms) == (70, midnight)
    assert new_day.states[0].spent.nano == 0
    assert both.states[0].spent.nano == 5
    assert both.states[0].reset_ms == midnight + DAY_MS


async def test_a_lost_hold_knows_its_calendar(subject: Subject) -> None:
    """Its record says unit and zone, so that whoever recovers it adds to the same days."""
    windows = (
        CalendarWindow(CalendarUnit.DAY, "America/Argentina/Buenos_Aires"),
        CalendarWindow(CalendarUnit.MONTH, "Europe/Paris"),
    )
    bounds = tuple(cap(100, window=window) for window in windows)
    await held(subject, hold(*bounds), ask(10))
    subject.clock.ms += 600_000

    [lost] = await subject.lost("acme", grace_ms=0)

    assert tuple(each.window for each in lost.hold.caps) == windows


# -- what is told -----------------------------------------------------------------------------


async def test_a_mark_is_told_once_per_crossing(subject: Subject) -> None:
    """Not again while spend stays about it; again after it fell under 95 % of it."""
    bound = cap(1_000, window=MINUTE, marks=(0.5, 0.8), mode=CapMode.ALERT)
    for nano in (499, 1, 100, 199):
        await spend(subject, bound, nano=nano)
    first = [(note["mark_ppm"], note["spent_nano"]) for note in await subject.notes("acme")]

    await spend(subject, bound, nano=1)
    subject.clock.ms += 62_000
    await spend(subject, bound, nano=900)
    notes = await subject.notes("acme")

    assert first == [(500_000, "500")]
    assert [(note["mark_ppm"], note["spent_nano"]) for note in notes[1:]] == [
        (800_000, "800"),
        (500_000, "900"),
        (800_000, "900"),
    ]
    assert notes[0] == {
        "v": 1,
        "kind": "cap_mark",
        "tenant": "acme",
        "scope": "tenant",
        "window": "1m",
        "mark_ppm": 500_000,
        "limit_nano": "1000",
        "spent_nano": "500",
        "at_ms": subject.clock.ms - 62_000,
    }


async def test_spend_about_a_mark_is_no_news(subject: Subject) -> None:
    """It falls by 4 % and rises again: told once."""
    bound = cap(1_000, window=MINUTE, marks=(0.5,))
    await spend(subject, bound, nano=20)
    subject.clock.ms += 30_000
    await spend(subject, bound, nano=480)
    subject.clock.ms += 32_000  # 20 leave
    await spend(subject, bound, nano=30)

    assert len(await subject.notes("acme")) == 1


async def test_a_cap_that_begins_to_refuse_is_told_once(subject: Subject) -> None:
    """For money, and for what is spent: holds in the way pass by themselves."""
    bound = cap(1_000, scope=KEY, window=MINUTE)
    await held(subject, hold(bound), ask(1_000))
    await denied(subject, hold(bound), ask(1))
    subject.clock.ms += 60_000
    await spend(subject, bound, nano=1_000)
    for _ in range(3):
        await denied(subject, hold(bound), ask(1))
    once = await subject.notes("acme")
    subject.clock.ms += 62_000
    for _ in range(2):
        await spend(subject, bound, nano=600)
    await denied(subject, hold(bound), ask(1))

    assert [(note["kind"], note["scope"]) for note in once] == [("cap_refuses", "key/k1")]
    assert [note["spent_nano"] for note in await subject.notes("acme")] == ["1000", "1200"]


async def test_a_large_request_that_was_refused_early_does_not_hide_that_a_cap_is_full(
    subject: Subject,
) -> None:
    """It is told for the one, and for the other once more."""
    bound = cap(1_000)
    await spend(subject, bound, nano=10)
    for _ in range(2):
        await denied(subject, hold(bound), ask(995))
    await spend(subject, bound, nano=960)
    for _ in range(2):
        await denied(subject, hold(bound), ask(90))

    assert [note["spent_nano"] for note in await subject.notes("acme")] == ["10", "970"]
