"""The shape of the section `pricing`."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BeforeValidator

from proxy.config_values import FORBID, Flag, Number, Text
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
    multiplier: Number = Decimal(1)
    """What the tenant pays is the cost times this."""
    free: Flag = False
    """Allows rates of zero."""
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
    """Since when the rules hold, RFC 3339 or a date (UTC)."""
    rules: tuple[RuleShape, ...] = ()
    """The price list."""


NO_PRICES = PricingShape()
