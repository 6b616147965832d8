"""The shape of the section `stripe`."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from proxy.config_values import FORBID, Seconds, Text
from proxy.config_values import text as _text


@dataclass(frozen=True, kw_only=True)
class StripeMeterShape:
    """One of our meters, told to one of Stripe's."""

    __pydantic_config__ = FORBID

    meter: Text
    """The name of a [meter](plans.md#meters) of aggregation `count` or `sum`."""
    event_name: Text
    """The `event_name` of the meter at Stripe."""


@dataclass(frozen=True, kw_only=True)
class StripeShape:
    """Usage that is told to Stripe's meters."""

    __pydantic_config__ = FORBID

    api_key: Text
    """A secret or restricted key of Stripe; write `${NAME}`."""
    since: Text | None = None
    """First day, `YYYY-MM-DD` (UTC), whose usage is told; nothing before it ever is."""
    meters: tuple[StripeMeterShape, ...] = ()
    """Which meters, and under which names; may be left out where only payments are booked."""
    webhook_secrets: tuple[Text, ...] = ()
    """What Stripe signs its [callbacks](payments.md) with, `whsec_...`, two while one is rolled."""
    mode: Annotated[Literal["hourly", "raw"], BeforeValidator(_text)] = "hourly"
    """What is told: the total of each hour, or what was added; see [Stripe](stripe.md#modes)."""
    every_s: Annotated[Seconds, Field(ge=5, le=3600)] = Decimal(60)
    """How often Stripe is told what is new, in seconds, 5 to 3600."""
    timeout_s: Annotated[Seconds, Field(ge=1, le=60)] = Decimal(20)
    """Longest wait for an answer of Stripe, in seconds, 1 to 60."""
    api_base: Text = "https://api.stripe.com"
    """Where Stripe is; another address is for tests."""
