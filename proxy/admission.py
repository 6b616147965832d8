"""From a request to what may be reserved for it: which upstreams, at which price, holding what.

Pure: takes settings and a request, returns an `Admission` or raises the refusal that stands in its
way. The hold covers the prompt as we count it plus every output token the request may ask for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from metering.caps import ROLLING_DAY, Cap, Limit, Scope, ScopeKind, Vector
from metering.money import PPM
from metering.prices import PriceBook
from metering.prompt import count_prompt
from metering.tenants import Principal, SpendLimits, Tenant
from metering.tokenizer import Tokenizer, tokenizer_for
from proxy.chat import ChatRequest
from proxy.errors import ModelNotAllowed, ModelNotFound, ProviderUnavailable, UnpricedModel
from proxy.settings import Settings
from routing.policy import Admission, Loser, Option, admission, rank
from routing.upstreams import Upstream, candidates


@dataclass(frozen=True, slots=True)
class PromptCount:
    """The prompt's tokens in each tokenizer that a candidate needs, counted once each."""

    by_tokenizer: Mapping[str, int]

    def tokens(self, upstream: Upstream) -> int:
        """The prompt in this upstream's tokenizer."""
        return self.by_tokenizer[tokenizer_for(upstream.model).name]


@lru_cache(maxsize=4096)
def caps_of(limits: SpendLimits) -> tuple[Cap, ...]:
    """The caps an exchange stands under by these limits; the tenant's own spend always counts.

    The same tuple for the same limits: what is derived from it is found again by its identity.
    """
    return (
        Cap(
            scope=Scope(ScopeKind.TENANT),
            window=ROLLING_DAY,
            limit=Limit(nano=limits.daily_cap_nano),
        ),
    )


def check_model(settings: Settings, principal: Principal, model: str) -> None:
    """Raise the refusal for a model that does not exist or that this tenant may not use."""
    if model not in settings.models:
        raise ModelNotFound(
            f"The model `{model[:100]}` does not exist here. GET /v1/models lists those that do.",
            param="model",
        )
    if not principal.tenant.may_use(model):
        raise ModelNotAllowed(
            f"Tenant `{principal.tenant.id}` may not use the model `{model}`; "
            "its allow-list is `tenants[].models` in the configuration.",
            param="model",
        )


def upstreams_needed(settings: Settings, tenant: Tenant, model: str) -> list[Upstream]:
    """Every upstream this request could reach: by route, by fallback, by degradation."""
    found = candidates(settings.models, model)
    if tenant.limits.fallback_model:
        found += candidates(settings.models, tenant.limits.fallback_model)
    return list(dict.fromkeys(found))


def count_prompts(request: ChatRequest, upstreams: list[Upstream]) -> PromptCount:
    """Count the prompt once per tokenizer. The costly step: give long prompts a thread."""
    tokenizers: dict[str, Tokenizer] = {}
    for upstream in upstreams:
        tokenizer = tokenizer_for(upstream.model)
        tokenizers[tokenizer.name] = tokenizer
    return PromptCount(
        {name: count_prompt(tokenizer, request.body) for name, tokenizer in tokenizers.items()}
    )


def price_option(
    upstream: Upstream,
    request: ChatRequest,
    prompt: PromptCount,
    *,
    prices: PriceBook,
    default_output_tokens: int,
) -> Option:
    """The upstream with its price and what it would hold."""
    price = prices.find(
        provider=upstream.provider, model=upstream.model, public_name=upstream.public_name
    )
    input_tokens = prompt.tokens(upstream)
    output_tokens = request.output_bound(default_output_tokens)
    nano = (
        price.sell.hold_nano(input_tokens=input_tokens, output_tokens=output_tokens) if price else 0
    )
    return Option(
        upstream, price, Vector(nano=nano, tokens=input_tokens + output_tokens, requests=1)
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """What to reserve, and where to go when the first choice fails.

    `spare` are the options of fallback models: tried after those of the admitted model.
    """

    admission: Admission
    spare: tuple[Option, ...]
    losers: tuple[Loser, ...]


def plan(
    settings: Settings,
    principal: Principal,
    request: ChatRequest,
    prompt: PromptCount,
    unavailable: Mapping[str, str],
) -> Plan:
    """Rank the request's upstreams and say what to reserve; raises when none can be called."""
    limits = principal.tenant.limits
    is_capped = limits.daily_cap_nano is not None

    def options(upstreams: list[Upstream]) -> list[Option]:
        return [
            price_option(
                upstream,
                request,
                prompt,
                prices=settings.prices,
                default_output_tokens=settings.default_output_tokens,
            )
            for upstream in upstreams
        ]

    reachable = options(candidates(settings.models, request.model))
    ranked = rank(reachable, unavailable=unavailable, must_be_priced=is_capped)
    if not ranked.options:
        raise _nothing_left(request.model, ranked.losers, unavailable)
    first_model = ranked.options[0].upstream.public_name
    own = [option for option in ranked.options if option.upstream.public_name == first_model]
    degraded: list[Option] = []
    fallback = limits.fallback_model
    if fallback and fallback in settings.models and fallback != request.model:
        cheaper = options(candidates(settings.models, fallback))
        degraded = list(rank(cheaper, unavailable=unavailable, must_be_priced=True).options)
    return Plan(
        admission=admission(
            own, degraded, threshold_ppm=limits.burst_threshold_ppm if is_capped else PPM
        ),
        spare=tuple(option for option in ranked.options if option not in own),
        losers=ranked.losers,
    )


def _nothing_left(
    model: str, losers: tuple[Loser, ...], unavailable: Mapping[str, str]
) -> ProviderUnavailable | UnpricedModel:
    callable_losers = [loser for loser in losers if loser.upstream.provider not in unavailable]
    if callable_losers:
        upstream = callable_losers[0].upstream
        return UnpricedModel(
            f"The model `{model}` has no price, and this tenant has a money cap. Add a rule for "
            f"`{upstream.model}` (or `{model}`) to `pricing.rules`.",
            param="model",
        )
    return ProviderUnavailable(
        f"No provider of the model `{model}` can be called: "
        + "; ".join(sorted({f"{loser.upstream.provider}: {loser.reason}" for loser in losers}))
        + "."
    )
