"""Where a request goes that one model cannot serve and another may: a larger window, or another
policy. Pure.

Rules: planned only once it is needed, prompt counted and all, for most requests never need it; what
cannot carry the request, lacks what it uses, has too small a window or does not take such requests
(`when`, tags) is left out; who has to stay
with its model stays.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from metering.calibration import Calibration
from proxy.admission import Place, Route, count_prompts
from proxy.attempts import Attempt
from proxy.chat import ChatRequest
from proxy.choosing import Around, Chooser
from proxy.estimates import Estimates
from proxy.obstacles import Obstacles
from routing.degrade import Changes
from routing.fallback import Outcome, larger
from routing.policy import Option


def longer_route(route: Route) -> Route | None:
    """The route of a prompt that is known to be too long for the model asked for; None where its
    model has no `context_fallbacks`."""
    places = route.detours.get(Outcome.CONTEXT_TOO_LONG, ())
    return _route_of(route, places) if places else None


@dataclass(frozen=True, slots=True)
class Detours:
    """The detours of one request; `is_elastic` as for its estimates, `around` as for its choice."""

    route: Route
    request: ChatRequest
    is_elastic: bool
    around: Around

    def options(
        self, outcome: Outcome, changes: Changes, calibration: Calibration | None = None
    ) -> list[Option]:
        """The upstreams that the model asked for names for this outcome, with these changes."""
        places = self.route.detours.get(outcome, ())
        if not places:
            return []
        route = _route_of(self.route, places)
        prompt = count_prompts(self.request, route, calibration)
        estimates = Estimates(route, self.request, prompt, is_elastic=self.is_elastic)
        obstacles = Obstacles(route, self.request, prompt, estimates)
        chooser = Chooser(
            route, self.request, prompt, self.around, estimates=estimates, obstacles=obstacles
        )
        return [
            estimates.option(place, changes)
            for place in places
            if chooser.against(place, changes) is None
        ]

    def has_left(self, outcome: Outcome, attempts: Sequence[Attempt]) -> bool:
        """Whether the model asked for names another one for this outcome than those tried."""
        tried = {each.option.upstream.public_name for each in attempts}
        places = self.route.detours.get(outcome, ())
        return any(place.upstream.public_name not in tried for place in places)


def after(
    outcome: Outcome,
    tried: Sequence[tuple[Option, Outcome | None]],
    *,
    named: Sequence[Option],
    waiting: Sequence[Option],
) -> list[Option]:
    """What is left to try after this outcome of the last of `tried`, each upstream once.

    `named` are the options that the model names for it, `waiting` those of its route that were not
    tried yet: for a prompt that is too long, those with a window that is known to be larger.
    """
    failed = tried[-1][0]
    if outcome is Outcome.CONTEXT_TOO_LONG:
        found = [*_not_smaller(named, failed), *larger(waiting, than=failed)]
    else:
        refused = {each.upstream.public_name for each, how in tried if how is outcome}
        found = [each for each in named if each.upstream.public_name not in refused]
    been: Collection[str] = {each.upstream.label for each, _ in tried}
    return list(
        {each.upstream.label: each for each in found if each.upstream.label not in been}.values()
    )


def _not_smaller(named: Sequence[Option], failed: Option) -> list[Option]:
    """Those whose window is larger, or not known: somebody named them."""
    least = failed.context_tokens_max
    return [
        each
        for each in named
        if least is None or each.context_tokens_max is None or each.context_tokens_max > least
    ]


def _route_of(route: Route, places: tuple[Place, ...]) -> Route:
    return replace(
        route, own=places, spare=(), targets={}, rungs=(), stairs=None, losers=(), detours={}
    )
