"""Who is asked first as upstreams stand, and why the others are not. Pure.

A plan has the upstreams of a model in order, failing ones last, and those of its fallback models
behind. Where all of the first model fail, a fallback that does not is asked before them.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from proxy.planning import Plan
from routing.policy import Option
from routing.upstreams import Upstream

HEALTHY, FAILING = "healthy", "failing"


@dataclass(frozen=True, slots=True)
class AskedFirst:
    """`word` is why the first of `order` is first, `reasons` why others are not."""

    order: tuple[Option, ...]
    word: str
    reasons: dict[Upstream, str]


def asked_first(plan: Plan, failing: Set[str]) -> AskedFirst:
    """The order of asking before any step of degradation, where these labels are passed over."""
    order = plan.order(0)
    word = plan.rerouted_by or plan.word
    reasons = {loser.upstream: loser.reason for loser in plan.losers}
    sound = [each for each in order if each.upstream.label not in failing]
    if sound and sound[0] is not order[0]:
        passed = [each for each in order if each.upstream.label in failing]
        own = order[0].upstream.public_name
        for each in passed:
            if each.upstream.public_name == own:
                reasons[each.upstream] = FAILING
        order, word = [*sound, *passed], HEALTHY
    reasons.pop(order[0].upstream, None)
    return AskedFirst(tuple(order), word, reasons)
