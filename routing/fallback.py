"""After an attempt: serve, try the next upstream, or give up.

A fallback is free only until the client has seen a byte; from then on an outcome is final.
What the upstream says about the request itself (400-class) is final too: another upstream would
say the same, and paying twice for it helps nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from routing.policy import Option


class Outcome(StrEnum):
    """How an attempt ended, as far as what to do next depends on it."""

    SERVED = "served"
    REFUSED = "refused"
    """The upstream refused the request itself: 400-class, relayed."""
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    NONSENSE = "nonsense"
    """The upstream broke its protocol, or broke off before the first byte."""
    AUTH = "auth"
    """The upstream refused our credentials."""
    QUOTA = "quota"
    """Our account there is out of quota."""
    TRUNCATED = "truncated"
    """The client had bytes already when the upstream broke off or stalled."""
    CLIENT_GONE = "client_gone"
    EXHAUSTED = "exhausted"
    """We ended a stream whose hold could not grow any more."""
    UNTRANSLATED = "untranslated"
    """The upstream answered, and more than we can write in the client's format: our fault, and one
    that another attempt would only pay for again."""
    STOPPED = "stopped"
    """We ended it because somebody paused or killed a scope that it ran in."""


FALLS_BACK = frozenset(
    {
        Outcome.UNREACHABLE,
        Outcome.TIMEOUT,
        Outcome.RATE_LIMITED,
        Outcome.SERVER_ERROR,
        Outcome.NONSENSE,
        Outcome.AUTH,
        Outcome.QUOTA,
    }
)
"""Outcomes after which the next upstream is tried: the request may be fine elsewhere."""


@dataclass(frozen=True, slots=True)
class Try:
    """Send to this option. `reason` is why the one before failed; None for the first."""

    option: Option
    reason: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """Nothing more to send; `outcome` is that of the last attempt."""

    outcome: Outcome


class FallbackPlan:
    """The order of attempts for one exchange: fed outcomes, gives the next step."""

    def __init__(self, options: Sequence[Option]) -> None:
        self._waiting = list(options)
        self._last: Outcome | None = None

    def next(self) -> Try | Stop:
        """What to do now; ValueError for a plan that never had an option."""
        if self._last is not None and self._last not in FALLS_BACK:
            return Stop(self._last)
        if self._waiting:
            return Try(self._waiting.pop(0), self._last)
        if self._last is None:
            raise ValueError("a plan needs at least one option")
        return Stop(self._last)

    def record(self, outcome: Outcome) -> None:
        """Note how the attempt that `next` asked for ended."""
        self._last = outcome
