"""The margin of a request before it runs: served, sent to something cheaper, or throttled.

The numbers are `routing.cost_to_serve`'s; here they meet a plan. Throttled is a request that stands
under one more cap: so many in a window of its tenant and model. That cap is in Redis like any
other, so every process counts in the same window, and only what is under the margin counts there.
In shadow the cap refuses nobody and the plan stays as it is.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from metering.caps import Candidate, Cap, CapMode, Limit, Scope, ScopeKind, Window
from metering.money import divide_up
from proxy.limit_words import MARGIN
from proxy.planning import Plan
from routing.cost_to_serve import (
    CostRules,
    Decision,
    Estimate,
    Load,
    Mode,
    Verdict,
    decide,
    keeps_margin,
)
from routing.cost_to_serve import estimate as cost_of
from routing.degrade import NO_CHANGES
from routing.history import History
from routing.policy import Admission, Loser, Option

REROUTED = "margin"
"""Why a request goes elsewhere than it was to, and the reason against where it was to go."""

_KEPT_MAX = 4_096
_BUCKETS = 60
"""As many as a rolling minute has: the window is longer by at most a sixtieth."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request says for itself: how fast, as a stream or not, and may its model change?"""

    target_ms: int | None = None
    stream: bool = False
    may_change_model: bool = True


@dataclass(frozen=True, slots=True)
class Judged:
    """A plan after its margin was looked at. `option` is what the estimate is for: what was asked
    for, or where it goes instead. `decision` is None when margins are not looked at."""

    plan: Plan
    decision: Decision | None = None
    option: Option | None = None
    is_throttled: bool = False


@dataclass(slots=True)
class Pace:
    """Judges plans by these rules. Keeps the caps it made, for a cap is found by its identity."""

    rules: CostRules
    history: History
    _made: OrderedDict[tuple[int, str], tuple[tuple[Cap, ...], tuple[Cap, ...]]] = field(
        default_factory=OrderedDict
    )

    def judge(self, plan: Plan, asked: Asked, now_s: float) -> Judged:
        """What is to become of a request with this plan."""
        if self.rules.mode is Mode.OFF:
            return Judged(plan)
        first = plan.admission.options[0]
        found = self._estimate(first, asked, now_s)
        decision = decide(self.rules, found, ())
        if decision.verdict is Verdict.ALLOW:
            return Judged(plan, decision, first)
        chosen, estimates = self._cheapest(first, _others(plan, asked), asked, now_s)
        decision = decide(self.rules, found, estimates)
        if decision.index is None or chosen is None:
            return Judged(plan, decision, first, is_throttled=True)
        is_shadow = self.rules.mode is Mode.SHADOW
        return Judged(plan if is_shadow else rerouted(plan, chosen), decision, chosen)

    def _cheapest(
        self, first: Option, others: Sequence[Option], asked: Asked, now_s: float
    ) -> tuple[Option | None, list[Estimate]]:
        """The cheapest of the others that keeps the margin, with its estimate: from the cheapest
        on, for most are not worth an estimate. Dearer ones than the first are none at all."""
        able = [each for each in others if each.hold.nano <= first.hold.nano]
        for each in sorted(able, key=lambda option: option.hold.nano):
            found = self._estimate(each, asked, now_s)
            if found.sell_nano is not None and keeps_margin(self.rules, found):
                return each, [found]
        return None, []

    def caps(self, caps: tuple[Cap, ...], model: str) -> tuple[Cap, ...]:
        """These caps and the one of a request for this model that is throttled; the same object
        for the same caps."""
        key = (id(caps), model)
        found = self._made.get(key)
        if found is None:
            found = self._made[key] = (caps, (*caps, margin_cap(self.rules, model)))
            if len(self._made) > _KEPT_MAX:
                self._made.popitem(last=False)
        return found[1]

    def _estimate(self, option: Option, asked: Asked, now_s: float) -> Estimate:
        load = Load(option.prompt_tokens, option.output_tokens, asked.target_ms)
        observed = self.history.look(option.upstream.label, now_s, stream=asked.stream)
        return cost_of(self.rules, option.price_asked, load, observed)


@lru_cache(maxsize=_KEPT_MAX)
def margin_cap(rules: CostRules, model: str) -> Cap:
    """So many requests of a tenant for a model within the window."""
    bucket_ms = divide_up(rules.throttle_window_ms, _BUCKETS)
    name = hashlib.sha256(model.encode()).hexdigest()[:16]
    return Cap(
        scope=Scope(ScopeKind.TENANT),
        window=Window(MARGIN + name, bucket_ms, divide_up(rules.throttle_window_ms, bucket_ms)),
        limit=Limit(requests=rules.max_requests_per_window),
        mode=CapMode.SHADOW if rules.mode is Mode.SHADOW else CapMode.ENFORCE,
    )


def _others(plan: Plan, asked: Asked) -> list[Option]:
    """What else could serve the request as it was asked: other upstreams of the same model, and
    where it may go to another model, the fallbacks and the targets of steps."""
    made = plan.admission
    found = [*made.options[1:], *plan.spares[0]]
    return [
        each
        for each in found
        if each.changes == NO_CHANGES
        and (asked.may_change_model or each.upstream.public_name == plan.model)
    ]


def rerouted(plan: Plan, chosen: Option) -> Plan:
    """The same plan with this option before all others; what it was before is a fallback."""
    made = plan.admission
    own = [each for each, step in zip(made.options, made.steps, strict=True) if not step]
    rest = [each for each in own if each.upstream != chosen.upstream]
    losers = [each for each in plan.losers if each.upstream != chosen.upstream]
    plan = replace(plan, losers=(Loser(own[0].upstream, REROUTED), *losers), word=REROUTED)
    if chosen.upstream.public_name == own[0].upstream.public_name:
        return replace(plan, admission=_with_first(made, [chosen, *rest]))
    spares = [each for each in (*plan.spares[0], *rest) if each.upstream != chosen.upstream]
    return replace(
        plan,
        admission=_with_first(made, [chosen]),
        spares=(tuple(spares), *plan.spares[1:]),
        rerouted_by=REROUTED,
    )


def _with_first(made: Admission, first: Sequence[Option]) -> Admission:
    """The admission with other options where no step is taken."""
    count = made.steps.count(0)
    stage = made.candidates[0].stage
    candidates = [Candidate(each.upstream.label, each.hold, stage, each.elastic) for each in first]
    return Admission(
        (*first, *made.options[count:]),
        (*candidates, *made.candidates[count:]),
        (*[0 for _ in first], *made.steps[count:]),
    )
