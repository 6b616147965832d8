"""From a route and a request to what is reserved: a hold at each stage, and what changes there.

Pure: returns the plan or raises the refusal that stands in its way. The hold covers the prompt as
we count it plus every output token that the request may ask for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from metering.caps import Stairs
from proxy.admission import Place, PromptCount, Route, by_model
from proxy.chat import ChatRequest
from proxy.choosing import NOWHERE, Around, Chooser, Picked
from proxy.continuable import Continuable, may_continue
from proxy.detours import Detours
from proxy.errors import ApiError, ProviderUnavailable
from proxy.estimates import Estimates
from proxy.obstacles import Obstacles
from proxy.wishes import USUAL, Wishes
from routing.degrade import DEARER, NO_CHANGES, Changes, Ladder, Skip, climb, effective
from routing.policy import Admission, Loser, Option, admission
from routing.upstreams import Upstream


@dataclass(frozen=True, slots=True)
class Plan:
    """What to reserve, and where to go when the first choice fails.

    `spares` are the options of fallback models for each step of the admission, asked with its
    changes; `spare_skips` the fallback models that cannot serve this request. `skips` are, by
    stage, the models of a step that were passed over, `texts` what the stage comes to; at `closed`
    and above nothing is sent.
    """

    model: str
    admission: Admission
    spares: tuple[tuple[Option, ...], ...]
    stairs: Stairs | None = None
    reason: str = ""
    skips: tuple[tuple[Skip, ...], ...] = ()
    texts: tuple[str | None, ...] = ()
    spare_skips: tuple[Skip, ...] = ()
    closed: int | None = None
    uncalibrated: Mapping[str, int] = field(default_factory=dict)
    """As in the count of its prompt."""
    rerouted_by: str | None = None
    """Why another model is first than the one that was asked for, where no step says so."""
    detours: Detours | None = None
    """Where else it may go after some refusals; planned when that happens."""
    continuable: Continuable | None = None
    """What is needed to have its stream continued elsewhere, where that is wanted."""
    losers: tuple[Loser, ...] = ()
    """Every other upstream of the route, and why it is not first: unable, or asked later."""
    word: str = ""
    """Why the first option of stage 0 is first: `only`, `cheapest`, `affinity`."""

    @property
    def options(self) -> tuple[Option, ...]:
        """Every option there is."""
        return (*self.admission.options, *[each for spare in self.spares for each in spare])

    @property
    def own(self) -> dict[str, str]:
        """The upstreams of the model asked for that may answer this request, with their providers,
        in an order of their own: which of them is asked first changes with how they fare."""
        upstreams = [each.upstream for each in self.admission.options]
        found = {each.label: each.provider for each in upstreams if each.public_name == self.model}
        return dict(sorted(found.items()))

    def order(self, index: int) -> list[Option]:
        """The admitted option, the others of its step, then those of the fallback models; each
        upstream once."""
        options, steps = self.admission.options, self.admission.steps
        step = steps[index]
        if len(options) == 1 and not self.spares[step]:
            return [options[0]]
        same = [each for i, each in enumerate(options[index:], index) if steps[i] == step]
        return list({each.upstream: each for each in (*same, *self.spares[step])}.values())


FALLBACK = "fallback"
"""The reason against an upstream that serves a fallback model."""


def plan(
    route: Route,
    request: ChatRequest,
    prompt: PromptCount,
    wishes: Wishes = USUAL,
    around: Around = NOWHERE,
) -> Plan:
    """What to reserve for this request on its route."""
    planner = _Planner(route, request, prompt, wishes, around)
    made = planner.plan()
    if route.detours:
        made = replace(made, detours=Detours(route, request, planner.is_elastic, around))
    if route.continues and may_continue(request):
        made = replace(made, continuable=Continuable(route, request, planner.is_elastic))
    return made


def hindrances(
    route: Route, request: ChatRequest, prompt: PromptCount, wishes: Wishes, around: Around
) -> dict[Upstream, str]:
    """Which upstreams of the route cannot serve this request as it was asked, and why."""
    return _Planner(route, request, prompt, wishes, around).hindrances()


class _Planner:
    """One plan in the making."""

    def __init__(
        self,
        route: Route,
        request: ChatRequest,
        prompt: PromptCount,
        wishes: Wishes,
        around: Around,
    ) -> None:
        self._route, self._request, self._prompt = route, request, prompt
        self._wishes = wishes
        self.is_elastic = request.stream or (wishes.clamp and route.clamps)
        self._estimates = Estimates(route, request, prompt, is_elastic=self.is_elastic)
        self._obstacles = Obstacles(route, request, prompt, self._estimates)
        self._chooser = Chooser(
            route, request, prompt, around, estimates=self._estimates, obstacles=self._obstacles
        )

    def plan(self) -> Plan:
        route = self._route
        picked, spare, spare_skips = self._pick()
        own = picked.places
        losers = (*route.losers, *picked.losers) if route.losers else picked.losers
        usual = [self._estimates.option(place, NO_CHANGES) for place in own]
        if route.stairs is None or not self._wishes.degrade:
            made = admission([usual])
            spares = tuple([self._estimates.option(place, NO_CHANGES) for place in spare])
            return Plan(
                route.model,
                made,
                (spares,),
                spare_skips=spare_skips,
                uncalibrated=self._prompt.uncalibrated,
                losers=losers,
                word=picked.word,
            )
        ladder = self._climb(own, usual)
        made = admission([usual] if route.stairs.is_shadow else ladder.stages)
        return Plan(
            model=route.model,
            admission=made,
            spares=self._spares(made, spare, usual[0]),
            stairs=route.stairs,
            reason=route.reason,
            skips=ladder.skips,
            texts=tuple([stage[0].text_for(route.model) for stage in ladder.stages]),
            spare_skips=spare_skips,
            closed=ladder.closed,
            uncalibrated=self._prompt.uncalibrated,
            losers=losers,
            word=picked.word,
        )

    def hindrances(self) -> dict[Upstream, str]:
        """Of every place that cannot serve it, why."""
        found = {
            each.upstream: self._chooser.against(each, NO_CHANGES) for each in self._route.places
        }
        return {upstream: reason for upstream, reason in found.items() if reason is not None}

    def _pick(self) -> tuple[Picked, tuple[Place, ...], tuple[Skip, ...]]:
        """The places of the first model that can serve, in order; those of its fallback models; and
        the fallback models that cannot."""
        route = self._route
        found = self._chooser.pick(route.own, NO_CHANGES)
        if found.places and not route.spare:
            return found, (), ()
        picked = [found]
        skips: list[Skip] = []
        for model, places in by_model(route.spare):
            here = self._chooser.pick(places, NO_CHANGES)
            picked.append(here)
            if not here.places:
                skips.append(Skip(model, here.losers[-1].reason))
        able = [each for each in picked if each.places]
        if not able:
            raise self._nothing_able(found, skips)
        first, *others = able
        losers = [loser for each in picked for loser in each.losers]
        losers += [Loser(each.places[0].upstream, FALLBACK) for each in others]
        behind = [place for each in others for place in each.places]
        whole = replace(first, losers=tuple(losers))
        return whole, tuple(behind), tuple(skips)

    def _nothing_able(self, found: Picked, skips: Sequence[Skip]) -> ApiError:
        route = self._route
        if route.own[0].upstream.public_name == route.model:
            return self._obstacles.none_left(route.own, found.reasons)
        own = Skip(route.own[0].upstream.public_name, found.losers[-1].reason)
        told = "; ".join(f"{skip.model}: {skip.reason}" for skip in (own, *skips))
        return ProviderUnavailable(
            f"No provider of the model `{route.model}` can be called, and its fallbacks cannot "
            f"serve this request ({told})."
        )

    def _climb(self, own: Sequence[Place], usual: Sequence[Option]) -> Ladder[Option]:
        route, limit = self._route, self._request.output_limit
        found: dict[tuple[str | None, Changes], tuple[Option, ...]] = {
            (None, NO_CHANGES): tuple(usual)
        }

        def judge(name: str, changes: Changes) -> int | str:
            return self._judge(name, effective(changes, limit), usual[0])

        def make(name: str | None, changes: Changes) -> tuple[Option, ...]:
            key = (name, effective(changes, limit))
            if key not in found:
                places = own if name is None else self._able_of(name, key[1], usual[0])
                found[key] = tuple([self._estimates.option(place, key[1]) for place in places])
            return found[key]

        return climb(route.rungs, judge=judge, make=make)

    def _judge(self, name: str, changes: Changes, usual: Option) -> int | str:
        """What the first able and cheaper upstream of a model comes to, or why there is none."""
        places = self._route.targets.get(name, ())
        if not places:
            return "same" if name == self._route.model else "unavailable"
        able = self._able_of(name, changes, usual)
        if able:
            return self._estimates.cost(able[0])
        return self._chooser.against(places[0], changes) or DEARER

    def _able_of(self, name: str, changes: Changes, usual: Option) -> list[Place]:
        """The places behind this name that can serve for less: those of the model, in order, then
        those of its fallback models."""
        return [
            place
            for _, places in by_model(self._route.targets[name])
            for place in self._chooser.pick(places, changes).places
            if self._estimates.is_cheaper(place, usual)
        ]

    def _spares(
        self, made: Admission, spare: Sequence[Place], usual: Option
    ) -> tuple[tuple[Option, ...], ...]:
        """For each step what fallback models may be asked. Where it is degraded, with the same
        changes, and only if cheaper than the model asked for: else a failure undid the step."""
        found = []
        for step in range(max(made.steps) + 1):
            first = made.options[made.steps.index(step)]
            is_away = first.upstream.public_name != usual.upstream.public_name
            found.append(
                tuple(
                    [
                        self._estimates.option(place, first.changes)
                        for place in spare
                        if not self._chooser.against(place, first.changes)
                        and (not is_away or self._estimates.is_cheaper(place, usual))
                    ]
                )
            )
        return tuple(found)
