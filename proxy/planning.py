"""From a route and a request to what is reserved: a hold at each stage, and what changes there.

Pure: returns the plan or raises the refusal that stands in its way. The hold covers the prompt as
we count it plus every output token that the request may ask for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from metering.caps import Stairs
from proxy.admission import Place, PromptCount, Route
from proxy.chat import ChatRequest
from proxy.detours import Detours
from proxy.errors import ProviderUnavailable
from proxy.estimates import Estimates
from proxy.obstacles import Obstacles, lacks_text
from proxy.wishes import USUAL, Wishes
from routing.degrade import DEARER, NO_CHANGES, Changes, Ladder, Skip, climb, effective
from routing.policy import Admission, Option, admission


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

    @property
    def options(self) -> tuple[Option, ...]:
        """Every option there is."""
        return (*self.admission.options, *[each for spare in self.spares for each in spare])

    def order(self, index: int) -> list[Option]:
        """The admitted option, the others of its step, then those of the fallback models; each
        upstream once."""
        options, steps = self.admission.options, self.admission.steps
        step = steps[index]
        if len(options) == 1 and not self.spares[step]:
            return [options[0]]
        same = [each for i, each in enumerate(options[index:], index) if steps[i] == step]
        return list({each.upstream: each for each in (*same, *self.spares[step])}.values())


def plan(route: Route, request: ChatRequest, prompt: PromptCount, wishes: Wishes = USUAL) -> Plan:
    """What to reserve for this request on its route."""
    planner = _Planner(route, request, prompt, wishes)
    planned = planner.plan()
    if not route.detours:
        return planned
    return replace(planned, detours=Detours(route, request, planner.is_elastic))


class _Planner:
    """One plan in the making."""

    def __init__(
        self, route: Route, request: ChatRequest, prompt: PromptCount, wishes: Wishes
    ) -> None:
        self._route, self._request, self._prompt = route, request, prompt
        self._wishes = wishes
        self.is_elastic = request.stream or (wishes.clamp and route.clamps)
        self._estimates = Estimates(route, request, prompt, is_elastic=self.is_elastic)
        self._obstacles = Obstacles(route, request, prompt, self._estimates)

    def plan(self) -> Plan:
        route = self._route
        own, spare, spare_skips = self._able()
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
        )

    def _able(self) -> tuple[Sequence[Place], Sequence[Place], tuple[Skip, ...]]:
        """The places of the first model and of its fallback models, without those fallback models
        that lack what the request uses; the asked model itself is not kept from its upstream but
        for a context that is too long."""
        route = self._route
        first = route.own[0]
        if first.upstream.public_name == route.model:
            self._obstacles.check_context(first)
            if not route.spare and not any(self._obstacles.uncarried(place) for place in route.own):
                return route.own, (), ()
        chain, skips = [], {}
        for place in (*route.own, *route.spare):
            model = place.upstream.public_name
            is_own = model == route.model
            missing = (
                self._obstacles.uncarried(place)
                if is_own
                else self._obstacles.lacks(place, NO_CHANGES)
            )
            if not missing:
                chain.append(place)
            elif not is_own:
                skips[model] = Skip(model, lacks_text(missing))
        if not chain and first.upstream.public_name == route.model:
            raise self._obstacles.not_carried(first)
        if not chain:
            told = "; ".join(f"{skip.model}: {skip.reason}" for skip in skips.values())
            raise ProviderUnavailable(
                f"No provider of the model `{route.model}` can be called, and its fallbacks cannot "
                f"serve this request ({told})."
            )
        name = chain[0].upstream.public_name
        return (
            [place for place in chain if place.upstream.public_name == name],
            [place for place in chain if place.upstream.public_name != name],
            tuple(skips.values()),
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
        reason = ""
        for place in self._route.targets.get(name, ()):
            missing = self._obstacles.lacks(place, changes)
            if not missing and self._estimates.is_cheaper(place, usual):
                return self._estimates.cost(place)
            reason = reason or (lacks_text(missing) if missing else DEARER)
        return reason or ("same" if name == self._route.model else "unavailable")

    def _able_of(self, name: str, changes: Changes, usual: Option) -> list[Place]:
        return [
            place
            for place in self._route.targets[name]
            if self._estimates.is_cheaper(place, usual)
            and not self._obstacles.lacks(place, changes)
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
                        if not self._obstacles.lacks(place, first.changes)
                        and (not is_away or self._estimates.is_cheaper(place, usual))
                    ]
                )
            )
        return tuple(found)
