"""Sums that add up: the same whoever adds them, in whatever order, and near the truth."""

from __future__ import annotations

from copy import deepcopy

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.samples import (
    ENOUGH,
    SLOTS,
    VALUE_MAX,
    Seen,
    Tally,
    Values,
    bucket_bounds,
    bucket_of,
    gathered,
    merged,
    moved,
    newest,
    trimmed,
    unpack,
    unpack_seen,
)

TIMES = st.lists(st.integers(0, 600_000), max_size=60)
OUTCOMES = st.dictionaries(st.sampled_from(["served", "timeout", "refused"]), st.integers(0, 99))


def values(times: list[int]) -> Values:
    found = Values()
    for each in times:
        found.add(each)
    return found


@st.composite
def tallies(draw: st.DrawFn) -> Tally:
    found = Tally(draw(OUTCOMES), *[values(draw(TIMES)) for _ in range(3)])
    found.whole.add_cold(draw(st.integers(0, 9_999)))
    found.compared, found.reported_nano = draw(st.integers(0, 99)), draw(st.integers(0, 10**12))
    found.unexplained_nano = draw(st.integers(-(10**12), 10**12))
    return found


@given(st.integers(0, VALUE_MAX))
def test_a_value_lies_in_its_bucket(value: int) -> None:
    """And the bucket is no wider than an eighth of where it begins."""
    low, high = bucket_bounds(bucket_of(value))

    assert low <= value <= high
    assert high - low <= low // 8


@given(st.lists(st.integers(0, VALUE_MAX), min_size=1, max_size=200), st.integers(1, 100))
def test_a_percentile_is_near_the_true_one(times: list[int], percent: int) -> None:
    """Never less, and more by less than the width of a bucket."""
    true = sorted(times)[(len(times) * percent - 1) // 100]
    found = values(times).percentile(percent)

    assert found is not None
    assert true <= found <= true + true // 8


@given(tallies(), tallies(), tallies())
def test_adding_up_knows_no_order(one: Tally, two: Tally, three: Tally) -> None:
    """Whoever is added to whom, and which first."""
    forth = merged([deepcopy(one), two, three])
    pairs = merged([three, merged([two, one])])

    assert forth == pairs
    assert merged([one]) == one


@given(st.lists(st.tuples(st.integers(0, 600_000), st.integers(0, 3)), max_size=200))
def test_parts_add_up_to_the_whole(seen: list[tuple[int, int]]) -> None:
    """What four processes saw is what one would have seen."""
    parts = [Tally() for _ in range(4)]
    whole = Tally()
    for took_ms, process in seen:
        for each in (parts[process], whole):
            each.first.add(took_ms)
            each.outcomes["served"] = each.outcomes.get("served", 0) + 1

    assert merged(parts) == whole


@given(tallies(), st.integers(0, 10**7), st.integers(0, 50))
def test_what_is_told_is_read_as_it_was(tally: Tally, number: int, in_flight: int) -> None:
    """Through JSON and back."""
    seen = Seen({number: tally}, in_flight, 1234.5, ("timeout", 1200.0))

    assert unpack_seen(orjson.loads(orjson.dumps(seen.pack()))) == seen


def test_a_slot_that_did_not_change_is_the_same_object() -> None:
    """So that what was made of it need not be made again."""
    tally = Tally(first=values([1, 2, 3]))
    before = unpack_seen(orjson.loads(orjson.dumps(Seen({7: tally, 8: tally}).pack())))
    tally.first.add(4)
    fresh = Seen({7: before.slots[7], 8: tally})
    after = unpack_seen(orjson.loads(orjson.dumps(fresh.pack())), before)

    assert after.slots[7] is before.slots[7]
    assert after.slots[8] == tally


PACKED = Tally(first=values([100])).pack()


@pytest.mark.parametrize(
    "packed",
    [
        None,
        [],
        [[], *PACKED[1:]],
        [{"served": "1"}, *PACKED[1:]],
        [{"served": -1}, *PACKED[1:]],
        [{"served": 2**70}, *PACKED[1:]],
        [{str(each): 1 for each in range(65)}, *PACKED[1:]],
        [{}, [0, 0, 0, 400, 1, 100], *PACKED[2:]],
        [{}, [0, 0, 0, 1, 1, 100], *PACKED[2:]],
        [{}, [0, 0, 0, 1, 1, 1, 1, 1, 1], *PACKED[2:]],
        [{}, [0, 0], *PACKED[2:]],
        [*PACKED[:4], [0, 0]],
        [*PACKED[:4], [1.5] * 7],
    ],
)
def test_what_cannot_be_is_not_believed(packed: object) -> None:
    """Redis may hold what somebody else wrote."""
    with pytest.raises(ValueError, match=r"."):
        unpack(packed)


@pytest.mark.parametrize(
    "packed",
    [
        {},
        [{}, 0],
        [{}, -1, None, None],
        [{}, 0, "now", None],
        [{}, 0, None, ["timeout"]],
        [{}, 0, None, [1, 2]],
        [{"x": PACKED}, 0, None, None],
        [{str(each): PACKED for each in range(SLOTS + 3)}, 0, None, None],
    ],
)
def test_an_upstream_that_cannot_be_is_not_believed(packed: object) -> None:
    """Nor that."""
    with pytest.raises(ValueError, match=r"."):
        unpack_seen(packed)


@given(st.lists(st.integers(0, 400), min_size=1, max_size=SLOTS))
def test_what_is_left_out_is_reached_by_no_percentile(counts: list[int]) -> None:
    """Slots behind those that have enough are told without values, and nobody notices."""
    slots = {
        number: Tally(first=values(list(range(number, number + count))))
        for number, count in enumerate(counts)
    }

    assert newest([trimmed(slots)], "first") == newest([slots], "first")
    assert newest([trimmed(slots), slots], "first") == newest([slots, slots], "first")


def test_percentiles_are_of_the_newest() -> None:
    """As soon as these are enough, what was before says nothing."""
    slots = {1: Tally(whole=values([900] * 999)), 2: Tally(whole=values([100] * ENOUGH))}

    assert newest([slots], "whole").percentile(95) == 100
    slots[2].whole.buckets.popitem()
    slots[2].whole = values([100] * (ENOUGH - 1))
    assert newest([slots], "whole").percentile(95) == 900


@given(st.floats(-1e9, 1e9), st.integers(0, 10**6))
def test_a_slot_comes_back_to_where_it_was(shift_s: float, number: int) -> None:
    """Whatever the clocks say, within one slot."""
    ((there, _),) = moved({number: Tally()}, shift_s).items()
    ((back, _),) = moved({there: Tally()}, -shift_s).items()

    assert abs(back - number) <= 1


def test_what_is_old_or_ahead_is_left_out() -> None:
    """A process whose clock runs wild cannot tell of the future."""
    tally = Tally()
    numbers = [100 - SLOTS, 101 - SLOTS, 100, 101, 102]

    assert list(gathered([dict.fromkeys(numbers, tally)], 100)) == [101 - SLOTS, 100, 101]
