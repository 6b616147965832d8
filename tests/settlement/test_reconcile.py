"""Matching: every quantity of both sides in one line, and every gap by its name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reconcile_samples import DAYS, FINAL, IN, MODEL, OUT, cost, own, theirs

from metering.settlement.exports.rows import CostRow, UsageRow
from metering.settlement.reconcile import (
    COST_UNIT,
    Account,
    Gap,
    Level,
    Line,
    Matched,
    OwnUsage,
    Terms,
    match,
    stem,
)


def matched(
    ours: Sequence[OwnUsage],
    usage: Sequence[UsageRow] = (),
    costs: Sequence[CostRow] = (),
    **changes: Any,
) -> Matched:
    return match(ours, usage, costs, Terms(**{"usage_days": FINAL, "cost_days": FINAL, **changes}))


def gaps(lines: Sequence[Line]) -> list[tuple[Gap | None, Level]]:
    return [(line.gap, line.level) for line in lines]


@pytest.mark.parametrize(
    ("ours", "said", "gap", "level"),
    [
        ([own()], [theirs()], None, Level.OK),
        ([], [theirs()], Gap.MISSING_HERE, Level.ALERT),
        ([own()], [], Gap.MISSING_THERE, Level.ALERT),
        ([own(100_500)], [theirs()], Gap.COUNT, Level.OK),
        ([own(102_000)], [theirs()], Gap.COUNT, Level.INFO),
        ([own(90_000)], [theirs()], Gap.COUNT, Level.WARN),
        ([own(85_000)], [theirs()], Gap.COUNT, Level.ALERT),
        ([own(5)], [theirs(3)], Gap.COUNT, Level.OK),
        ([own()], [theirs(project="proj_2")], Gap.MISSING_THERE, Level.ALERT),
    ],
    ids=["equal", "here", "there", "ok", "info", "warn", "alert", "few", "other project"],
)
def test_usage_gaps(
    ours: list[OwnUsage], said: list[UsageRow], gap: Gap | None, level: Level
) -> None:
    """What is missing, or counted otherwise; a few tokens are no alarm."""
    found = matched(ours, said, account=Account(projects=frozenset({"proj_1"})))

    assert gaps([line for line in found.usage if line.gap is not Gap.KEY_UNKNOWN]) == [(gap, level)]


def test_other_keys_of_the_organisation_stand_apart() -> None:
    """They are no gap of ours, in tokens or in cost."""
    account = Account(keys=frozenset({"key_1"}))
    rows = [theirs(key="key_1"), theirs(7, key="key_2")]
    found = matched([own()], rows, [cost(key="key_1"), cost(5, key="key_2")], account=account)

    assert gaps(found.usage) == [(None, Level.OK), (Gap.KEY_UNKNOWN, Level.OK)]
    assert gaps(found.costs) == [(None, Level.OK), (Gap.KEY_UNKNOWN, Level.OK)]


def test_other_classes_with_the_same_sum_are_a_split() -> None:
    """The provider found more in its cache than it told us."""
    ours = [own(80_000), own(20_000, unit="input_cache_read")]
    said = [theirs(50_000), theirs(50_000, unit="input_cache_read")]

    assert gaps(matched(ours, said).usage) == [(Gap.SPLIT, Level.INFO)] * 2


def test_reasoning_is_output() -> None:
    """Providers count it among the output; so it is compared with that."""
    ours = [own(60_000, unit=OUT), own(40_000, unit="output_reasoning")]

    assert gaps(matched(ours, [theirs(unit=OUT)]).usage) == [(None, Level.OK)]


def test_what_ran_over_midnight_is_one_thing() -> None:
    """A day short and the next one long, by the same."""
    ours = [own(100_000), own(100_000, day=DAYS[1])]
    said = [theirs(60_000), theirs(140_000, day=DAYS[1])]

    assert gaps(matched(ours, said).usage) == [(Gap.BOUNDARY, Level.INFO)] * 2


def test_young_days_are_provisional() -> None:
    """A difference there is late, whatever it is."""
    found = matched(
        [own(5_000)], [theirs()], [cost(3 * 10**9)], usage_days={DAYS[0]: False}, cost_days={}
    )

    assert gaps(found.usage) == [(Gap.LATE, Level.PROVISIONAL)]
    assert found.costs == ()


def test_tiers_are_compared_where_all_rows_name_one() -> None:
    """A row without a tier stands for all of them."""
    ours = [own(60_000), own(40_000, tier="batch")]

    assert len(matched(ours, [theirs(60_000), theirs(40_000, tier="batch")]).usage) == 2
    assert gaps(matched(ours, [theirs(100_000, tier="")]).usage) == [(None, Level.OK)]


@pytest.mark.parametrize(
    ("ours", "said", "charged", "gap"),
    [
        ([own()], [theirs()], [cost()], None),
        ([own()], [theirs()], [cost(2 * 10**9)], Gap.PRICE),
        ([own(cost=0)], [theirs()], [cost()], Gap.PRICE),
        ([own(cost=0, unpriced=1)], [theirs()], [cost()], Gap.UNPRICED),
        ([own(50_000)], [theirs()], [cost(2 * 10**9)], Gap.COUNT),
        ([own()], [], [cost(2 * 10**9)], Gap.COUNT),
        ([own()], [theirs(unit="input_cache_read")], [cost(2 * 10**9)], Gap.SPLIT),
        ([], [theirs()], [cost()], Gap.MISSING_HERE),
        ([own()], [theirs()], [], Gap.MISSING_THERE),
        ([], [], [cost(model="")], Gap.MISSING_HERE),
    ],
    ids=[
        "equal",
        "price",
        "free",
        "unpriced",
        "tokens",
        "unknown",
        "split",
        "here",
        "there",
        "other",
    ],
)
def test_cost_gaps(
    ours: list[OwnUsage], said: list[UsageRow], charged: list[CostRow], gap: Gap | None
) -> None:
    """A cost that differs where the tokens agree is a matter of price."""
    found = matched(ours, said, charged)

    causes = {Gap.PRICE, Gap.MISSING_THERE} if gap is Gap.MISSING_THERE else {gap}
    assert {line.gap for line in found.costs} <= causes


def test_without_a_usage_export_a_cost_says_no_more() -> None:
    """It may be the price or the tokens."""
    found = matched([own()], (), [cost(2 * 10**9)], usage_days={})

    assert gaps(found.costs) == [(Gap.COST, Level.ALERT)]


def test_other_money_is_not_converted() -> None:
    """It stands in a line of its own, and what we booked is no gap beside it."""
    found = matched([own()], [theirs()], [cost(currency="EUR")])

    assert [(line.gap, line.tier, line.ours, line.theirs) for line in found.costs] == [
        (Gap.CURRENCY, "", 10**9, 0),
        (Gap.CURRENCY, "EUR", 0, 10**9),
    ]


def test_a_day_with_one_sum_is_compared_as_one() -> None:
    """Costs without line items; other days are compared by model."""
    ours = [own(), own(model="gpt-4o-mini"), own(day=DAYS[1])]
    charged = [cost(2 * 10**9, model=""), cost(day=DAYS[1])]
    found = matched(ours, (), charged, usage_days={})

    assert found.totals_only == {DAYS[0]}
    assert gaps(found.costs) == [(None, Level.OK)] * 2


@pytest.mark.parametrize(
    ("ours", "name"),
    [
        ("gpt-4o", MODEL),
        (MODEL, MODEL),
        ("mine", MODEL),
        ("Claude Sonnet 4.5", "claude-sonnet-4-5-20250929"),
        ("claude-sonnet-4-5-latest", "claude-sonnet-4-5-20250929"),
        ("gpt-4.1", "gpt-4.1"),
        ("two", "two"),
    ],
)
def test_models_are_found_by_their_stems(ours: str, name: str) -> None:
    """By name, by a name without its date, or as the configuration says; never by a guess."""
    said = [theirs(model=each) for each in (MODEL, "claude-sonnet-4-5-20250929")]
    said += [theirs(model="two-2026-01-01"), theirs(model="two-2026-02-01")]
    found = matched([own(model=ours)], said, account=Account(models={"mine": MODEL}))

    assert found.names == {ours: name}
    assert stem("GPT-4o-2024-08-06") == "gpt-4o"


_ROWS = {
    "day": st.sampled_from((*DAYS, "2026-12-24")),
    "model": st.sampled_from(("gpt-4o", MODEL, "claude-x", "")),
    "tier": st.sampled_from(("standard", "batch", "")),
}
_UNIT = st.sampled_from((IN, OUT, "input_cache_read"))
_KEY = st.sampled_from(("key_1", "key_2", ""))
_N = st.integers(0, 10**9)
_OWN = st.lists(
    st.builds(own, _N, _N, **_ROWS, unit=st.sampled_from((IN, OUT, "output_reasoning")))
)
_USAGE = st.lists(st.builds(theirs, _N, **_ROWS, unit=_UNIT, key=_KEY))
_COSTS = st.lists(
    st.builds(
        cost,
        st.integers(-(10**9), 10**12),
        day=_ROWS["day"],
        model=_ROWS["model"],
        key=_KEY,
        currency=st.sampled_from(("USD", "EUR")),
    )
)


@given(_OWN, _USAGE, _COSTS, st.dictionaries(st.sampled_from(DAYS), st.booleans()))
def test_nothing_is_lost_and_nothing_counts_twice(
    ours: list[OwnUsage], usage: list[UsageRow], costs: list[CostRow], days: dict[str, bool]
) -> None:
    """Per day, the lines of each side sum to that side, whatever names and keys there are."""
    account = Account(keys=frozenset({"key_1"}))
    found = matched(ours, usage, costs, usage_days=days, cost_days=days, account=account)

    for day in days:
        lines = [line for line in found.usage if line.day == day]
        charged = [line for line in found.costs if line.day == day]
        assert sum(line.ours for line in lines) == sum(o.quantity for o in ours if o.day == day)
        assert sum(line.theirs for line in lines) == sum(u.quantity for u in usage if u.day == day)
        assert sum(line.ours for line in charged) == sum(o.cost_nano for o in ours if o.day == day)
        assert sum(line.theirs for line in charged) == sum(
            c.amount_nano for c in costs if c.day == day
        )
    everything = (*found.usage, *found.costs)
    mine = [line for line in everything if line.gap is not Gap.KEY_UNKNOWN]
    places = [(line.day, line.model, line.unit, line.tier) for line in mine]
    assert len(set(places)) == len(places)
    assert {line.day for line in everything} <= days.keys()
    assert all((line.gap is None) == (line.ours == line.theirs) for line in mine)
    assert all(line.unit == COST_UNIT for line in found.costs)


@given(_OWN, _USAGE, _COSTS, st.randoms())
def test_the_order_of_rows_makes_no_difference(
    ours: list[OwnUsage], usage: list[UsageRow], costs: list[CostRow], random: Any
) -> None:
    """A provider may page as it likes."""
    first = matched(ours, usage, costs)
    for rows in (ours, usage, costs):
        random.shuffle(rows)

    assert matched(ours, usage, costs) == first
