"""When spend is out of the ordinary: tables, and properties of what never and what always is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.settlement.velocity import (
    TENANT,
    Cause,
    History,
    Judge,
    Lookup,
    Minute,
    Spread,
    Track,
    Tracks,
    alarms,
    fold,
)
from metering.tolerances import Tolerance

START = 30_000_000
USD = 1_000_000_000
TOLERANCE = Tolerance(floor_nano=USD, cold_start_nano=10 * USD)
NOTHING = History({})


def _judge(
    tolerance: Tolerance = TOLERANCE,
    history: History = NOTHING,
    accepted: Mapping[tuple[str, Cause], int] | None = None,
) -> Judge:
    return Judge(tolerance, lambda: history, accepted or {})


def _minutes(
    amounts: Iterable[int], key: str = "k1", requests: int = 10, start: int = START
) -> list[tuple[int, Mapping[str, Minute]]]:
    return [(start + at, {key: Minute(nano, requests)}) for at, nano in enumerate(amounts) if nano]


def _fold(
    amounts: Sequence[int], judge: Judge | None = None, tracks: Tracks | None = None
) -> Tracks:
    through = START + len(amounts) - 1
    return fold(tracks or {}, _minutes(amounts), judge or _judge(), through=through)


def _first_alarm(amounts: Sequence[int], judge: Judge | None = None) -> int | None:
    """How many minutes until the tenant was in alarm; every minute is judged as it comes."""
    tracks: Tracks = {}
    for at, one in enumerate(_minutes(amounts)):
        tracks = fold(tracks, [one], judge or _judge(), through=one[0])
        if TENANT in alarms(tracks):
            return at
    return None


@given(
    rate=st.integers(1, 10**12),
    length=st.integers(60, 300),
    z=st.floats(1.0, 6.0),
    half_life=st.integers(5, 120),
)
def test_a_constant_rate_never_alarms(rate: int, length: int, z: float, half_life: int) -> None:
    """Whatever it is, once it is known: the same every minute is usual."""
    tolerance = replace(TOLERANCE, floor_nano=0, cold_start_nano=None, z=z, half_life_min=half_life)

    assert _first_alarm([rate] * length, _judge(tolerance)) is None


@given(
    noise=st.lists(st.integers(80, 120), min_size=70, max_size=200),
    spike=st.integers(2, 10**6),
    place=st.integers(0, 199),
    minutes=st.integers(2, 6),
)
def test_one_minute_never_alarms(noise: list[int], spike: int, place: int, minutes: int) -> None:
    """However wild, before and after the baseline is believed."""
    amounts = [each * USD for each in noise]
    amounts[place % len(amounts)] *= spike
    tolerance = replace(TOLERANCE, minutes=minutes, cold_start_nano=150 * USD)

    assert _first_alarm(amounts, _judge(tolerance)) is None


@given(
    noise=st.lists(st.integers(50, 150), min_size=60, max_size=150),
    times=st.integers(10, 1000),
    minutes=st.integers(2, 6),
)
def test_ten_times_as_much_alarms_as_soon_as_it_may(
    noise: list[int], times: int, minutes: int
) -> None:
    """In the k-th minute of it, k being `minutes`."""
    amounts = [each * USD for each in noise] + [100 * times * USD] * minutes
    tolerance = replace(TOLERANCE, minutes=minutes, cold_start_nano=None)

    assert _first_alarm(amounts, _judge(tolerance)) == len(amounts) - 1


@given(
    amounts=st.lists(st.integers(0, 10_000), min_size=60, max_size=160), power=st.integers(0, 20)
)
@settings(max_examples=50)
def test_the_scale_of_money_does_not_matter(amounts: list[int], power: int) -> None:
    """Amounts, floor and ceiling times a power of two: the same alarms at the same minutes."""
    small = replace(TOLERANCE, floor_nano=100, cold_start_nano=9_000, samples_min=30)
    large = replace(small, floor_nano=100 << power, cold_start_nano=9_000 << power)

    one, other = (
        _first_alarm([each << shift for each in amounts], _judge(tolerance))
        for shift, tolerance in ((0, small), (power, large))
    )
    assert one == other


@given(st.lists(st.integers(0, 50), min_size=1, max_size=200), st.data())
@settings(max_examples=50)
def test_folding_in_parts_comes_to_the_same(amounts: list[int], data: st.DataObject) -> None:
    """So a worker that starts anew stands where the other stood."""
    cut = data.draw(st.integers(0, len(amounts)))
    minutes = _minutes([each * USD for each in amounts])
    through = START + len(amounts) - 1
    whole = fold({}, minutes, _judge(), through=through)
    first = fold({}, [each for each in minutes if each[0] < START + cut], _judge(), through=START)
    parts = fold(
        first, [each for each in minutes if each[0] >= START + cut], _judge(), through=through
    )

    assert {name: (track.since, track.overs) for name, track in whole.items()} == {
        name: (track.since, track.overs) for name, track in parts.items()
    }


@pytest.mark.parametrize(
    ("tail", "alarm"),
    [
        ([100, 100, 100], 0),
        ([100, 10, 100], None),
        ([100, 10, 10, 100, 10, 100], 0),
        ([100] + [10] * 7 + [100] + [10] * 7 + [100], None),
        ([15, 15, 15, 15], None),
    ],
    ids=["in-a-row", "too-few", "within-three-times", "too-far-apart", "within-the-spread"],
)
def test_minutes_add_up_while_they_are_close(tail: list[int], alarm: int | None) -> None:
    """Three minutes out of the ordinary within nine are an alarm, from the first of them on."""
    tracks = _fold([each * USD for each in [10] * 90 + tail])

    track = alarms(tracks).get(TENANT)
    assert (None if track is None else (track.since or 0) - START - 90) == alarm


def test_an_alarm_ends_after_as_many_quiet_minutes() -> None:
    """Nine of them with `minutes: 3`; eight are too few."""
    loud = [10 * USD] * 90 + [100 * USD] * 5
    for quiet, still in ((8, True), (9, False)):
        tracks = _fold(loud + [10 * USD] * quiet)
        assert (TENANT in alarms(tracks)) is still


def test_a_new_level_is_learnt_within_hours() -> None:
    """It alarms for long enough to climb the ladder, and not for ever."""
    tracks = _fold([10 * USD] * 120)
    lasted = 0
    for at in range(120, 1_000):
        tracks = fold(tracks, _minutes([100 * USD], start=START + at), _judge(), through=START + at)
        lasted += TENANT in alarms(tracks)

    assert 60 <= lasted <= 600


def test_below_the_floor_nothing_is_out_of_the_ordinary() -> None:
    """A hundred times a cent is not worth anybody's time."""
    cents = USD // 100

    assert _first_alarm([cents] * 90 + [99 * cents] * 20) is None
    assert _first_alarm([cents] * 90 + [101 * cents] * 3) == 92


def test_who_is_new_has_a_ceiling() -> None:
    """Nothing is usual yet: only what is above the ceiling of the plan alarms."""
    assert _first_alarm([9 * USD] * 20) is None
    assert _first_alarm([11 * USD] * 3) == 2
    assert _first_alarm([11 * USD] * 20, _judge(replace(TOLERANCE, cold_start_nano=None))) is None


def _history(nano_per_min: Sequence[int]) -> History:
    """The same hour of the days before, newest first."""
    hour = START // 60
    hours = {
        hour - 24 * day - shift: nano * 60
        for day, nano in enumerate(nano_per_min, 1)
        for shift in range(-5, 2)
    }
    return History({TENANT: hours, "k1": hours})


@pytest.mark.parametrize(
    ("days", "alarmed"),
    [
        ([100 * USD] * 14, False),
        ([10 * USD] * 14, True),
        ([10 * USD] * 4, True),
        ([100 * USD] * 4, True),
        ([10 * USD, 90 * USD, 20 * USD, 80 * USD, 50 * USD, 40 * USD], False),
        ([0, 0, 0, 0, 0, 0, 10 * USD], True),
    ],
    ids=["usual-then", "unusual-then", "too-few", "too-few-high", "varies", "mostly-nothing"],
)
def test_what_is_usual_at_this_hour_is_no_alarm(days: list[int], alarmed: bool) -> None:
    """Both baselines must be exceeded where both are known; few days know nothing."""
    judge = _judge(history=_history(days))

    assert (_first_alarm([10 * USD] * 90 + [100 * USD] * 3, judge) is not None) is alarmed


def test_history_alone_decides_where_the_last_hours_know_nothing() -> None:
    """Without it the ceiling would have alarmed; with it the first minute is no surprise."""
    judge = _judge(history=_history([50 * USD] * 6))

    assert _first_alarm([60 * USD] * 10, judge) is None
    assert _first_alarm([500 * USD] * 3, judge) == 2


def test_an_even_history_has_no_score_of_its_own() -> None:
    """A median deviation of 0 is taken for a tenth of the median: no division, no hair trigger."""
    judge = _judge(replace(TOLERANCE, samples_min=10_000), _history([10 * USD] * 14))

    assert _first_alarm([15 * USD] * 5, judge) is None
    assert _first_alarm([16 * USD] * 5, judge) == 2


def test_what_crept_up_is_measured_by_the_days_before() -> None:
    """Ten times what those had, however slowly it came; without them it is the caps' business."""
    creeping = [int(10 * USD * 2 ** (max(0, at - 90) / 30)) for at in range(240)]

    first = _first_alarm(creeping, _judge(history=_history([10 * USD] * 14)))
    assert first is not None
    assert creeping[first - 3] < 100 * USD < creeping[first]
    assert _first_alarm(creeping) is None


def test_history_is_asked_only_when_something_looks_unusual() -> None:
    """It is a query per tenant."""
    asked = []

    def lookup() -> History:
        asked.append(1)
        return NOTHING

    judge = Judge(replace(TOLERANCE, samples_min=5, floor_nano=2 * USD), _as_lookup(lookup), {})
    tracks = fold({}, _minutes([USD] * 50), judge, through=START + 49)
    assert asked == []

    fold(tracks, _minutes([50 * USD], start=START + 50), judge, through=START + 50)
    assert asked


def _as_lookup(lookup: Lookup) -> Lookup:
    return lookup


def test_what_was_accepted_is_usual() -> None:
    """Up to a quarter more than the level that a person named; beyond it is news."""
    judge = _judge(accepted={(TENANT, Cause.SPEND): 100 * USD})

    assert _first_alarm([10 * USD] * 90 + [125 * USD] * 5, judge) is None
    assert _first_alarm([10 * USD] * 90 + [126 * USD] * 5, judge) == 92


def test_an_idle_night_is_not_forgotten() -> None:
    """What was usual in the evening is usual in the morning, ten hours later."""
    assert _first_alarm([5 * USD] * 120 + [0] * 600 + [5 * USD] * 30) is None


def test_dearer_requests_alarm_by_their_price() -> None:
    """The same money per minute for a few dear requests instead of many cheap ones."""
    tolerance = replace(TOLERANCE, unit_cost_nano=USD // 10)
    many = _minutes([10 * USD] * 90, requests=1_000)
    few = _minutes([10 * USD] * 3, requests=20, start=START + 90)
    judge = _judge(tolerance)

    tracks = fold({}, [*many, *few], judge, through=START + 92)
    [track] = alarms(tracks).values()
    assert track.finding is not None
    assert track.finding.cause is Cause.UNIT_COST
    assert track.finding.seen_nano == USD // 2

    single = _minutes([10 * USD] * 3, requests=4, start=START + 90)
    assert alarms(fold({}, [*many, *single], judge, through=START + 92)) == {}


def test_the_alarm_belongs_to_the_key_that_runs_away() -> None:
    """The others' tenant is not stopped for it; the only key of a tenant is the tenant."""
    both = [
        (START + at, {"k1": Minute(10 * USD, 5), "k2": Minute(10 * USD, 5)}) for at in range(90)
    ]
    wild = [
        (START + 90 + at, {"k1": Minute(10 * USD, 5), "k2": Minute(200 * USD, 90)})
        for at in range(20)
    ]

    assert set(alarms(fold({}, both + wild, _judge(), through=START + 109))) == {"k2"}
    assert set(alarms(_fold([10 * USD] * 90 + [200 * USD] * 20))) == {TENANT}


def test_a_correction_is_no_income() -> None:
    """A minute that takes more back than it spends counts as nothing."""
    tracks = fold({}, [(START, {"k1": Minute(-5 * USD, -3)})], _judge(), through=START)

    assert tracks[TENANT].spread == Spread(weight=tracks[TENANT].spread.weight, samples=1)


def test_who_is_silent_for_a_day_is_forgotten() -> None:
    """So memory is bounded by who is active."""
    tracks = _fold([USD] * 10)
    day = TOLERANCE.memory_min

    assert fold(tracks, [], _judge(), through=START + 9 + day - 1) != {}
    assert fold(tracks, [], _judge(), through=START + 10 + day) == {} or all(
        isinstance(track, Track) for track in tracks.values()
    )
