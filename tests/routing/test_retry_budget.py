"""Retry budgets: a tenth of what is asked for, a few at once, and no storm."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from metering.caps import Vector
from routing.fallback import FallbackPlan, Outcome, Stop, Try, Wait
from routing.policy import Option
from routing.retries import Retries
from routing.retry_budget import IDLE, RATE_PER_S, RECENT_S, SHARE, RetryBudgets
from routing.upstreams import Upstream

DEAD = Option(Upstream("dead", "m", "m"), None, Vector())


def taken(budgets, now_s, wanted=10_000):
    return sum(budgets.take("a", now_s) for _ in range(wanted))


def test_a_new_budget_has_a_few():
    """So many at once; each upstream has its own."""
    budgets = RetryBudgets()

    assert taken(budgets, 100) == IDLE
    assert budgets.take("b", 100)


def test_requests_put_in_a_share():
    """A thousand requests in an instant allow a hundred more."""
    budgets = RetryBudgets()
    for _ in range(1_000):
        budgets.note("a", 100)

    assert taken(budgets, 100) in (IDLE + 99, IDLE + 100)  # of a tenth, added a thousand times


def test_what_is_long_ago_does_not_count():
    """A minute later hardly anything is left of the thousand requests."""
    budgets = RetryBudgets()
    for _ in range(1_000):
        budgets.note("a", 100)

    assert taken(budgets, 100 + 6 * RECENT_S) == IDLE


def test_an_empty_budget_fills():
    """One a second at first, and never more than a new one has."""
    budgets = RetryBudgets()
    taken(budgets, 100)

    assert taken(budgets, 101) == 0
    assert taken(budgets, 102.5) == 2 * RATE_PER_S
    assert taken(budgets, 1_000) == IDLE


@given(
    st.lists(
        st.tuples(st.floats(0, 5), st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=30
    )
)
def test_it_never_gives_more_than_its_share(turns):
    """Over any course of time: a tenth of the requests, one a second, and what a new one has."""
    budgets, now_s, noted, gone = RetryBudgets(), 100.0, 0, 0
    for pause_s, requests, wanted in turns:
        now_s += pause_s
        for _ in range(requests):
            budgets.note("a", now_s)
        noted += requests
        gone += taken(budgets, now_s, wanted)

        assert gone <= SHARE * noted + RATE_PER_S * (now_s - 100) + IDLE + 1e-6


def test_a_storm_is_not_multiplied():
    """A thousand requests in ten seconds, all of which fail and want three retries each, send a
    tenth more than a thousand, and one a second, and the few of a new budget."""
    budgets, sent, seconds = RetryBudgets(), 0, 10
    for number in range(1_000):
        now_s = 100 + number * seconds / 1_000
        budgets.note("dead/m", now_s)
        plan = FallbackPlan([DEAD], retries=Retries(max=3), budget=budgets)
        while not isinstance(step := plan.next(now_s, 0.5), Stop):
            if isinstance(step, Wait):
                continue
            assert isinstance(step, Try)
            sent += 1
            plan.record(Outcome.SERVER_ERROR)

    assert 1_000 + SHARE * 900 <= sent <= 1_000 * (1 + SHARE) + RATE_PER_S * seconds + IDLE
