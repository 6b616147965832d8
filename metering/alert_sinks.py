"""Where alerts may go, as it is configured. What sends them is the worker's (`settlement/sinks`).

Pure but for the names of files: a type of sink is a file there.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from importlib.resources import files

TIMEOUT_S = 5.0

ALERT_KINDS = (
    "backlog",
    "cap_drift",
    "cap_mark",
    "cap_refuses",
    "closed_incomplete",
    "dead_letter",
    "event_conflict",
    "low_balance",
    "memory",
    "payment_review",
    "payment_unassigned",
    "price_review",
    "prices_published",
    "provider_drift",
    "rating_difference",
    "redis_went_back",
    "spend_degraded",
    "spend_paused",
    "spend_velocity",
    "spool_depth",
    "stream_gap",
    "stripe_differs",
    "stripe_held",
    "stripe_too_late",
    "stripe_unfit",
    "job_failed",
    "unpriced",
    "webhook_dead",
)
"""What there is to tell. A sink that wants a kind that nobody raises would never hear anything."""


@dataclass(frozen=True, slots=True)
class SinkSettings:
    """One entry of `alerts.sinks`. `kinds` None wants every kind of alert."""

    type: str
    url: str = field(default="", repr=False)
    """May hold a token in its path, so it is shown nowhere but in the file itself."""
    secret: str = field(default="", repr=False)
    kinds: frozenset[str] | None = None
    timeout_s: float = TIMEOUT_S

    @property
    def name(self) -> str:
        """By which deliveries are noted: the same over restarts, and without the URL itself."""
        if not self.url:
            return self.type
        return f"{self.type}-{hashlib.sha256(self.url.encode()).hexdigest()[:12]}"


DEFAULT_SINKS = (SinkSettings("log"),)


def sink_types() -> list[str]:
    """The types there are: the names of the files in `metering/settlement/sinks`."""
    folder = files("metering").joinpath("settlement", "sinks")
    names = [each.name for each in folder.iterdir()]
    return sorted(
        name.removesuffix(".py")
        for name in names
        if name.endswith(".py") and not name.startswith("_")
    )
