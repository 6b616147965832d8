"""Which other systems are told what, as it is configured. Plain values; the worker acts on them."""

from __future__ import annotations

from base64 import b64decode
from dataclasses import dataclass, field
from enum import StrEnum

from metering.alert_sinks import ALERT_KINDS

USAGE_HOURLY = "usage.hourly"
INVOICE_CLOSED = "invoice.closed"
CREDITS_LOW = "credits.low"


def event_of(alert_kind: str) -> str:
    """What an alert is called where it is told to other systems."""
    return CREDITS_LOW if alert_kind == "low_balance" else f"alert.{alert_kind}"


EVENTS = (USAGE_HOURLY, INVOICE_CLOSED, *sorted(map(event_of, ALERT_KINDS), reverse=True))
"""What an endpoint can be told."""


_PREFIX = "whsec_"
KEY_BYTES = (24, 64)
"""The bounds that Standard Webhooks sets."""


class WebhookFormat(StrEnum):
    """How a message is written; its signature is the same in both."""

    STANDARD = "standard"
    """As Standard Webhooks has it: type, timestamp, data."""
    CLOUDEVENTS = "cloudevents"
    """CloudEvents 1.0, structured JSON."""


@dataclass(frozen=True, slots=True)
class WebhookEndpoint:
    """One entry of `webhooks`. Its name is what it is known by in the ledger."""

    name: str
    url: str = field(repr=False)
    """May hold a token in its path, so it is shown nowhere but in the file itself."""
    key: bytes = field(repr=False)
    """What messages are signed with: the secret behind its `whsec_`, decoded."""
    events: frozenset[str] = frozenset()
    format: WebhookFormat = WebhookFormat.STANDARD
    since_ns: int | None = None
    """Usage and statements from here on; None for what comes after it is first seen."""
    timeout_s: float = 15.0
    dead_after_s: int = 3 * 86_400
    previous_key: bytes | None = field(default=None, repr=False)
    """Signs beside the other one until every receiver knows the new secret."""

    @property
    def keys(self) -> tuple[bytes, ...]:
        """All that messages are signed with, the newest first."""
        return (self.key,) if self.previous_key is None else (self.key, self.previous_key)


def read_secret(secret: str) -> bytes:
    """The key of a secret `whsec_<base64>`; ValueError, without the secret, for anything else."""
    try:
        key = b64decode(secret.removeprefix(_PREFIX), validate=True)
    except ValueError:
        raise ValueError("must be whsec_ and base64") from None
    least, most = KEY_BYTES
    if not secret.startswith(_PREFIX) or not least <= len(key) <= most:
        raise ValueError(f"must be whsec_ and base64 of {least} to {most} bytes")
    return key
