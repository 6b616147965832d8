"""The shape of the section `pricing`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BeforeValidator

from proxy.config_values import FORBID, Flag, Number, Text, Whole
from proxy.config_values import text as _text


@dataclass(frozen=True, kw_only=True)
class UnitRatesShape:
    """What is billed by something else than tokens, in USD per unit."""

    __pydantic_config__ = FORBID

    api_call: Number | None = None
    """USD per call; only in a rule without token rates."""
    inference: Number | None = None
    """USD per answered call; only in a rule without token rates."""
    image: Number | None = None
    """USD per image."""
    second: Number | None = None
    """USD per second."""
    compute_credit: Number | None = None
    """USD per compute credit."""
    custom: Number | None = None
    """USD per unit of a meter of your own, whose name is the rule's `model`."""


@dataclass(frozen=True, kw_only=True)
class FactorsShape:
    """How many times the list price it costs."""

    __pydantic_config__ = FORBID

    factor: Number | None = None
    """The list price times this, on both sides."""
    input_factor: Number | None = None
    """The input rates times this."""
    output_factor: Number | None = None
    """The output rates times this."""


@dataclass(frozen=True, kw_only=True)
class OverlayShape:
    """What it costs instead: factors, or rates for every class that the rule has a rate for."""

    __pydantic_config__ = FORBID

    factor: Number | None = None
    """The list price times this, on both sides."""
    input_factor: Number | None = None
    """The input rates times this."""
    output_factor: Number | None = None
    """The output rates times this."""
    input_per_mtok: Number | None = None
    """USD per million input tokens there, in the place of factors."""
    output_per_mtok: Number | None = None
    """USD per million output tokens there."""
    cache_read_per_mtok: Number | None = None
    """USD per million input tokens read from the provider's cache there."""
    cache_write_5m_per_mtok: Number | None = None
    """USD per million tokens written to a cache for five minutes there."""
    cache_write_1h_per_mtok: Number | None = None
    """USD per million tokens written to a cache for an hour there."""
    input_audio_per_mtok: Number | None = None
    """USD per million input tokens of sound there."""
    input_image_per_mtok: Number | None = None
    """USD per million input tokens of pictures there."""
    output_reasoning_per_mtok: Number | None = None
    """USD per million tokens of hidden reasoning there."""
    output_audio_per_mtok: Number | None = None
    """USD per million output tokens of sound there."""
    output_image_per_mtok: Number | None = None
    """USD per million output tokens of pictures there."""


@dataclass(frozen=True, kw_only=True)
class ContextTierShape:
    """What a long prompt costs: the whole request, not just what is above."""

    __pydantic_config__ = FORBID

    above_tokens: Whole
    """For requests whose whole input, cached or not, is more tokens than this."""
    factor: Number | None = None
    """The list price times this, on both sides."""
    input_factor: Number | None = None
    """The input rates times this."""
    output_factor: Number | None = None
    """The output rates times this."""
    input_per_mtok: Number | None = None
    """USD per million input tokens there, in the place of factors."""
    output_per_mtok: Number | None = None
    """USD per million output tokens there."""
    cache_read_per_mtok: Number | None = None
    """USD per million input tokens read from the provider's cache there."""
    cache_write_5m_per_mtok: Number | None = None
    """USD per million tokens written to a cache for five minutes there."""
    cache_write_1h_per_mtok: Number | None = None
    """USD per million tokens written to a cache for an hour there."""
    input_audio_per_mtok: Number | None = None
    """USD per million input tokens of sound there."""
    input_image_per_mtok: Number | None = None
    """USD per million input tokens of pictures there."""
    output_reasoning_per_mtok: Number | None = None
    """USD per million tokens of hidden reasoning there."""
    output_audio_per_mtok: Number | None = None
    """USD per million output tokens of sound there."""
    output_image_per_mtok: Number | None = None
    """USD per million output tokens of pictures there."""


@dataclass(frozen=True, kw_only=True)
class ToolFeesShape:
    """What the provider charges for its own tools, beside the tokens, in USD per thousand."""

    __pydantic_config__ = FORBID

    web_search: Number | None = None
    """USD per thousand searches of the web."""
    file_search: Number | None = None
    """USD per thousand searches of stored files."""
    code_session: Number | None = None
    """USD per thousand sandboxes that code was run in."""


@dataclass(frozen=True, kw_only=True)
class RuleShape:
    """What a model costs; each rate per token or per million tokens, one of the two."""

    __pydantic_config__ = FORBID

    model: Text
    """Upstream or public model name, or a glob; exact goes before glob, the longest glob wins."""
    provider: Text | None = None
    """Only for this provider."""
    input_rate: Number | None = None
    """USD per input token."""
    input_per_mtok: Number | None = None
    """USD per million input tokens."""
    output_rate: Number | None = None
    """USD per output token."""
    output_per_mtok: Number | None = None
    """USD per million output tokens."""
    cache_read_rate: Number | None = None
    """USD per input token read from the provider's cache; the input rate if left out."""
    cache_read_per_mtok: Number | None = None
    """USD per million input tokens read from the provider's cache."""
    cache_write_5m_rate: Number | None = None
    """USD per input token written to a cache for five minutes; the input rate if left out."""
    cache_write_5m_per_mtok: Number | None = None
    """USD per million of them."""
    cache_write_1h_rate: Number | None = None
    """USD per input token written to a cache for an hour; the input rate if left out."""
    cache_write_1h_per_mtok: Number | None = None
    """USD per million of them."""
    input_audio_rate: Number | None = None
    """USD per input token of sound; the input rate if left out."""
    input_audio_per_mtok: Number | None = None
    """USD per million of them."""
    input_image_rate: Number | None = None
    """USD per input token of a picture; the input rate if left out."""
    input_image_per_mtok: Number | None = None
    """USD per million of them."""
    output_reasoning_rate: Number | None = None
    """USD per output token of hidden reasoning; the output rate if left out."""
    output_reasoning_per_mtok: Number | None = None
    """USD per million of them."""
    output_audio_rate: Number | None = None
    """USD per output token of sound; the output rate if left out."""
    output_audio_per_mtok: Number | None = None
    """USD per million of them."""
    output_image_rate: Number | None = None
    """USD per output token of a picture; the output rate if left out."""
    output_image_per_mtok: Number | None = None
    """USD per million of them."""
    context_tiers: tuple[ContextTierShape, ...] = ()
    """Prices of [long prompts](money.md#tiers-regions-and-long-prompts)."""
    service_tier: Mapping[Text, OverlayShape] = field(default_factory=dict)
    """Prices by service tier (`flex`, `priority`, `batch`); `otherwise` for those not named."""
    usual_service_tier: Text | None = None
    """The tier of requests that name none, for an account that has one of its own."""
    region: Mapping[Text, FactorsShape] = field(default_factory=dict)
    """Factors by the region of the upstream; none for one that is not named."""
    per_thousand: ToolFeesShape | None = None
    """Fees of the provider's own tools."""
    multiplier: Number = Decimal(1)
    """What the tenant pays is the cost times this."""
    free: Flag = False
    """Allows rates of zero."""
    effective_from: Text | None = None
    """Since when this rule holds, RFC 3339 or a date (UTC), in the place of an earlier one."""
    unit_rates: UnitRatesShape | None = None
    """Prices of [events from outside](events-api.md); with them token rates may be left out."""


@dataclass(frozen=True, kw_only=True)
class PricingShape:
    """What models cost us and what tenants pay."""

    __pydantic_config__ = FORBID

    currency: Text = "USD"
    """USD; there is no other."""
    rounding: Annotated[Literal["nearest_cent"], BeforeValidator(_text)] = "nearest_cent"
    """Cents appear once, half-even, at the total of an invoice; everything else is exact."""
    effective_from: Text | None = None
    """Since when rules without a date of their own hold, RFC 3339 or a date (UTC)."""
    list_prices: Flag = False
    """Whether a served model without a rule has a [list price](prices.md#list-prices)."""
    list_multiplier: Number = Decimal(1)
    """What tenants pay for such a model is the list price times this."""
    rules: tuple[RuleShape, ...] = ()
    """The price list."""


NO_PRICES = PricingShape()
