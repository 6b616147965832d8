"""What goes to Stripe, as configured: which meters, whose usage, since when.

Plain values that the request path may carry about; who acts on them is the settlement worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from metering.plans import Meter


class StripeMode(StrEnum):
    """How usage is told, which the meter at Stripe has to agree with."""

    HOURLY = "hourly"
    """The total of each hour so far; Stripe keeps the newest (`event_time_window: hour`)."""
    RAW = "raw"
    """What was added since the last time; Stripe sums all of it."""


@dataclass(frozen=True, slots=True)
class StripeMeter:
    """One of our meters, and the name of the events that it is sent as."""

    meter: Meter
    event_name: str


@dataclass(frozen=True, slots=True)
class StripeSettings:
    """The section `stripe`. `customers` are Stripe's ids by tenant; others are not sent."""

    api_key: str = field(repr=False)
    meters: tuple[StripeMeter, ...]
    customers: Mapping[str, str] = field(hash=False)
    since_ns: int
    """Usage before this is never sent."""
    mode: StripeMode = StripeMode.HOURLY
    every_s: float = 60.0
    timeout_s: float = 20.0
    api_base: str = "https://api.stripe.com"
    webhook_secrets: tuple[str, ...] = field(default=(), repr=False)
    """With which Stripe signs its callbacks; payments are booked where there is one."""
