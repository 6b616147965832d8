"""After an attempt: serve, ask the same upstream again, try the next one, or give up.

A fallback is free only until the client has seen a byte; from then on an outcome is final. Rules:
- What the upstream says about the request itself (400-class) is final: another would say the same,
  and paying twice for it helps nobody. Two refusals are not: a prompt too long for one model may be
  fine for one with a larger window, and one that is against somebody's policy goes where the
  operator said that it may go. Both are never sent to the same place again.
- A stream that broke off is continued elsewhere only where somebody says so, and by whom.
- Silence is never asked again at the same place: whoever waited once has waited enough.
- What may be over in a moment is asked again there if the wait is short, and nothing better is
  left: another upstream of the same model that is in good health serves the same, and at once.
- What is sent beside an upstream's own requests is paid from its budget, so that a storm of
  failures never becomes a storm of requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from routing.policy import Option
from routing.retries import NO_RETRIES, Retries

ATTEMPTS_MAX = 10
"""Of one exchange, whatever its route has: a client waits for all of them."""


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
    CONTEXT_TOO_LONG = "context_too_long"
    """Prompt and answer are more than the window of its model."""
    CONTENT_POLICY = "content_policy"
    """What was asked is against its policy."""
    UNKNOWN_MODEL = "unknown_model"
    """It has no model or deployment of that name (any more)."""
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
        Outcome.UNKNOWN_MODEL,
    }
)
"""Outcomes after which the next upstream is tried: the request may be fine elsewhere."""

DETOURS = frozenset({Outcome.CONTEXT_TOO_LONG, Outcome.CONTENT_POLICY})
"""Outcomes after which only certain others may be tried."""

_REDIRECTED = DETOURS | {Outcome.TRUNCATED}
"""Outcomes after which somebody has to say who may be tried."""

REFUSALS = DETOURS | {Outcome.REFUSED, Outcome.UNKNOWN_MODEL}
"""Outcomes that say something of the request, and are told to the client as they came."""

MOMENTARY = frozenset({Outcome.UNREACHABLE, Outcome.RATE_LIMITED, Outcome.SERVER_ERROR})
"""Outcomes after which the same upstream may be asked again."""


@dataclass(frozen=True, slots=True)
class Try:
    """Send to this option. `reason` is why the one before failed, None for the first; `retries`
    how often the exchange has been there before."""

    option: Option
    reason: Outcome | None = None
    retries: int = 0


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait so long, then ask for the next step: `option` will be tried again."""

    seconds: float
    option: Option
    reason: Outcome


@dataclass(frozen=True, slots=True)
class Stop:
    """Nothing more to send; `outcome` is that of the last attempt."""

    outcome: Outcome


class Budget(Protocol):
    """What may be sent beside the requests of an upstream; `routing.retry_budget` has it."""

    def take(self, label: str, now_s: float) -> bool:
        """Whether one more may be sent there; it is paid for then."""
        ...


class Standing(Protocol):
    """Which upstreams are known to fail; `routing.health` knows."""

    def is_passed_over(self, label: str, now_s: float) -> bool:
        """Whether it is better not to ask this one now."""
        ...


class FallbackPlan:
    """The order of attempts for one exchange: fed outcomes, gives the next step.

    `until_s` is when the exchange has to be over, by the clock of `now_s`.
    """

    __slots__ = (
        "_after_s",
        "_attempts",
        "_before",
        "_budget",
        "_current",
        "_detoured",
        "_done",
        "_is_momentary",
        "_last",
        "_retries",
        "_standing",
        "_until_s",
        "_waited_for",
        "_waiting",
        "unpaid",
    )

    def __init__(
        self,
        options: Sequence[Option],
        *,
        retries: Retries = NO_RETRIES,
        budget: Budget | None = None,
        standing: Standing | None = None,
        until_s: float | None = None,
    ) -> None:
        self._waiting = list(options)
        self._retries, self._budget, self._standing = retries, budget, standing
        self._until_s = until_s
        self._last: Outcome | None = None
        self._after_s: float | None = None
        self._is_momentary = False
        self._current: Option | None = None
        self._done = 0
        self._before: tuple[Option | None, int] = (None, 0)
        self._detoured = False
        self._attempts = 0
        self._waited_for: Option | None = None
        self.unpaid: list[str] = []
        """The upstreams that were not asked because their budgets had nothing left."""

    def next(self, now_s: float = 0.0, jitter: float = 0.0) -> Try | Wait | Stop:
        """What to do now; ValueError for a plan that never had an option."""
        last, waited_for = self._last, self._waited_for
        if last is None:
            if not self._waiting:
                raise ValueError("a plan needs at least one option")
            return self._try(self._waiting.pop(0))
        if self._is_final(last, now_s):
            return Stop(last)
        if waited_for is not None:
            self._waited_for = None
            self._done += 1
            return self._try(waited_for, retries=self._done)
        following = self._following(now_s)
        if self._is_momentary and (wait := self._wait(following, now_s, jitter)) is not None:
            self._waited_for = wait.option
            return wait
        if following is None and (following := self._troubled(now_s)) is None:
            return Stop(last)
        self._waiting.remove(following)
        return self._try(following)

    def record(
        self, outcome: Outcome, *, after_s: float | None = None, answered: bool = True
    ) -> None:
        """Note how the attempt that `next` asked for ended, and when the upstream wants to be asked
        again; `answered` is False where no status came."""
        self._last, self._after_s, self._detoured = outcome, after_s, False
        # a connection that broke is over in a moment, unlike an answer that makes no sense
        self._is_momentary = outcome in MOMENTARY or (outcome is Outcome.NONSENSE and not answered)

    def pass_over(self) -> None:
        """What `next` gave last was not sent: its hold did not fit under the caps."""
        self._current, self._done = self._before
        self._attempts -= 1

    def detour(self, options: Sequence[Option]) -> None:
        """After an outcome of DETOURS, or a stream that is to be continued: only these are left,
        each once, and never where the exchange has been."""
        self._waiting = list(options)
        self._detoured = True

    @property
    def waiting(self) -> Sequence[Option]:
        """The options that were not tried yet, in order."""
        return self._waiting

    def _is_final(self, last: Outcome, now_s: float) -> bool:
        if last not in FALLS_BACK and not (last in _REDIRECTED and self._detoured):
            return True
        if self._attempts >= ATTEMPTS_MAX:
            return True
        return self._until_s is not None and now_s >= self._until_s

    def _try(self, option: Option, *, retries: int = 0) -> Try:
        self._before = self._current, self._done
        self._current, self._done = option, retries
        self._attempts += 1
        return Try(option, self._last, retries)

    def _following(self, now_s: float) -> Option | None:
        """The next one that nothing is known against."""
        if self._standing is None:
            return self._waiting[0] if self._waiting else None
        for option in self._waiting:
            if not self._standing.is_passed_over(option.upstream.label, now_s):
                return option
        return None

    def _troubled(self, now_s: float) -> Option | None:
        """The next one that is known to fail, and that can be paid for all the same."""
        for option in list(self._waiting):
            if self._can_pay(option, now_s):
                return option
            self._waiting.remove(option)
        return None

    def _wait(self, following: Option | None, now_s: float, jitter: float) -> Wait | None:
        """The wait before the same upstream is asked again, where that is what to do."""
        current, last = self._current, self._last
        assert current is not None  # an attempt has been made
        assert last is not None
        if following is not None and (
            following.upstream.public_name == current.upstream.public_name
        ):
            return None
        wait_s = self._retries.wait_s(self._after_s, self._done, jitter)
        if wait_s is None:
            return None
        if self._until_s is not None and now_s + wait_s >= self._until_s:
            return None
        return Wait(wait_s, current, last) if self._can_pay(current, now_s) else None

    def _can_pay(self, option: Option, now_s: float) -> bool:
        label = option.upstream.label
        if self._budget is None or self._budget.take(label, now_s):
            return True
        self.unpaid.append(label)
        return False


def larger(waiting: Sequence[Option], *, than: Option) -> list[Option]:
    """Of these, the ones whose window is known to be larger, after a prompt was too long for that
    one; where its window is not known, larger than the prompt."""
    least = max(than.context_tokens_max or 0, than.prompt_tokens)
    return [each for each in waiting if (each.context_tokens_max or 0) > least]
