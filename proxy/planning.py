"""From a route and a request to what is reserved: a hold at each stage, and what changes there.

Pure: returns the plan or raises the refusal that stands in its way. The hold covers the prompt as
we count it plus every output token that the request may ask for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from metering.caps import Elastic, Stairs, Vector
from metering.money import AMOUNT_NANO_MAX, amount_nano
from metering.prices import Price
from metering.tokenizer import tokenizer_for
from metering.usage import INPUT_UNCACHED
from proxy.admission import Place, PromptCount, Route
from proxy.allowance import elastic
from proxy.changes import instruction_tokens
from proxy.chat import ChatRequest
from proxy.errors import ContextTooLong, InvalidRequest, ProviderUnavailable, UnsupportedParameter
from proxy.needs import needs_of
from proxy.passage import Passage, passage
from proxy.settings import Settings
from proxy.wire import client_format
from proxy.wishes import USUAL, Wishes
from routing.abilities import ANY, Needs, is_too_long, lacks
from routing.degrade import DEARER, NO_CHANGES, Changes, Ladder, Skip, climb, effective
from routing.policy import Admission, Option, admission
from routing.upstreams import Upstream

ENDPOINT = "endpoint"
"""What an upstream lacks whose vendor has nothing of the kind that was asked for."""

OWN_MODEL = "the_model_asked_for"
"""What every other model lacks for a request whose answers are worth nothing beside another's."""


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
    return _Planner(route, request, prompt, wishes).plan()


class _Planner:
    """One plan in the making."""

    def __init__(
        self, route: Route, request: ChatRequest, prompt: PromptCount, wishes: Wishes
    ) -> None:
        self._route, self._request, self._prompt = route, request, prompt
        self._wishes = wishes
        self._costs: dict[str, int] = {}
        self._needs: Needs | None = None
        """What the request uses; read from its body once somebody asks."""
        self._is_elastic = request.stream or (wishes.clamp and route.clamps)

    def plan(self) -> Plan:
        route = self._route
        own, spare, spare_skips = self._able()
        usual = [self.option(place, NO_CHANGES) for place in own]
        if route.stairs is None or not self._wishes.degrade:
            made = admission([usual])
            spares = tuple([self.option(place, NO_CHANGES) for place in spare])
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
            self._check_context(first)
            if not route.spare and not any(self._uncarried(place) for place in route.own):
                return route.own, (), ()
        chain, skips = [], {}
        for place in (*route.own, *route.spare):
            model = place.upstream.public_name
            is_own = model == route.model
            missing = self._uncarried(place) if is_own else self._lacks(place, NO_CHANGES)
            if not missing:
                chain.append(place)
            elif not is_own:
                skips[model] = Skip(model, _lacks_text(missing))
        if not chain and first.upstream.public_name == route.model:
            raise self._not_carried(first)
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
                found[key] = tuple([self.option(place, key[1]) for place in places])
            return found[key]

        return climb(route.rungs, judge=judge, make=make)

    def _judge(self, name: str, changes: Changes, usual: Option) -> int | str:
        """What the first able and cheaper upstream of a model comes to, or why there is none."""
        reason = ""
        for place in self._route.targets.get(name, ()):
            missing = self._lacks(place, changes)
            if not missing and self._is_cheaper(place, usual):
                return self._cost(place)
            reason = reason or (_lacks_text(missing) if missing else DEARER)
        return reason or ("same" if name == self._route.model else "unavailable")

    def _able_of(self, name: str, changes: Changes, usual: Option) -> list[Place]:
        return [
            place
            for place in self._route.targets[name]
            if self._is_cheaper(place, usual) and not self._lacks(place, changes)
        ]

    def _is_cheaper(self, place: Place, usual: Option) -> bool:
        """Cheaper than what was asked for, with the same output, whatever steps make of that.
        Nothing is known to be cheaper than what has no price."""
        return self._cost(place) < usual.hold.nano

    def _cost(self, place: Place) -> int:
        """What the request would hold there as it was asked."""
        cost = self._costs.get(place.upstream.label)
        if cost is None:
            tokens = self._prompt.tokens(place.upstream)
            cost = self._nano(place.price, tokens, self._output(NO_CHANGES))
            self._costs[place.upstream.label] = cost
        return cost

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
                        self.option(place, first.changes)
                        for place in spare
                        if not self._lacks(place, first.changes)
                        and (not is_away or self._is_cheaper(place, usual))
                    ]
                )
            )
        return tuple(found)

    def option(self, place: Place, changes: Changes) -> Option:
        """The place with what it would hold for this request with these changes."""
        changes = self._possible(place, changes)
        input_tokens = self._input(place, changes)
        output_tokens = self._output(changes)
        nano = self._nano(place.price, input_tokens, output_tokens)
        return Option(
            place.upstream,
            place.price,
            Vector(nano, input_tokens + output_tokens, 1),
            changes,
            input_tokens,
            output_tokens,
            self._elastic(place, input_tokens, output_tokens),
        )

    def _possible(self, place: Place, changes: Changes) -> Changes:
        """What of the changes can be written in the format that is sent there: no instruction where
        there is no place for one, no bound below the least that is taken."""
        if changes is NO_CHANGES or (way := self._way(place)) is None:
            return changes
        max_tokens, instruct = changes.max_tokens, changes.instruct
        if max_tokens is not None:
            max_tokens = max(max_tokens, way.upstream.LIMIT_MIN)
        found = Changes(max_tokens, instruct if way.upstream.INSTRUCTS else None)
        return effective(found, self._request.output_limit)

    def _way(self, place: Place) -> Passage | None:
        return passage(self._request.format, place.formats)

    def _elastic(self, place: Place, input_tokens: int, output_tokens: int) -> Elastic | None:
        """How far the hold may shrink: not below a useful answer for every choice, nor below what a
        request may be cut to."""
        way = self._way(place)
        least = max(self._route.min_output_tokens, 1 if way is None else way.upstream.LIMIT_MIN)
        tokens_min = least * self._request.candidates
        if not self._is_elastic or output_tokens <= tokens_min:
            return None
        return elastic(place.price, input_tokens=input_tokens, tokens_min=tokens_min)

    def _nano(self, price: Price | None, input_tokens: int, output_tokens: int) -> int:
        if price is None:
            return 0
        nano = price.sell.hold_nano(input_tokens=input_tokens, output_tokens=output_tokens)
        # more than any cap can be: it is refused as what can never fit, not as a failure of ours
        return min(nano, AMOUNT_NANO_MAX)

    def _input(self, place: Place, changes: Changes) -> int:
        tokens = self._prompt.tokens(place.upstream)
        if changes.instruct is not None:
            tokens += instruction_tokens(place.tokenizer, changes.instruct)
        return tokens

    def _output(self, changes: Changes) -> int:
        """Output tokens that the hold must cover, over all choices."""
        tokens = self._request.output_bound(self._route.default_output_tokens)
        if changes.max_tokens is None:
            return tokens
        return min(tokens, changes.max_tokens * self._request.candidates)

    def _choice_tokens(self, changes: Changes) -> int:
        """Output tokens of one choice, as far as the request bounds them; at least one."""
        bounds = [self._request.output_limit, changes.max_tokens]
        return min([each for each in bounds if each is not None], default=1)

    def _uncarried(self, place: Place) -> tuple[str, ...]:
        """What of the request cannot be said to this upstream: fields by name."""
        request = self._request
        if request.format in place.formats:
            return ()
        way = self._way(place)
        if way is None:
            return (ENDPOINT,)
        if place.drops and request.chat.get("messages"):
            return ()  # where nothing of the conversation can be said, there is nothing to ask
        return tuple(way.lacks(request))

    def _not_carried(self, place: Place) -> InvalidRequest:
        missing, model = self._uncarried(place), self._route.model
        if missing == (ENDPOINT,):
            return InvalidRequest(
                f"No upstream of the model `{model}` serves this endpoint.", param="model"
            )
        names = ", ".join([f"`{name}`" for name in missing])
        return UnsupportedParameter(
            f"The model `{model}` is served in another wire format, which cannot carry {names}. "
            "Leave it out, or ask for a model that takes it.",
            param=missing[0],
        )

    def _lacks(self, place: Place, changes: Changes) -> tuple[str, ...]:
        is_other = place.upstream.public_name != self._route.model
        if is_other and client_format(self._request.format).KEEPS_MODEL:
            return (OWN_MODEL,)
        if uncarried := self._uncarried(place):
            return uncarried
        if place.abilities == ANY:
            return ()
        if self._needs is None:
            self._needs = needs_of(self._request.chat)
        return lacks(
            place.abilities,
            self._needs,
            prompt_tokens=self._input(place, self._possible(place, changes)),
            output_tokens=self._choice_tokens(changes),
        )

    def _check_context(self, place: Place) -> None:
        abilities, limit = place.abilities, self._request.output_limit
        longest = abilities.max_context_tokens
        if longest is None:
            return
        tokens = self._prompt.tokens(place.upstream)
        if not is_too_long(
            abilities, prompt_tokens=tokens, output_tokens=self._choice_tokens(NO_CHANGES)
        ):
            return
        if limit is None or tokens > longest:
            raise ContextTooLong(
                f"This model's maximum context length is {longest} tokens. However, your messages "
                f"resulted in {tokens} tokens. Please reduce the length of the messages.",
                param="messages",
            )
        raise ContextTooLong(
            f"This model's maximum context length is {longest} tokens. However, you requested "
            f"{tokens + limit} tokens ({tokens} in the messages, {limit} in the completion). "
            "Please reduce the length of the messages or completion.",
            param="messages",
        )


def _lacks_text(missing: Sequence[str]) -> str:
    return f"lacks={','.join(missing)}"


def upstream_facts(plan: Plan, settings: Settings) -> list[tuple[str | int | None, ...]]:
    """What differs between the upstreams of a plan, as `metering.recovery.UpstreamFacts` has it.

    An upstream that may be asked in several forms stands there once, with its longest prompt.
    """
    options = plan.options
    if len(options) == 1:
        return [_facts(options[0], settings)]
    longest: dict[Upstream, Option] = {}
    for option in options:
        known = longest.get(option.upstream)
        if known is None or known.prompt_tokens < option.prompt_tokens:
            longest[option.upstream] = option
    return [_facts(option, settings) for option in longest.values()]


def _facts(option: Option, settings: Settings) -> tuple[str | int | None, ...]:
    upstream, price, tokens = option.upstream, option.price, option.prompt_tokens
    return (
        settings.providers[upstream.provider].type,
        upstream.provider,
        upstream.public_name,
        upstream.model,
        tokenizer_for(upstream.model).name,
        price.cost.version if price else None,
        price.sell.version if price else None,
        tokens,
        amount_nano(tokens, price.cost.rates_pico[INPUT_UNCACHED]) if price else 0,
    )
