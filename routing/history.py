"""What an upstream was like lately: how long it took, how often it failed, how busy it is.

Pure: `now_s` is an argument, any clock that never runs backwards; integers throughout, for what is
told here is multiplied with money. Streams are timed to their first event, whole answers to their
end: that is what their clients wait for. What other processes saw is added to what this one did,
but for what is its own alone: how many are under way, and the averages that move with these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from metering.money import PPM
from routing.fallback import Outcome
from routing.health import FAILURES
from routing.samples import SLOT_S, SLOTS, Seen, Tally, gathered, merged, moved, newest, trimmed
from routing.upstreams import Upstream

SAMPLES_MIN = 20
"""Fewer say nothing about a percentile."""
COLD_AFTER_S = 300.0
"""An upstream that nobody has asked for so long may have been put to sleep."""
REVISIT_AFTER_S = 600.0
"""One that was slow is asked again after so long: who is passed over has no way to show that it
has become faster."""
_SHARE_OF = 64
"""As many attempts weigh in a share of failures, of ours and of the others' each."""

_TIMED = frozenset({Outcome.SERVED, Outcome.EXHAUSTED, Outcome.STOPPED, Outcome.TRUNCATED})
FAILED = FAILURES | {Outcome.RATE_LIMITED}
"""What has to be done again somewhere: a 429 costs a retry like any other failure."""
SETTLED = FAILED | {Outcome.SERVED, Outcome.EXHAUSTED}
"""What says something of the upstream at all; a client that left does not."""


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
    """Averages of this process in microseconds: `usual` moves slowly, `recent` follows within a few
    answers. `others` is what the rest knows; `p95_ms` was found among `known` values, and `new`
    have come since."""

    count: int = 0
    usual_us: int = 0
    recent_us: int = 0
    cold_us: int = 0
    others_usual_us: int = 0
    others_cold_us: int = 0
    p95_ms: int | None = None
    known: int = 0
    new: int = 1

    def add(self, took_ms: int, *, is_cold: bool) -> None:
        took_us = took_ms * 1_000
        if is_cold:  # apart, or one cold start would make everything after it look fast
            self.cold_us = _towards(self.cold_us, took_us, 4) if self.cold_us else took_us
            return
        first = not self.count
        self.count += 1
        self.usual_us = took_us if first else _towards(self.usual_us, took_us, 64)
        self.recent_us = took_us if first else _towards(self.recent_us, took_us, 4)
        self.new += 1

    @property
    def cold_ppm(self) -> int:
        """By how much it is slower after a pause, by what we know, or else by what others do."""
        return _excess(self.cold_us or self.others_cold_us, self.usual_us or self.others_usual_us)


@dataclass(slots=True)
class _Upstream:
    times: dict[bool, _Times] = field(default_factory=lambda: {True: _Times(), False: _Times()})
    slots: dict[int, Tally] = field(default_factory=dict)
    others: dict[int, Tally] = field(default_factory=dict)
    """What other processes saw in slots of our clock."""
    parts: dict[int, list[Tally]] = field(default_factory=dict)
    """What each of these was made of."""
    in_flight: int = 0
    others_in_flight: int = 0
    usual_in_flight_ppm: int = 0
    settled: int = 0
    """Of our attempts those that say something, up to what `failures_ppm` remembers."""
    failures_ppm: int = 0
    others_settled: int = 0
    others_failures_ppm: int = 0
    last_s: float | None = None
    """When something began or ended there last, for all we know; None before the first."""
    failure: tuple[str, float] | None = None
    others_failure: tuple[float, str] | None = None
    is_old: bool = False
    """Whether `last_s` is long ago."""
    is_whole: bool = False
    """Whether the last answer that was to be a stream came in one piece."""

    def tally(self, now_s: float) -> Tally:
        """What counts attempts that end now."""
        number = int(now_s // SLOT_S)
        tally = self.slots.get(number)
        if tally is None:
            tally = self.slots[number] = Tally()
            self.drop(number)
        return tally

    def drop(self, number: int) -> None:
        """Forget slots that are too old when this one is the newest."""
        for kept in (self.slots, self.others, self.parts):
            for each in [each for each in kept if each <= number - SLOTS]:
                del kept[each]

    def p95_ms(self, *, stream: bool) -> int | None:
        """Taken anew when it is asked for and enough has come to make a difference."""
        times = self.times[stream]
        if times.new > times.known >> 6:
            values = newest((self.slots, self.others), "first" if stream else "whole")
            times.new, times.known = 0, values.count
            enough = values.count >= SAMPLES_MIN
            times.p95_ms = values.percentile(95) if enough else None
        return times.p95_ms

    def all_failures_ppm(self) -> int:
        """The share of failures of ours and the others' attempts."""
        if not self.others_settled:
            return self.failures_ppm
        ours, theirs = min(self.settled, _SHARE_OF), min(self.others_settled, _SHARE_OF)
        return (self.failures_ppm * ours + self.others_failures_ppm * theirs) // (ours + theirs)


@dataclass(slots=True)
class History:
    """The upstreams of one process by their label; there are no more than the configuration has."""

    _upstreams: dict[str, _Upstream] = field(default_factory=dict)

    def begin(self, label: str, now_s: float) -> bool:
        """An attempt goes there; whether it finds the upstream asleep, as `end` wants to know."""
        upstream = self._upstream(label)
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
        upstream.is_old = False
        tally = upstream.tally(now_s)
        if outcome is None:  # a fault of ours
            return
        word = outcome.value
        tally.outcomes[word] = tally.outcomes.get(word, 0) + 1
        if outcome in SETTLED:
            is_failed = outcome in FAILED
            upstream.failures_ppm = _towards(upstream.failures_ppm, is_failed * PPM, 64)
            upstream.settled += 1
            if is_failed:
                upstream.failure = (word, now_s)
        if outcome in _TIMED and took_ms is not None:
            upstream.times[stream].add(took_ms, is_cold=is_cold)
            values = tally.first if stream else tally.whole
            if is_cold:
                values.add_cold(took_ms)
            else:
                values.add(took_ms)

    def billed(
        self,
        label: str,
        now_s: float,
        *,
        cost_nano: int,
        sold_nano: int,
        held_nano: int,
        compared: tuple[int, int] | None = None,
        tokens_per_s: int | None = None,
    ) -> None:
        """An attempt was billed. `compared` is what it costs by the provider's count, and by how
        much that is more than by ours, None where the two cannot be compared; `tokens_per_s` is how
        fast a stream came, None where that cannot be said."""
        tally = self._upstream(label).tally(now_s)
        tally.billed += 1
        tally.cost_nano += cost_nano
        tally.sold_nano += sold_nano
        tally.held_nano += held_nano
        if compared is not None:
            tally.compared += 1
            tally.reported_nano += compared[0]
            tally.unexplained_nano += compared[1]
        if tokens_per_s is not None:
            tally.speed.add(tokens_per_s)

    def streamed(self, label: str, *, is_whole: bool) -> None:
        """What was asked for as a stream came as one, or in one piece."""
        self._upstream(label).is_whole = is_whole

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
        is_known = times.count >= SAMPLES_MIN
        return Observed(
            p95_ms=upstream.p95_ms(stream=stream),
            failures_ppm=upstream.all_failures_ppm(),
            slower_ppm=_excess(times.recent_us, times.usual_us) if is_busy and is_known else 0,
            cold_ppm=times.cold_ppm if _is_cold(upstream, now_s) else 0,
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
        if upstream is None or upstream.is_old:
            return False
        found = upstream.p95_ms(stream=stream)
        return found is not None and found > target_ms

    # -- between processes --------------------------------------------------------------------

    def told(self, shift_s: float) -> dict[str, Seen]:
        """What this process saw, for others. `shift_s` is what a clock that all share is ahead."""
        return {
            label: Seen(
                moved(trimmed(upstream.slots), shift_s),
                upstream.in_flight,
                _later(upstream.last_s, shift_s),
                upstream.failure and (upstream.failure[0], upstream.failure[1] + shift_s),
            )
            for label, upstream in self._upstreams.items()
            if upstream.slots or upstream.in_flight
        }

    def learn(self, label: str, seen: Sequence[Seen], now_s: float, *, shift_s: float) -> None:
        """What each other process has seen of an upstream by now, in the place of what they had
        seen before.

        Called also when nothing is heard, with what is known of them: slots grow old.
        """
        upstream, now = self._upstream(label), int(now_s // SLOT_S)
        _take(upstream, gathered([moved(each.slots, -shift_s) for each in seen], now))
        upstream.others_in_flight = sum(each.in_flight for each in seen)
        lasts = [each.last_s - shift_s for each in seen if each.last_s is not None]
        if upstream.last_s is not None:
            lasts.append(upstream.last_s)
        upstream.last_s = max(lasts, default=None)
        failures = [(each.failure[1] - shift_s, each.failure[0]) for each in seen if each.failure]
        upstream.others_failure = max(failures, default=None)
        upstream.drop(now)
        upstream.is_old = upstream.last_s is not None and now_s - upstream.last_s > REVISIT_AFTER_S
        for times in upstream.times.values():
            times.new = times.known + 1

    def forget(self, labels: frozenset[str]) -> None:
        """Drop upstreams that are not among these and have nothing under way."""
        for label in self._upstreams.keys() - labels:
            if not self._upstreams[label].in_flight:
                del self._upstreams[label]

    def seen(self, label: str) -> list[Seen]:
        """An upstream as this process saw it, and as all others did; times of our clock."""
        upstream = self._upstreams.get(label)
        if upstream is None:
            return []
        theirs = upstream.others_failure and upstream.others_failure[::-1]
        return [
            Seen(upstream.slots, upstream.in_flight, upstream.last_s, upstream.failure),
            Seen(upstream.others, upstream.others_in_flight, upstream.last_s, theirs),
        ]

    def in_flight(self) -> dict[str, int]:
        """What is under way from here, by upstream."""
        return {label: upstream.in_flight for label, upstream in self._upstreams.items()}

    def _upstream(self, label: str) -> _Upstream:
        found = self._upstreams.get(label)
        if found is None:
            found = self._upstreams[label] = _Upstream()
        return found


def _take(upstream: _Upstream, parts: Mapping[int, list[Tally]]) -> None:
    """Add up what others saw, where it has changed, and the averages of it."""
    others: dict[int, Tally] = {}
    for number, tallies in parts.items():
        if list(map(id, tallies)) == list(map(id, upstream.parts.get(number, ()))):
            others[number] = upstream.others[number]
        else:
            others[number] = merged(tallies)
    upstream.others, upstream.parts = others, dict(parts)
    for stream, times in upstream.times.items():
        all_values = [each.first if stream else each.whole for each in others.values()]
        count, cold = sum(each.count for each in all_values), sum(each.cold for each in all_values)
        total = sum(each.total for each in all_values)
        cold_total = sum(each.cold_total for each in all_values)
        times.others_usual_us = total * 1_000 // count if count else 0
        times.others_cold_us = cold_total * 1_000 // cold if cold else 0
    settled = failed = 0
    for number in sorted(others, reverse=True):
        outcomes = others[number].outcomes
        settled += sum(outcomes.get(each, 0) for each in SETTLED)
        failed += sum(outcomes.get(each, 0) for each in FAILED)
        if settled >= _SHARE_OF:
            break
    upstream.others_settled = settled
    upstream.others_failures_ppm = failed * PPM // settled if settled else 0


def _later(at_s: float | None, shift_s: float) -> float | None:
    return None if at_s is None else at_s + shift_s


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
