"""Who of a plan is asked first as upstreams stand now."""

from __future__ import annotations

from choice_samples import choosing, plan_of, up

from proxy.asked_first import asked_first
from routing.upstreams import Model

SPARE = Model("spare", (up("c", "medium", "spare"),))
MADE = choosing(up("a", "large"), up("b", "small"), others=(SPARE,), fallbacks=("spare",))


def test_a_fallback_goes_before_a_model_that_fails() -> None:
    """Which is asked after it all the same."""
    found = asked_first(plan_of(MADE), {"a/large", "b/small"})

    assert [each.upstream.label for each in found.order] == ["c/medium", "a/large", "b/small"]
    assert found.word == "healthy"
    assert {each.label: reason for each, reason in found.reasons.items()} == {
        "a/large": "failing",
        "b/small": "failing",
    }


def test_otherwise_the_plan_holds() -> None:
    """Also where all of them fail: somebody has to be first."""
    plan = plan_of(MADE)
    for failing in ((), ("c/medium",), ("a/large", "b/small", "c/medium")):
        found = asked_first(plan, set(failing))

        assert found.order == tuple(plan.order(0))
        assert found.word == "first"
        assert {each.label: reason for each, reason in found.reasons.items()} == {
            "b/small": "later",
            "c/medium": "fallback",
        }
