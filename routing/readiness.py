"""What is known of an upstream, as a person or a metric wants it: from what processes saw. Pure.

Shares are in parts per million. Nothing is made up for what nobody saw: it is None.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from metering.money import PPM
from routing.fallback import Outcome
from routing.history import FAILED, SAMPLES_MIN, SETTLED
from routing.samples import Seen, Tally, Values, newest

DRIFT_PPM = 150_000
"""A model whose provider's count costs so much more or less than ours is worth a look."""
DRIFT_EXCHANGES_MIN = 50


@dataclass(frozen=True, slots=True)
class Spread:
    """Percentiles of the newest of so many values."""

    count: int = 0
    p50: int | None = None
    p95: int | None = None

    @property
    def is_enough(self) -> bool:
        """Whether they are values enough to go by, as routing does."""
        return self.count >= SAMPLES_MIN


@dataclass(frozen=True, slots=True)
class Figures:
    """An upstream over the last hour; times are of the clock of what was seen."""

    attempts: int = 0
    settled: int = 0
    """Those of them that say something of the upstream: answers and failures."""
    failed: int = 0
    rate_limited: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    latency_ms: Spread = Spread()
    """To the end of answers in one piece."""
    first_event_ms: Spread = Spread()
    tokens_per_s: Spread = Spread()
    in_flight: int = 0
    last_s: float | None = None
    failure: tuple[str, float] | None = None
    billed: int = 0
    cost_nano: int = 0
    sold_nano: int = 0
    held_nano: int = 0
    compared: int = 0
    reported_nano: int = 0
    unexplained_nano: int = 0

    @property
    def success_ppm(self) -> int | None:
        """The share of what is settled that did not fail."""
        return (self.settled - self.failed) * PPM // self.settled if self.settled else None

    @property
    def drift_ppm(self) -> int | None:
        """By how much the provider's count costs more than ours, at the same prices."""
        counted_nano = self.reported_nano - self.unexplained_nano
        return self.unexplained_nano * PPM // counted_nano if counted_nano > 0 else None

    @property
    def held_used_ppm(self) -> int | None:
        """The share of what was held that was spent: what a hold estimates is a bound."""
        return self.sold_nano * PPM // self.held_nano if self.held_nano else None

    @property
    def margin_ppm(self) -> int | None:
        """What is left of what tenants pay."""
        left_nano = self.sold_nano - self.cost_nano
        return left_nano * PPM // self.sold_nano if self.sold_nano else None

    def has_drifted(self, *, beyond_ppm: int, exchanges_min: int) -> bool:
        """Whether it is to be looked at: in either direction, for more than a few exchanges."""
        drift_ppm = self.drift_ppm
        is_known = drift_ppm is not None and self.compared >= exchanges_min
        return is_known and drift_ppm is not None and abs(drift_ppm) > beyond_ppm


def figures(seen: Sequence[Seen]) -> Figures:
    """What these processes saw of an upstream, taken together."""
    slots = [each.slots for each in seen]
    return replace(
        sums(seen),
        latency_ms=_spread(newest(slots, "whole")),
        first_event_ms=_spread(newest(slots, "first")),
        tokens_per_s=_spread(newest(slots, "speed")),
    )


def sums(seen: Sequence[Seen]) -> Figures:
    """The same without percentiles: a tenth of the work."""
    everything = Tally()
    for each in seen:
        for tally in each.slots.values():
            everything.merge_sums(tally)
    outcomes = everything.outcomes
    lasts = [each.last_s for each in seen if each.last_s is not None]
    failures = [(each.failure[1], each.failure[0]) for each in seen if each.failure is not None]
    last_failure = max(failures, default=None)
    return Figures(
        attempts=sum(outcomes.values()),
        settled=sum(outcomes.get(each, 0) for each in SETTLED),
        failed=sum(outcomes.get(each, 0) for each in FAILED),
        rate_limited=outcomes.get(Outcome.RATE_LIMITED, 0),
        outcomes=dict(sorted(outcomes.items())),
        in_flight=sum(each.in_flight for each in seen),
        last_s=max(lasts, default=None),
        failure=None if last_failure is None else (last_failure[1], last_failure[0]),
        billed=everything.billed,
        cost_nano=everything.cost_nano,
        sold_nano=everything.sold_nano,
        held_nano=everything.held_nano,
        compared=everything.compared,
        reported_nano=everything.reported_nano,
        unexplained_nano=everything.unexplained_nano,
    )


def _spread(values: Values) -> Spread:
    return Spread(values.count, values.percentile(50), values.percentile(95))
