"""Which upstreams are worth a try: a circuit breaker for each, fed with how attempts ended.

Pure: `now_s` is an argument, any clock that never runs backwards. Rules:
- A breaker opens after FAILURES_IN_A_ROW, or when more than half of at least RATE_ATTEMPTS within
  WINDOW_S failed; a 429 that names a time cools the upstream down for that long.
- An upstream that is open goes last, and is never left out: it may be the only one.
- When its time is over it is half-open: one attempt goes there as a probe, and decides.
- What other processes found is learned; what they took back is forgotten.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from routing.fallback import Outcome

WINDOW_S = 30.0
FAILURES_IN_A_ROW = 5
RATE_ATTEMPTS = 20
OPEN_FIRST_S = 10.0
OPEN_MAX_S = 30.0
"""How long an open upstream is passed over; twice as long each time that a probe fails. A probe in
half a minute is no load for anybody, and so long at most goes by until a recovery is noticed."""
COOL_MAX_S = 60.0
"""How long it is passed over at most because it asked for that: a limit may be raised meanwhile."""
SAME_S = 0.1
"""Two times that lie no further apart are one: clocks are compared over a network."""
LEARNT_LATER_S = 2.0
"""Whoever learnt from another process that an upstream is open lets that one ask first, where no
lease says who asks: Redis is away."""
PROBE_S = 30.0
"""A probe that has not ended by then may still stream: another one may ask."""
WINDOW_ATTEMPTS_MAX = 1_000

FAILURES = frozenset(
    {
        Outcome.UNREACHABLE,
        Outcome.TIMEOUT,
        Outcome.SERVER_ERROR,
        Outcome.NONSENSE,
        Outcome.AUTH,
        Outcome.QUOTA,
        Outcome.TRUNCATED,
    }
)
"""What speaks against the upstream, whoever asks."""

SUCCESSES = frozenset(
    {
        Outcome.SERVED,
        Outcome.REFUSED,
        Outcome.CONTEXT_TOO_LONG,
        Outcome.CONTENT_POLICY,
        Outcome.EXHAUSTED,
        Outcome.UNTRANSLATED,
    }
)
"""An upstream that says what is wrong with a request is in good health, and so is one that said
more than a cap had room for, or than we can translate. The rest says nothing: a
client that left, somebody who stopped it, a 429, which is about our rate, and a model that is not
there, which a request may have named itself."""


class State(StrEnum):
    """Where a breaker stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Happening(StrEnum):
    """What moves a breaker."""

    TRIPPED = "tripped"
    """Too many failures, a 429 with a time, or another process' word."""
    COOLED = "cooled"
    SUCCEEDED = "succeeded"


NEXT: Mapping[tuple[State, Happening], State] = {
    (State.CLOSED, Happening.TRIPPED): State.OPEN,
    (State.CLOSED, Happening.SUCCEEDED): State.CLOSED,
    (State.OPEN, Happening.TRIPPED): State.OPEN,
    (State.OPEN, Happening.COOLED): State.HALF_OPEN,
    (State.OPEN, Happening.SUCCEEDED): State.OPEN,
    (State.HALF_OPEN, Happening.TRIPPED): State.OPEN,
    (State.HALF_OPEN, Happening.SUCCEEDED): State.CLOSED,
}
"""What succeeds while a breaker is open was begun before, or asked for want of another: a probe
decides, and a time that a 429 named is kept."""


@dataclass(slots=True)
class _Breaker:
    state: State = State.CLOSED
    until_s: float = 0.0
    """Open: when it has cooled. Half-open: when another probe may go, 0 while none has."""
    open_s: float = OPEN_FIRST_S
    in_a_row: int = 0
    recent: deque[tuple[float, bool]] = field(
        default_factory=lambda: deque(maxlen=WINDOW_ATTEMPTS_MAX)
    )
    """When attempts ended, and whether they failed."""
    failed_recently: int = 0
    is_probed: bool = False
    """Half-open: whether the probe is ours, and has not ended."""


NONE: frozenset[str] = frozenset()

_T = TypeVar("_T")


class Health:
    """The breakers of one process, by the upstream's label; made as they are needed.

    Labels come from the configuration, so there are no more than it has upstreams.
    """

    def __init__(self) -> None:
        self._breakers: dict[str, _Breaker] = {}
        self._troubled: set[str] = set()
        self.changed: dict[str, float] = {}
        """What others should hear of: label -> until when it is open, 0.0 once it is closed.
        Whoever tells them takes entries out."""

    def state(self, label: str, now_s: float) -> State:
        """Where this upstream stands now."""
        breaker = self._breakers.get(label)
        return State.CLOSED if breaker is None else self._cooled(breaker, now_s).state

    def states(self, now_s: float) -> dict[str, State]:
        """Every upstream that was ever asked, and where it stands now."""
        return {label: self.state(label, now_s) for label in self._breakers}

    def order(self, wanted: Sequence[_T], label: Callable[[_T], str], now_s: float) -> list[_T]:
        """The same things with those of open upstreams last, each group in the order given.

        An upstream that is half-open counts as whole as long as nobody probes it.
        """
        if not self._troubled:
            return list(wanted)
        return sorted(wanted, key=lambda each: self._is_passed_over(label(each), now_s))

    def is_passed_over(self, label: str, now_s: float) -> bool:
        """Whether it is better not to ask this one now: it is open, or somebody probes it."""
        return label in self._troubled and self._is_passed_over(label, now_s)

    def _is_passed_over(self, label: str, now_s: float) -> bool:
        breaker = self._breakers.get(label)
        if breaker is None or self._cooled(breaker, now_s).state is State.CLOSED:
            return False
        return now_s < breaker.until_s

    def passed_over(self, now_s: float) -> frozenset[str]:
        """The labels that `order` would put last now."""
        if not self._troubled:
            return NONE
        return frozenset([each for each in self._troubled if self._is_passed_over(each, now_s)])

    def begin(self, label: str, now_s: float) -> None:
        """An attempt goes there; to a half-open upstream it is the probe."""
        breaker = self._breakers.get(label)
        if breaker is not None and self._cooled(breaker, now_s).state is State.HALF_OPEN:
            breaker.until_s, breaker.is_probed = now_s + PROBE_S, True

    def record(
        self, label: str, outcome: Outcome | None, now_s: float, *, retry_after_s: float | None
    ) -> None:
        """How an attempt ended; `retry_after_s` is what a 429 or a 503 asked for. None says
        nothing."""
        if outcome is Outcome.RATE_LIMITED and retry_after_s:
            self.cool(label, retry_after_s, now_s)
        elif outcome in FAILURES:
            self._note_failure(label, now_s)
            if outcome is Outcome.SERVER_ERROR and retry_after_s:
                self.cool(label, retry_after_s, now_s)
        elif outcome in SUCCESSES:
            self._note_success(label, now_s)

    def cool(self, label: str, seconds: float, now_s: float) -> None:
        """It asked to be left alone for so long, by a 429 or by a limit that is used up."""
        self._open(label, now_s, min(seconds, COOL_MAX_S))

    def learn(
        self, label: str, left_s: float, now_s: float, *, later_s: float = LEARNT_LATER_S
    ) -> None:
        """Another process found this upstream open for so much longer; it is asked `later_s` after
        that. A probe that has gone from here goes on deciding."""
        state, until_s = self.state(label, now_s), now_s + min(left_s, COOL_MAX_S) + later_s
        if state is State.CLOSED or (
            state is State.OPEN and until_s > self._breakers[label].until_s + SAME_S
        ):
            self._trip(label, until_s)
        elif state is State.HALF_OPEN and left_s > SAME_S and not self._breakers[label].is_probed:
            self._trip(label, until_s)  # the probe of another has failed

    def cooling(self, now_s: float, within_s: float) -> list[str]:
        """The upstreams that may be probed by then: somebody has to say who does."""
        return [
            label
            for label in self._troubled
            if self.state(label, now_s) is State.HALF_OPEN
            or self._breakers[label].until_s <= now_s + within_s
        ]

    def is_probing(self, label: str, now_s: float) -> bool:
        """Whether a probe of ours is under way there."""
        breaker = self._breakers.get(label)
        return breaker is not None and breaker.is_probed and now_s < breaker.until_s

    def lead(self, label: str, until_s: float) -> None:
        """The probe is ours, as soon as the upstream has cooled."""
        breaker = self._breakers.get(label)
        if breaker is not None and not breaker.is_probed:
            is_open = breaker.state is State.OPEN
            breaker.until_s = min(breaker.until_s, until_s) if is_open else 0.0

    def follow(self, label: str, until_s: float) -> None:
        """The probe is another process', which has until then at least."""
        breaker = self._breakers.get(label)
        if breaker is not None and not breaker.is_probed:
            breaker.until_s = max(breaker.until_s, until_s)

    def yield_probe(self, label: str, now_s: float) -> None:
        """Another process found the same before us: it asks first."""
        breaker = self._breakers.get(label)
        if breaker is not None and self._cooled(breaker, now_s).state is State.OPEN:
            breaker.until_s += LEARNT_LATER_S

    def forget(self, label: str) -> None:
        """Another process found this upstream whole again."""
        self._breakers.pop(label, None)
        self._troubled.discard(label)

    @property
    def troubled(self) -> frozenset[str]:
        """The labels whose breakers are not closed."""
        return frozenset(self._troubled)

    def _note_success(self, label: str, now_s: float) -> None:
        breaker = self._breakers.get(label)
        if breaker is None:
            breaker = self._breakers[label] = _Breaker()
        self._cooled(breaker, now_s)
        if NEXT[breaker.state, Happening.SUCCEEDED] is breaker.state:
            breaker.in_a_row = 0
            _note(breaker, now_s, failed=False)
        else:
            self.forget(label)
            self.changed[label] = 0.0

    def _note_failure(self, label: str, now_s: float) -> None:
        breaker = self._cooled(self._breakers.setdefault(label, _Breaker()), now_s)
        breaker.in_a_row += 1
        _note(breaker, now_s, failed=True)
        if breaker.state is State.HALF_OPEN:
            self._open(label, now_s, min(max(breaker.open_s * 2, OPEN_FIRST_S), OPEN_MAX_S))
        elif breaker.state is State.CLOSED and _is_too_much(breaker):
            self._open(label, now_s, OPEN_FIRST_S)

    def _open(self, label: str, now_s: float, open_s: float) -> None:
        until_s = now_s + open_s
        if self.state(label, now_s) is State.OPEN and until_s <= self._breakers[label].until_s:
            return
        self._trip(label, until_s).open_s = open_s
        self.changed[label] = until_s

    def _trip(self, label: str, until_s: float) -> _Breaker:
        breaker = self._breakers.setdefault(label, _Breaker())
        breaker.state, breaker.until_s = NEXT[breaker.state, Happening.TRIPPED], until_s
        breaker.is_probed = False
        self._troubled.add(label)
        return breaker

    @staticmethod
    def _cooled(breaker: _Breaker, now_s: float) -> _Breaker:
        if breaker.state is State.OPEN and now_s >= breaker.until_s:
            breaker.state = NEXT[breaker.state, Happening.COOLED]
            breaker.until_s, breaker.is_probed = 0.0, False
        return breaker


def _is_too_much(breaker: _Breaker) -> bool:
    attempts = len(breaker.recent)
    return breaker.in_a_row >= FAILURES_IN_A_ROW or (
        attempts >= RATE_ATTEMPTS and breaker.failed_recently * 2 > attempts
    )


def _note(breaker: _Breaker, now_s: float, *, failed: bool) -> None:
    """Add an attempt to the window, and drop what has left it."""
    recent = breaker.recent
    oldest_s = now_s - WINDOW_S
    while recent and (recent[0][0] <= oldest_s or len(recent) == WINDOW_ATTEMPTS_MAX):
        breaker.failed_recently -= recent.popleft()[1]
    recent.append((now_s, failed))
    breaker.failed_recently += failed
