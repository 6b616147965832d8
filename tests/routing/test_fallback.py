"""The order of attempts: failures go on, answers and refusals stop."""

from __future__ import annotations

import pytest

from metering.caps import Vector
from routing.fallback import FALLS_BACK, FallbackPlan, Outcome, Stop, Try
from routing.policy import Option
from routing.upstreams import Upstream

OPTIONS = [Option(Upstream(name, "m", "m"), None, Vector()) for name in "ab"]


@pytest.mark.parametrize("outcome", Outcome)
def test_after_one_outcome(outcome: Outcome) -> None:
    """Failures lead to the next option with their name as the reason; the rest is final."""
    plan = FallbackPlan(OPTIONS)
    assert plan.next() == Try(OPTIONS[0])
    plan.record(outcome)

    step = plan.next()

    assert step == (Try(OPTIONS[1], outcome) if outcome in FALLS_BACK else Stop(outcome))


def test_every_option_is_tried_once() -> None:
    """When all have failed, the last failure is what is told."""
    plan = FallbackPlan(OPTIONS)
    for outcome in (Outcome.TIMEOUT, Outcome.SERVER_ERROR):
        plan.next()
        plan.record(outcome)

    assert plan.next() == Stop(Outcome.SERVER_ERROR)


def test_a_plan_without_options_is_a_bug() -> None:
    """An exchange without an upstream is refused before there is a plan."""
    with pytest.raises(ValueError, match="at least one"):
        FallbackPlan([]).next()
