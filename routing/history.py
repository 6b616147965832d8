"""What an upstream was like lately: how long it took, how often it failed, how busy it is.

Pure: `now_s` is an argument, any clock that never runs backwards; integers throughout, for what is
told here is multiplied with money. Streams are timed to their first byte, whole answers to their
end: that is what their clients wait for. One process sees its own attempts only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from metering.money import PPM
from routing.fallback import Outcome
from routing.health import FAILURES
from routing.upstreams import Upstream

SAMPLES_MAX = 256
"""Of these the 95th percentile is taken: the latest, however old."""
SAMPLES_MIN = 20
"""Fewer say nothing about a percentile."""
COLD_AFTER_S = 300.0
"""An upstream that nobody has asked for so long may have been put to sleep."""

_TIMED = frozenset({Outcome.SERVED, Outcome.EXHAUSTED, Outcome.STOPPED, Outcome.TRUNCATED})
_FAILED = FAILURES | {Outcome.RATE_LIMITED}
"""What has to be done again somewhere: a 429 costs a retry like any other failure."""
_SETTLED = _FAILED | {Outcome.SERVED, Outcome.EXHAUSTED}


Place = TypeVar("Place")


@dataclass(frozen=True, slots=True)
class Observed:
    """An upstream as the next request will find it; every share in parts per million.

    `p95_ms` is None as long as too little is known. `slower_ppm` is by how much it has become
    slower than usual while more requests than usual are under way: what a queue does.
    `cold_ppm` is by how much first answers after a pause were slower, 0 when it is awake.
    """

    p95_ms: int | None = None
    failures_ppm: int = 0
    slower_ppm: int = 0
    cold_ppm: int = 0
    in_flight: int = 0


NOTHING_KNOWN = Observed()


@dataclass(slots=True)
class _Times:
    """Averages in microseconds: `usual` moves slowly, `recent` follows within a few answers."""

    latest_ms: deque[int] = field(default_factory=lambda: deque(maxlen=SAMPLES_MAX))
    usual_us: int = 0
    recent_us: int = 0
    cold_us: int = 0
    p95_ms: int | None = None

    def add(self, took_ms: int, *, is_cold: bool) -> None:
        took_us = took_ms * 1_000
        if is_cold:  # apart, or one cold start would make everything after it look fast
            self.cold_us = _towards(self.cold_us, took_us, 4) if self.cold_us else took_us
            return
        first = not self.latest_ms
        self.latest_ms.append(took_ms)
        self.usual_us = took_us if first else _towards(self.usual_us, took_us, 64)
        self.recent_us = took_us if first else _towards(self.recent_us, took_us, 4)
        self.p95_ms = None

    def percentile_ms(self) -> int | None:
        """Sorted when it is asked for and new times have come, not with every answer."""
        count = len(self.latest_ms)
        if count < SAMPLES_MIN:
            return None
        if self.p95_ms is None:
            self.p95_ms = sorted(self.latest_ms)[(count * 95 - 1) // 100]
        return self.p95_ms


@dataclass(slots=True)
class _Upstream:
    times: dict[bool, _Times] = field(default_factory=lambda: {True: _Times(), False: _Times()})
    in_flight: int = 0
    usual_in_flight_ppm: int = 0
    failures_ppm: int = 0
    last_s: float | None = None
    """When something began or ended there last; None before the first."""
    is_whole: bool = False
    """Whether the last answer that was to be a stream came in one piece."""


@dataclass(slots=True)
class History:
    """The upstreams of one process by their label; there are no more than the configuration has."""

    _upstreams: dict[str, _Upstream] = field(default_factory=dict)

    def begin(self, label: str, now_s: float) -> bool:
        """An attempt goes there; whether it finds the upstream asleep, as `end` wants to know."""
        upstream = self._upstreams.setdefault(label, _Upstream())
        is_cold = _is_cold(upstream, now_s)
        upstream.usual_in_flight_ppm = _towards(
            upstream.usual_in_flight_ppm, upstream.in_flight * PPM, 64
        )
        upstream.in_flight += 1
        upstream.last_s = now_s
        return is_cold

    def end(
        self,
        label: str,
        outcome: Outcome | None,
        now_s: float,
        *,
        took_ms: int | None,
        stream: bool,
        is_cold: bool,
    ) -> None:
        """It has ended; `took_ms` is what its client waited for it, None where there was nothing
        to wait for."""
        upstream = self._upstreams[label]
        upstream.in_flight -= 1
        upstream.last_s = now_s
        if outcome in _SETTLED:
            is_failed = outcome in _FAILED
            upstream.failures_ppm = _towards(upstream.failures_ppm, is_failed * PPM, 64)
        if outcome in _TIMED and took_ms is not None:
            upstream.times[stream].add(took_ms, is_cold=is_cold)

    def streamed(self, label: str, *, is_whole: bool) -> None:
        """What was asked for as a stream came as one, or in one piece."""
        self._upstreams.setdefault(label, _Upstream()).is_whole = is_whole

    def is_whole(self, label: str) -> bool:
        """Whether a stream that is asked for there comes in one piece, by the last one."""
        upstream = self._upstreams.get(label)
        return upstream is not None and upstream.is_whole

    def look(self, label: str, now_s: float, *, stream: bool) -> Observed:
        """What the next request there may expect."""
        upstream = self._upstreams.get(label)
        if upstream is None:
            return NOTHING_KNOWN
        times = upstream.times[stream]
        is_busy = upstream.in_flight * PPM > upstream.usual_in_flight_ppm
        is_known = len(times.latest_ms) >= SAMPLES_MIN
        return Observed(
            p95_ms=times.percentile_ms(),
            failures_ppm=upstream.failures_ppm,
            slower_ppm=_excess(times.recent_us, times.usual_us) if is_busy and is_known else 0,
            cold_ppm=_excess(times.cold_us, times.usual_us) if _is_cold(upstream, now_s) else 0,
            in_flight=upstream.in_flight,
        )

    def order(
        self,
        wanted: Sequence[Place],
        upstream: Callable[[Place], Upstream],
        target_ms: int | None,
        *,
        stream: bool,
    ) -> list[Place]:
        """The same things with those later, among the upstreams of their model, that are known to
        miss the target. Which model serves is no matter of latency."""
        if target_ms is None:
            return list(wanted)
        models = list(dict.fromkeys(upstream(each).public_name for each in wanted))

        def late(each: Place) -> tuple[int, bool]:
            place = upstream(each)
            misses = self.misses(place.label, target_ms, stream=stream)
            return models.index(place.public_name), misses

        return sorted(wanted, key=late)

    def misses(self, label: str, target_ms: int, *, stream: bool) -> bool:
        """Whether this upstream is known not to keep such a target."""
        upstream = self._upstreams.get(label)
        found = None if upstream is None else upstream.times[stream].percentile_ms()
        return found is not None and found > target_ms


def _is_cold(upstream: _Upstream, now_s: float) -> bool:
    return (
        not upstream.in_flight
        and upstream.last_s is not None
        and now_s - upstream.last_s > COLD_AFTER_S
    )


def _towards(average: int, value: int, weight: int) -> int:
    return average + (value - average) // weight


def _excess(value_us: int, usual_us: int) -> int:
    """By how much a time is over the usual one, at most as much again."""
    if not usual_us or value_us <= usual_us:
        return 0
    return min(PPM, (value_us - usual_us) * PPM // usual_us)
