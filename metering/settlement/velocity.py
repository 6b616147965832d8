"""How fast a tenant and its keys spend by the minute, and when that is out of the ordinary. Pure.

Rules: amounts are integer nano-USD; floats are used for scores and baselines only, never for what
anybody is billed or held to. A minute is a number, Unix milliseconds // 60,000. One minute never
raises an alarm, however wild. Where two baselines know what is usual, both must be exceeded; where
neither knows, the ceiling for those who are new decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import median

from metering.tolerances import Tolerance

MINUTE_MS = 60_000
MINUTES_PER_HOUR = 60
HISTORY_DAYS = 14

SPREAD_MIN = 0.25
"""Spend that was even is taken to vary by this share all the same: rises up to `1 + z * 0.25` fold
are no alarm, and a standard deviation of 0 condemns nobody."""

MAD_MIN = 0.1
"""The same for the median's deviation: at least this share of the median, or of the floor."""

MAD_TO_SIGMA = 0.6745
"""The median absolute deviation of a normal distribution, in standard deviations."""

IDLE_SLOWER = 12
"""A minute without a request ages the baseline so much less than one with: whoever comes back in
the morning to what was usual in the evening is no runaway."""

UNIT_REQUESTS_MIN = 5
"""Fewer requests within a minute have no average that means something."""

WINDOW = 3
"""Minutes out of the ordinary count while they lie within so many times `minutes`; after as many
minutes without one the alarm is over."""

RUNAWAY = 10
"""So many times the median of the history is out of the ordinary even where it came on so slowly
that the recent baseline has learnt it."""

ACCEPTED = 5, 4
"""What exceeds a level that a person has accepted by a quarter is news again."""


class Cause(StrEnum):
    """What was out of the ordinary."""

    SPEND = "spend"
    """Money per minute."""
    UNIT_COST = "unit_cost"
    """Money per request."""


@dataclass(frozen=True, slots=True)
class Minute:
    """What was booked for one minute."""

    nano: int = 0
    requests: int = 0

    def __add__(self, other: Minute) -> Minute:
        return Minute(self.nano + other.nano, self.requests + other.requests)


@dataclass(frozen=True, slots=True)
class Finding:
    """The numbers of a minute that was out of the ordinary; nano-USD per minute or per request."""

    cause: Cause
    seen_nano: int
    usual_nano: int
    bound_nano: int
    judged_by: str
    """`recent`, `history`, both, or `ceiling`."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Exponentially weighted mean and variance of the minutes so far; 0 minutes: nothing known.

    Sums are kept with the weight that they have together, so that a start from nothing is no bias.
    """

    nano: float = 0.0
    square: float = 0.0
    requests: float = 0.0
    weight: float = 0.0
    samples: int = 0
    """Minutes with a request."""

    @property
    def mean(self) -> float:
        """Nano-USD per minute."""
        return self.nano / self.weight if self.weight else 0.0

    @property
    def unit_cost(self) -> float:
        """Nano-USD per request."""
        return self.nano / self.requests if self.requests else 0.0

    def bound(self, z: float) -> float:
        """Nano-USD per minute from which on a minute is out of the ordinary."""
        if not self.weight:
            return 0.0
        mean = self.mean
        deviation = math.sqrt(max(0.0, self.square / self.weight - mean * mean))
        return mean + z * max(deviation, SPREAD_MIN * mean)

    def idle(self, minutes: int, half_life_min: int) -> Spread:
        """So many minutes later, without a request in between."""
        return self._aged(0.5 ** (minutes / (half_life_min * IDLE_SLOWER)))

    def _aged(self, kept: float) -> Spread:
        return Spread(
            self.nano * kept,
            self.square * kept,
            self.requests * kept,
            1 - (1 - self.weight) * kept,
            self.samples,
        )

    def with_minute(self, nano: float, requests: int, half_life_min: int) -> Spread:
        """One minute later, with what that came to."""
        kept = 0.5 ** (1 / half_life_min)
        aged, share = self._aged(kept), 1 - kept
        return replace(
            aged,
            samples=self.samples + 1,
            nano=aged.nano + share * nano,
            square=aged.square + share * nano * nano,
            requests=aged.requests + share * requests,
        )


@dataclass(frozen=True, slots=True)
class Track:
    """Where one subject stands after the minute `at`; `since` is the minute its alarm began."""

    at: int
    spread: Spread = Spread()
    overs: tuple[int, ...] = ()
    """Minutes that were out of the ordinary and still count."""
    since: int | None = None
    finding: Finding | None = None
    """Of the newest of them."""


@dataclass(frozen=True, slots=True)
class History:
    """Spend by hour over the last weeks: subject -> hour (Unix hours) -> nano-USD."""

    hours: Mapping[str, Mapping[int, int]]

    def samples(self, subject: str, hour: int) -> list[float]:
        """Nano-USD per minute in the same hour of the days before, as far as it was known then."""
        known = self.hours.get(subject, {})
        first = min(known, default=hour)
        before = (hour - 24 * day for day in range(1, HISTORY_DAYS + 1))
        return [known.get(each, 0) / MINUTES_PER_HOUR for each in before if each >= first]


TENANT = ""
"""The subject that is the tenant itself; others are ids of its keys."""

Tracks = Mapping[str, Track]
Lookup = Callable[[], History]
"""Asked only when something looks unusual: mostly nothing does."""


@dataclass(frozen=True, slots=True)
class Judge:
    """What minutes of one tenant are held to. `accepted` are levels that a person has accepted."""

    tolerance: Tolerance
    history: Lookup
    accepted: Mapping[tuple[str, Cause], int]

    def look(self, subject: str, track: Track, minute: Minute, number: int) -> Finding | None:
        """What is out of the ordinary with a minute, beside all that came before it."""
        if minute.nano < self.tolerance.floor_nano:
            return None
        return self._spend(subject, track.spread, minute, number) or self._unit_cost(
            subject, track.spread, minute
        )

    def _spend(self, subject: str, spread: Spread, minute: Minute, number: int) -> Finding | None:
        tolerance, seen = self.tolerance, minute.nano
        if self._is_accepted(subject, Cause.SPEND, seen):
            return None
        bounds: dict[str, tuple[float, float]] = {}
        if spread.samples >= tolerance.samples_min:
            bounds["recent"] = spread.mean, spread.bound(tolerance.z)
            if seen <= bounds["recent"][1]:
                return self._crept(subject, seen, number)
        samples = self.history().samples(subject, number // MINUTES_PER_HOUR)
        if len(samples) >= tolerance.days_min:
            bounds["history"] = self._usual(samples)
        elif not bounds and tolerance.cold_start_nano is not None:
            bounds["ceiling"] = 0.0, tolerance.cold_start_nano
        if not bounds or any(seen <= bound for _, bound in bounds.values()):
            return None
        usual, bound = max(bounds.values(), key=lambda pair: pair[1])
        judged_by = " and ".join(bounds)
        return Finding(Cause.SPEND, seen, round(usual), round(bound), judged_by)

    def _crept(self, subject: str, seen: int, number: int) -> Finding | None:
        """What rose so slowly that the recent baseline took it for usual."""
        if seen <= RUNAWAY * self.tolerance.floor_nano:  # before anything is asked
            return None
        samples = self.history().samples(subject, number // MINUTES_PER_HOUR)
        if len(samples) < self.tolerance.days_min:
            return None
        usual, bound = self._usual(samples)
        bound = max(bound, RUNAWAY * usual, RUNAWAY * float(self.tolerance.floor_nano))
        if seen <= bound:
            return None
        return Finding(Cause.SPEND, seen, round(usual), round(bound), "history")

    def _usual(self, samples: Sequence[float]) -> tuple[float, float]:
        """The median, and where the modified z-score reaches `z`; a deviation of 0 is no score."""
        middle = median(samples)
        deviation = median(abs(each - middle) for each in samples)
        deviation = max(deviation, MAD_MIN * middle, MAD_MIN * self.tolerance.floor_nano)
        return middle, middle + self.tolerance.z * deviation / MAD_TO_SIGMA

    def _unit_cost(self, subject: str, spread: Spread, minute: Minute) -> Finding | None:
        tolerance = self.tolerance
        if (
            tolerance.unit_cost_nano is None
            or minute.requests < UNIT_REQUESTS_MIN
            or spread.samples < tolerance.samples_min
            or not spread.requests
        ):
            return None
        seen, usual = minute.nano // minute.requests, spread.unit_cost
        bound = usual + tolerance.unit_cost_nano
        if seen <= bound or self._is_accepted(subject, Cause.UNIT_COST, seen):
            return None
        return Finding(Cause.UNIT_COST, seen, round(usual), round(bound), "recent")

    def _is_accepted(self, subject: str, cause: Cause, seen: int) -> bool:
        level = self.accepted.get((subject, cause))
        times, of = ACCEPTED
        return level is not None and seen * of <= level * times


def fold(
    tracks: Tracks,
    minutes: Iterable[tuple[int, Mapping[str, Minute]]],
    judge: Judge,
    *,
    through: int,
) -> Tracks:
    """Where a tenant and its keys stand after the minute `through`.

    `minutes` are those with anything booked, in their order, each by key. Spend of a key in alarm
    beyond its usual is taken out of the tenant's: the alarm belongs to whoever is narrower.
    """
    found = dict(tracks)
    for number, by_key in minutes:
        total = Minute()
        for key, booked in by_key.items():
            minute = Minute(max(0, booked.nano), max(0, booked.requests))
            total += minute
            found[key] = _step(found.get(key), key, minute, number, judge)
            if found[key].since is not None and _is_one_of_many(found):
                excess = minute.nano - round(found[key].spread.mean)
                total += Minute(-max(0, excess), 0)
        found[TENANT] = _step(found.get(TENANT), TENANT, total, number, judge)
    return {
        subject: _rest(track, through, judge.tolerance)
        for subject, track in found.items()
        if through - track.at < judge.tolerance.memory_min or track.since is not None
    }


def alarms(tracks: Tracks) -> dict[str, Track]:
    """Who is in alarm now; the only key of a tenant is the tenant."""
    many = _is_one_of_many(tracks)
    return {
        subject: track
        for subject, track in tracks.items()
        if track.since is not None and (many or subject == TENANT)
    }


def _is_one_of_many(tracks: Tracks) -> bool:
    return len(tracks.keys() - {TENANT}) > 1


def _step(track: Track | None, subject: str, minute: Minute, number: int, judge: Judge) -> Track:
    """A minute later. What is above the bound counts in the baseline as one deviation only.

    So a spike teaches little, and a new level is learnt within hours instead of never or at once.
    """
    tolerance = judge.tolerance
    track = Track(number - 1) if track is None else _rest(track, number - 1, tolerance)
    finding = judge.look(subject, track, minute, number)
    spread, nano = track.spread, float(minute.nano)
    is_known = spread.samples >= tolerance.samples_min and spread.nano > 0
    if is_known and nano > spread.bound(tolerance.z):
        nano = spread.bound(1.0)
    spread = spread.with_minute(nano, minute.requests, tolerance.half_life_min)
    if finding is None:
        return _rest(replace(track, at=number, spread=spread), number, tolerance)
    overs = (*track.overs, number)
    overs = tuple(each for each in overs if each > number - WINDOW * tolerance.minutes)
    since = track.since
    if since is None and len(overs) >= tolerance.minutes:
        since = overs[0]
    return Track(number, spread, overs, since, finding)


def _rest(track: Track, through: int, tolerance: Tolerance) -> Track:
    """The same subject at a later minute, nothing booked in between."""
    gone = max(0, through - track.at)
    spread = track.spread.idle(gone, tolerance.half_life_min) if gone else track.spread
    at = track.at + gone
    overs = tuple(each for each in track.overs if each > at - WINDOW * tolerance.minutes)
    since = track.since if overs else None
    return Track(at, spread, overs, since, track.finding if overs else None)
