"""From a request to what may be reserved for it: which upstreams, at which price, holding what.

Pure: takes settings and a request, returns what to reserve or raises the refusal that stands in
its way. What depends on the model and the tenant's limits alone is a `Route`, found once; the hold
covers the prompt as we count it plus every output token the request may ask for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metering.caps import Stairs, Vector
from metering.money import AMOUNT_NANO_MAX, PPM, amount_nano
from metering.prices import Price
from metering.prompt import count_prompt
from metering.tenants import SpendLimits, Tenant
from metering.tokenizer import Tokenizer, tokenizer_for
from metering.usage import INPUT_UNCACHED
from proxy.chat import ChatRequest
from proxy.errors import (
    ApiError,
    ModelNotAllowed,
    ModelNotFound,
    ProviderUnavailable,
    UnpricedModel,
)
from proxy.settings import Settings
from routing.policy import Admission, Loser, Option, admission, rank
from routing.upstreams import Upstream, candidates


@dataclass(frozen=True, slots=True)
class Place:
    """An upstream with what its requests need: its price and its tokenizer."""

    upstream: Upstream
    price: Price | None
    tokenizer: Tokenizer


@dataclass(frozen=True, slots=True)
class Route:
    """Where the requests for one model under one set of limits may go.

    `own` are the upstreams of the first model that can be called, `degraded` those of the tenant's
    fallback model, `spare` those of the fallback models of the route.
    """

    own: tuple[Place, ...]
    degraded: tuple[Place, ...]
    spare: tuple[Place, ...]
    losers: tuple[Loser, ...]
    threshold_ppm: int
    default_output_tokens: int

    @property
    def places(self) -> tuple[Place, ...]:
        """Every place this request could reach."""
        return (*self.own, *self.degraded, *self.spare)


@dataclass(frozen=True, slots=True)
class PromptCount:
    """The prompt's tokens by the name of each upstream model of the route."""

    by_model: Mapping[str, int]

    def tokens(self, upstream: Upstream) -> int:
        """The prompt as this upstream's model counts it."""
        return self.by_model[upstream.model]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to reserve, and where to go when the first choice fails."""

    admission: Admission
    spare: tuple[Option, ...]
    stairs: Stairs | None = None


class Routes:
    """The routes of these settings, each found once. Replaced as a whole with the settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._unavailable = {
            name: provider.unavailable
            for name, provider in settings.providers.items()
            if provider.unavailable
        }
        self._found: dict[tuple[str, SpendLimits], Route | ApiError] = {}

    def find(self, tenant: Tenant, model: str) -> Route:
        """The route for a model; raises the refusal when the tenant cannot have it."""
        if model not in self._settings.models:
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
        key = (model, tenant.limits)
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = self._search(model, tenant.limits)
        if isinstance(found, ApiError):
            raise found.again()
        return found

    def _search(self, model: str, limits: SpendLimits) -> Route | ApiError:
        settings = self._settings
        is_capped = limits.daily_cap_nano is not None
        priced = self._prices(candidates(settings.models, model))
        ranked = rank(priced, unavailable=self._unavailable, must_be_priced=is_capped)
        if not ranked.upstreams:
            return _nothing_left(model, ranked.losers, self._unavailable)
        first = ranked.upstreams[0].public_name
        own = [each for each in ranked.upstreams if each.public_name == first]
        cheaper: dict[Upstream, Price | None] = {}
        fallback = limits.fallback_model
        if is_capped and fallback and fallback != model:
            cheaper = self._prices(candidates(settings.models, fallback))
        degraded = rank(cheaper, unavailable=self._unavailable, must_be_priced=True).upstreams
        spare = [each for each in ranked.upstreams if each not in own]
        return Route(
            own=_places(own, priced),
            degraded=_places(degraded, cheaper),
            spare=_places(spare, priced),
            losers=ranked.losers,
            threshold_ppm=limits.burst_threshold_ppm if is_capped else PPM,
            default_output_tokens=settings.default_output_tokens,
        )

    def _prices(self, upstreams: Sequence[Upstream]) -> dict[Upstream, Price | None]:
        find = self._settings.prices.find
        return {
            each: find(provider=each.provider, model=each.model, public_name=each.public_name)
            for each in upstreams
        }


def _places(
    upstreams: Sequence[Upstream], prices: Mapping[Upstream, Price | None]
) -> tuple[Place, ...]:
    return tuple(Place(each, prices[each], tokenizer_for(each.model)) for each in upstreams)


def count_prompts(request: ChatRequest, route: Route) -> PromptCount:
    """Count the prompt as each upstream model does. The costly step: give long ones a thread.

    Models that share a tokenizer share the count of plain text; what an image costs depends on
    the model it is sent to.
    """
    messages = request.body["messages"]
    is_plain = not any(
        isinstance(message, dict) and isinstance(message.get("content"), list)
        for message in messages
    )
    counted: dict[str, int] = {}
    by_model: dict[str, int] = {}
    for place in route.places:
        model = place.upstream.model
        key = place.tokenizer.name if is_plain else model
        if key not in counted:
            counted[key] = count_prompt(place.tokenizer, {**request.body, "model": model})
        by_model[model] = counted[key]
    return PromptCount(by_model)


def plan(route: Route, request: ChatRequest, prompt: PromptCount) -> Plan:
    """What to reserve for this request on its route."""
    output_tokens = request.output_bound(route.default_output_tokens)

    def option(place: Place) -> Option:
        input_tokens = prompt.tokens(place.upstream)
        nano = 0
        if place.price is not None:
            nano = place.price.sell.hold_nano(
                input_tokens=input_tokens, output_tokens=output_tokens
            )
        # more than any cap can be: it is refused as what can never fit, not as a failure of ours
        nano = min(nano, AMOUNT_NANO_MAX)
        hold = Vector(nano=nano, tokens=input_tokens + output_tokens, requests=1)
        return Option(place.upstream, place.price, hold)

    made = admission(
        [option(place) for place in route.own],
        [option(place) for place in route.degraded],
        threshold_ppm=route.threshold_ppm,
    )
    spare = tuple([option(place) for place in route.spare])
    return Plan(made, spare, made.stairs)


def upstream_facts(
    plan: Plan, prompt: PromptCount, settings: Settings
) -> list[tuple[str | int | None, ...]]:
    """What differs between the upstreams of a plan, as `metering.recovery.UpstreamFacts` has it."""
    found: list[tuple[str | int | None, ...]] = []
    for option in (*plan.admission.options, *plan.spare):
        upstream, price = option.upstream, option.price
        tokens = prompt.tokens(upstream)
        found.append(
            (
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
        )
    return found


def _nothing_left(
    model: str, losers: tuple[Loser, ...], unavailable: Mapping[str, str]
) -> ApiError:
    callable_losers = [loser for loser in losers if loser.upstream.provider not in unavailable]
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
