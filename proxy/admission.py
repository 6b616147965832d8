"""From a model and a tenant to where its requests may go: upstreams, prices, degradation steps.

Pure: takes settings and a request, or raises the refusal that stands in its way. What depends on
the model and the tenant's limits alone is a `Route`, found once; `proxy.planning` makes from it
what one request reserves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from metering.calibration import Calibration
from metering.caps import Stairs
from metering.prices import Price, PriceBook
from metering.steps import Steps, burst
from metering.tenants import DEFAULT_PROJECT, Tenant
from metering.tokenizer import Tokenizer, tokenizer_for
from proxy import vendors
from proxy.chat import OPENAI_CHAT, ChatRequest
from proxy.errors import (
    ApiError,
    ModelNotAllowed,
    ModelNotFound,
    ProviderUnavailable,
    UnpricedModel,
)
from proxy.price_asks import is_search_model
from proxy.settings import Settings
from proxy.wire import client_format
from routing.abilities import ANY, Abilities
from routing.degrade import Rung, rungs
from routing.fallback import Outcome
from routing.policy import DISABLED, Loser, rank
from routing.retries import OnFailure
from routing.upstreams import AS_WRITTEN, Model, Policy, Upstream, candidates


@dataclass(frozen=True, slots=True)
class Place:
    """An upstream with what its requests need: price, tokenizer, and what its model can take."""

    upstream: Upstream
    price: Price | None
    tokenizer: Tokenizer
    abilities: Abilities = ANY
    formats: tuple[str, ...] = (OPENAI_CHAT,)
    """The wire formats that are spoken there."""
    drops: bool = False
    """Whether what these cannot carry is left out."""
    searches: bool = False
    """Whether its model searches the web for every answer."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where the requests for one model under one set of limits may go.

    `own` are the upstreams of the first model that can be called, `spare` those of the fallback
    models of the route, `targets` those of every model that a degradation step names. `reason` is
    the word for a degradation because a stage is in force. `policies` say how the upstreams of a
    model are chosen among, where that is not as they are written.
    """

    model: str
    own: tuple[Place, ...]
    spare: tuple[Place, ...]
    targets: Mapping[str, tuple[Place, ...]]
    rungs: tuple[Rung, ...]
    stairs: Stairs | None
    reason: str
    losers: tuple[Loser, ...]
    default_output_tokens: int
    clamps: bool
    min_output_tokens: int
    detours: Mapping[Outcome, tuple[Place, ...]] = field(default_factory=dict)
    """Where else a request may go after this outcome, by what its model says; not counted among
    `places`."""
    default_tool_uses: int = 10
    is_capped: bool = False
    """Whether its tenants have a money cap: what has no price is not for them."""
    policies: Mapping[str, Policy] = field(default_factory=dict)
    chooses: bool = True
    """Whether anything beside the body matters: a single upstream without conditions is the one."""
    continues: bool = False
    """Whether a stream that breaks off may be continued by another upstream."""

    @property
    def places(self) -> tuple[Place, ...]:
        """Every place this request could reach."""
        if not self.targets:
            return self.own + self.spare
        targets = [place for places in self.targets.values() for place in places]
        return (*self.own, *targets, *self.spare)


def by_model(places: Sequence[Place]) -> list[tuple[str, tuple[Place, ...]]]:
    """The places of each public model, in the order given."""
    return [
        (name, tuple(found))
        for name, found in groupby(places, key=lambda each: each.upstream.public_name)
    ]


@dataclass(frozen=True, slots=True)
class PromptCount:
    """The prompt's tokens by the name of each upstream model of the route."""

    by_model: Mapping[str, int]
    uncalibrated: Mapping[str, int] = field(default_factory=dict)
    """Our own counts, of text alone and for models without a tokenizer of ours: what providers
    report is compared with them."""

    def tokens(self, upstream: Upstream) -> int:
        """The prompt as this upstream's model counts it."""
        return self.by_model[upstream.model]


_RouteKey = tuple[str, bool, bool, tuple[str, Steps] | None]


class Routes:
    """The routes of these settings, each found once. Replaced as a whole with the settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._unavailable = {
            name: provider.unavailable
            for name, provider in settings.providers.items()
            if provider.unavailable
        }
        self._found: dict[_RouteKey, Route | ApiError] = {}
        self._of_eras: dict[int, Routes] = {}

    def find(
        self,
        tenant: Tenant,
        model: str,
        project: str = DEFAULT_PROJECT,
        at_ns: int | None = None,
    ) -> Route:
        """The route for a model, at the prices of `at_ns`: those of the loading without it.
        Raises the refusal when the tenant cannot have it."""
        prices = self._settings.prices
        if at_ns is not None and (book := prices.at(at_ns)) is not prices:
            return self._of_era(book).find(tenant, model, project)
        asked = self._settings.models.get(model)
        if asked is None:
            raise ModelNotFound(
                f"The model `{model[:100]}` does not exist here. "
                "GET /v1/models lists those that do.",
                param="model",
            )
        if not tenant.may_use(model):
            raise ModelNotAllowed(
                f"Tenant `{tenant.id}` may not use the model `{model}`; "
                "its allow-list is `tenants[].models` in the configuration.",
                param="model",
            )
        steps = steps_of(asked, tenant, project)
        key = (model, tenant.has_money_cap, tenant.steps_in_shadow, steps)
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = self._search(*key)
        if isinstance(found, ApiError):
            raise found.again()
        return found

    def _of_era(self, book: PriceBook) -> Routes:
        """The routes at another era's prices: rules with dates make few eras."""
        found = self._of_eras.get(book.effective_from_ns)
        if found is None:
            settings = replace(self._settings, prices=book)
            found = self._of_eras[book.effective_from_ns] = Routes(settings)
        return found

    def _search(
        self, model: str, is_capped: bool, is_shadow: bool, written: tuple[str, Steps] | None
    ) -> Route | ApiError:
        settings = self._settings
        priced = self._prices(candidates(settings.models, model))
        ranked = rank(priced, unavailable=self._unavailable, must_be_priced=is_capped)
        if not ranked.upstreams:
            return _nothing_left(model, ranked.losers, self._unavailable)
        first = ranked.upstreams[0].public_name
        own = [each for each in ranked.upstreams if each.public_name == first]
        spare = [each for each in ranked.upstreams if each not in own]
        writer, steps = written or ("", None)
        return Route(
            model=model,
            own=self._places(own, priced),
            spare=self._places(spare, priced),
            targets={
                step.to: self._target(step.to)
                for step in (steps.steps if steps else ())
                if step.to is not None and step.to != model
            },
            rungs=rungs(steps.steps if steps else ()),
            stairs=steps.stairs(writer, is_shadow=is_shadow) if steps else None,
            reason=BURST if writer == BURST else "step",
            losers=ranked.losers,
            default_output_tokens=settings.default_output_tokens,
            clamps=settings.clamp_max_tokens,
            min_output_tokens=settings.min_output_tokens,
            detours=self._detours(settings.models[model].on_failure, is_capped),
            default_tool_uses=settings.default_tool_uses,
            is_capped=is_capped,
            policies={
                name: each.policy
                for name, each in settings.models.items()
                if each.policy != AS_WRITTEN
            },
            chooses=len(ranked.upstreams) > 1 or own[0].terms.when is not None or bool(steps),
            continues=settings.models[model].on_failure.continue_on_cut,
        )

    def _detours(self, told: OnFailure, is_capped: bool) -> dict[Outcome, tuple[Place, ...]]:
        named = {
            Outcome.CONTEXT_TOO_LONG: told.context_fallbacks,
            Outcome.CONTENT_POLICY: told.content_policy_fallbacks,
        }
        found = {}
        for outcome, names in named.items():
            upstreams = [up for name in names for up in self._settings.models[name].upstreams]
            priced = self._prices(upstreams)
            ranked = rank(priced, unavailable=self._unavailable, must_be_priced=is_capped)
            if ranked.upstreams:
                found[outcome] = self._places(ranked.upstreams, priced)
        return found

    def _target(self, model: str) -> tuple[Place, ...]:
        priced = self._prices(candidates(self._settings.models, model))
        ranked = rank(priced, unavailable=self._unavailable, must_be_priced=True)
        return self._places(ranked.upstreams, priced)

    def _places(
        self, upstreams: Sequence[Upstream], prices: Mapping[Upstream, Price | None]
    ) -> tuple[Place, ...]:
        return tuple(self._place(each, prices[each]) for each in upstreams)

    def _place(self, upstream: Upstream, price: Price | None) -> Place:
        provider = self._settings.providers[upstream.provider]
        return Place(
            upstream,
            price,
            tokenizer_for(upstream.model),
            upstream.terms.abilities.over(self._settings.models[upstream.public_name].abilities),
            tuple(vendors.vendor(provider.type).formats(provider)),
            provider.drop_unsupported,
            is_search_model(upstream.model),
        )

    def _prices(self, upstreams: Sequence[Upstream]) -> dict[Upstream, Price | None]:
        find = self._settings.prices.find
        return {
            each: find(provider=each.provider, model=each.model, public_name=each.public_name)
            for each in upstreams
        }


BURST = "burst_threshold"
"""Who writes the step of `burst_threshold`, and the reason that answers give for it."""


def steps_of(asked: Model, tenant: Tenant, project: str) -> tuple[str, Steps] | None:
    """The steps for requests of a project for a model, and who wrote them: the most specific
    writer's, of model, project and tenant."""
    if asked.steps is not None:
        return (f"model/{asked.name}", asked.steps) if asked.steps.steps else None
    steps = tenant.project_steps.get(project)
    if steps is not None:
        return (f"project/{project}", steps) if steps.steps else None
    limits = tenant.limits
    if limits.steps is not None:
        return ("tenant", limits.steps) if limits.steps.steps else None
    if limits.fallback_model is not None:
        return BURST, burst(limits.burst_threshold_ppm, limits.fallback_model)
    return None


def count_prompts(
    request: ChatRequest, route: Route, calibration: Calibration | None = None
) -> PromptCount:
    """Count the prompt as each upstream model does. The costly step: give long ones a thread.

    Models that share a tokenizer share the count of plain text; what an image costs depends on
    the model it is sent to.
    """
    count = client_format(request.format).prompt_tokens
    is_plain = not any(
        isinstance(message, dict) and isinstance(message.get("content"), list)
        for message in request.chat.get("messages", ())
    )
    counted: dict[str, int] = {}
    by_model: dict[str, int] = {}
    uncalibrated: dict[str, int] = {}
    for place in route.places:
        model = place.upstream.model
        key = place.tokenizer.name if is_plain else model
        if key not in counted:
            counted[key] = count(request, place.tokenizer, model)
        by_model[model] = counted[key]
        if calibration is not None and not place.tokenizer.is_exact:
            by_model[model] = calibration.scaled(model, counted[key])
            if is_plain:
                uncalibrated[model] = counted[key]
    return PromptCount(by_model, uncalibrated)


def _nothing_left(
    model: str, losers: tuple[Loser, ...], unavailable: Mapping[str, str]
) -> ApiError:
    callable_losers = [
        loser
        for loser in losers
        if loser.upstream.provider not in unavailable and loser.reason != DISABLED
    ]
    if callable_losers:
        upstream = callable_losers[0].upstream
        return UnpricedModel(
            f"The model `{model}` has no price, and this tenant has a money cap. Add a rule for "
            f"`{upstream.model}` (or `{model}`) to `pricing.rules`.",
            param="model",
        )
    reasons = sorted({f"{loser.upstream.provider}: {loser.reason}" for loser in losers})
    return ProviderUnavailable(
        f"No provider of the model `{model}` can be called: {'; '.join(reasons)}."
    )
