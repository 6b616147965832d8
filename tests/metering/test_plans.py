"""Plans: terms that are named by their content, and the days on which they hold."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from charge_samples import WORKED_EXAMPLE
from hypothesis import given
from hypothesis import strategies as st

from metering.plans import (
    Assignment,
    Coupon,
    Plan,
    Tier,
    plan_at,
    read_plan,
    terms_of_month,
)

_PLAN = replace(WORKED_EXAMPLE, coupons=(Coupon("half", 500_000, months=2, components=("calls",)),))
_NOVEMBER = date(2026, 11, 1), date(2026, 12, 1)


def test_a_plan_comes_back_from_its_body_as_it_was() -> None:
    """What was published says everything that is needed to charge."""
    tiered = replace(_PLAN.components[0], tiers=(Tier(10, 5, 7), Tier(None, 3)))
    plan = replace(_PLAN, components=(tiered, *_PLAN.components[1:]), minimum_nano=2**60)

    assert read_plan(plan.body(), version=plan.version) == plan


def test_other_terms_are_another_version() -> None:
    """Nothing that decides an amount is outside of the hash."""
    others = [
        replace(_PLAN, minimum_nano=1),
        replace(_PLAN, effective_from=date(2026, 12, 1)),
        replace(_PLAN, coupons=()),
        replace(_PLAN, components=_PLAN.components[:1]),
    ]

    assert len({_PLAN.version, *(each.version for each in others)}) == 5


def test_a_body_that_is_not_what_it_is_called_is_refused() -> None:
    """A forged body does not pass for a version."""
    with pytest.raises(ValueError, match="does not hash"):
        read_plan(_PLAN.body().replace(b"model-a", b"model-x"), version=_PLAN.version)


def test_the_latest_version_in_force_holds() -> None:
    """A version holds from its date on, until the next."""
    old, new = Plan("p", "P"), Plan("p", "P", minimum_nano=1, effective_from=date(2026, 11, 10))

    assert plan_at([new, old], "p", date(2026, 11, 9)) is old
    assert plan_at([new, old], "p", date(2026, 11, 10)) is new
    assert plan_at([new, old], "q", date(2026, 11, 10)) is None


def test_a_month_is_cut_where_its_terms_change() -> None:
    """No plan, then the trial, then the plan, then its new version, then another plan."""
    versions = [
        Plan("p", "P", trial_days=5),
        Plan("p", "P", trial_days=5, minimum_nano=1, effective_from=date(2026, 11, 20)),
        Plan("q", "Q"),
    ]
    assignments = [Assignment("q", date(2026, 11, 25)), Assignment("p", date(2026, 11, 4))]

    terms = terms_of_month(*_NOVEMBER, assignments, versions)

    assert [(t.start.day, t.plan and t.plan.id, t.is_trial) for t in terms] == [
        (1, None, False),
        (4, "p", True),
        (9, "p", False),
        (20, "p", False),
        (25, "q", False),
    ]
    assert terms[2].plan != terms[3].plan


def test_a_plan_without_a_version_in_force_is_an_error() -> None:
    """Nobody is charged by terms that did not hold yet."""
    with pytest.raises(LookupError, match="2026-11-03"):
        terms_of_month(
            *_NOVEMBER,
            [Assignment("p", date(2026, 11, 3))],
            [Plan("p", "P", effective_from=date(2026, 11, 4))],
        )


@given(st.lists(st.dates(date(2026, 10, 1), date(2026, 12, 31)), max_size=4, unique=True))
def test_terms_cover_a_month_once(days: list[date]) -> None:
    """Each day of a month belongs to one term, whatever is assigned when."""
    assignments = [Assignment("p", day) for day in days]

    terms = terms_of_month(*_NOVEMBER, assignments, [Plan("p", "P", trial_days=3)])

    assert [t.end for t in terms[:-1]] == [t.start for t in terms[1:]]
    assert (terms[0].start, terms[-1].end) == _NOVEMBER
    assert sum(t.days for t in terms) == 30
