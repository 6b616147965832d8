"""What the record of a hold says of its exchange, for whoever has to settle it in its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from metering.money import amount_nano
from metering.recovery import encode_facts
from metering.tokenizer import tokenizer_for
from metering.usage import INPUT_UNCACHED
from proxy.attempts import Facts
from proxy.planning import Plan
from proxy.settings import Settings
from routing.policy import Option
from routing.upstreams import Upstream


def hold_facts(facts: Facts, upstreams: Sequence[tuple[Any, ...]]) -> bytes:
    """What the record of the hold says of an exchange that was never checkpointed.

    `upstreams` as in `metering.recovery.encode_facts`.
    """
    key = facts.principal.key
    labels = {
        "request_id": facts.request_id,
        "project": key.project,
        "api_key_id": key.id,
        "occurred_at": facts.occurred_at,
        "model_requested": facts.model_requested,
        "stream": facts.stream,
        "user": facts.user,
        "feature": facts.feature,
        "session": facts.session,
        "run": facts.run,
        "step": facts.step,
        "client_retry_count": facts.client_retry_count,
    }
    return encode_facts(labels, upstreams)


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


def detour_facts(
    option: Option, plan: Plan, settings: Settings
) -> list[tuple[str | int | None, ...]]:
    """The same for an exchange that goes where its plan has not led it."""
    return [_facts(option, settings), *upstream_facts(plan, settings)]


def _facts(option: Option, settings: Settings) -> tuple[str | int | None, ...]:
    upstream, price, tokens = option.upstream, option.price, option.prompt_tokens
    units = {INPUT_UNCACHED: tokens}
    tier: str | None = None
    more: tuple[str | None, ...] = ()
    if price is not None and price.sell.variants is not None:
        tier = price.choose_tier(reported=None, asked=option.asked_tier).tier
        price = price.at(units, tier=tier, region=option.region)
    if tier is not None or option.region is not None:
        more = (option.region, tier)
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
        *more,
    )
