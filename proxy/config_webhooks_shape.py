"""The shape of the section `webhooks`."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from proxy.config_values import FORBID, Seconds, Text, Whole
from proxy.config_values import text as _text


@dataclass(frozen=True, kw_only=True)
class WebhookShape:
    """Another system that is told of usage, closed months and alerts."""

    __pydantic_config__ = FORBID

    name: Text
    """What it is called here; the ledger knows by it what it was told, so it stays."""
    url: Text
    """Where to, `https://...`; a private address is allowed."""
    secret: Text
    """What messages are signed with, `whsec_` and base64; write `${NAME}`."""
    previous_secret: Text | None = None
    """The secret before this one, while receivers are [moved](webhooks.md#a-new-secret)."""
    events: tuple[Text, ...]
    """Which [events](webhooks.md#events) it is told."""
    format: Annotated[Literal["standard", "cloudevents"], BeforeValidator(_text)] = "standard"
    """How messages are [written](webhooks.md#formats)."""
    since: Text | None = None
    """First day, `YYYY-MM-DD` (UTC), that is told of; what comes from now on if left out."""
    timeout_s: Annotated[Seconds, Field(ge=1, le=60)] = Decimal(15)
    """Longest wait for an answer, in seconds, 1 to 60."""
    dead_after_days: Annotated[Whole, Field(ge=1, le=30)] = 3
    """A message that was not taken for so long is given up, with an alert; 1 to 30."""
