"""What the next request will cost us to serve, what it sells for, and what follows from the margin.

Pure, in integers: nano-USD and parts per million. The cost is what the provider charges for the
estimate, times four factors of at least one:

- latency: the target will be missed by what is known of the upstream, or, where nothing is known,
  it is under `TIGHT_MS`; then 1 + a tenth of `latency_penalty_multiplier`;
- failures: `failure_buffer`, or the attempts that an answer has taken lately if that is more;
- queue: as much of that same penalty as the upstream has become slower while busier than usual;
- cold start: as much of it as first answers after a pause were slower.

margin = 1 - cost / sell. Under `margin_threshold` the request goes to something cheaper that keeps
the margin, and where there is nothing it is throttled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from metering.money import PPM, divide_up
from metering.prices import Price
from routing.history import Observed

TIGHT_MS = 150
"""A target below it is taken to be missed until the upstream has shown that it is not."""
FAILURES_MAX_PPM = 500_000
"""More failures than that are no matter of price: the upstream is passed over."""
MARGIN_MIN_PPM = -PPM
"""What costs twice what it sells for, or more, or sells for nothing."""

_TENTH = 10


class Mode(StrEnum):
    """What a margin under the threshold leads to."""

    ENFORCE = "enforce"
    SHADOW = "shadow"
    """Nothing; it is said what would have been done."""
    OFF = "off"


@dataclass(frozen=True, slots=True)
class CostRules:
    """`cost_to_serve` of the configuration, with its defaults."""

    base_rate_pico: int = 2_000_000
    """Per token, for models that have no cost price of their own."""
    latency_penalty_ppm: int = 1_300_000
    failure_buffer_ppm: int = 1_050_000
    margin_threshold_ppm: int = 350_000
    throttle_window_ms: int = 60_000
    max_requests_per_window: int = 1_000
    mode: Mode = Mode.OFF


NOT_JUDGED = CostRules()
"""Without a section of the configuration: margins are not looked at."""


@dataclass(frozen=True, slots=True)
class Load:
    """The tokens that a request is estimated at, and how fast it wants its answer."""

    input_tokens: int
    output_tokens: int
    target_ms: int | None = None


class Factor(StrEnum):
    """What makes an answer dearer than its tokens."""

    LATENCY = "latency"
    FAILURES = "failures"
    QUEUE = "queue"
    COLD_START = "cold_start"


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one upstream would cost and sell for. `sell_nano` and `margin_ppm` are None where there
    is no price to sell at; `causes` are the factors above their least."""

    sell_nano: int | None
    cost_nano: int
    margin_ppm: int | None
    causes: tuple[Factor, ...] = ()


class Verdict(StrEnum):
    """What is to become of a request."""

    ALLOW = "allow"
    THROTTLE = "throttle"
    ROUTE = "route"


@dataclass(frozen=True, slots=True)
class Decision:
    """`index` is the alternative to go to when the verdict is to route; `reason` is for people and
    names no cost."""

    verdict: Verdict
    asked: Estimate
    reason: str = ""
    index: int | None = None


def estimate(rules: CostRules, price: Price | None, load: Load, observed: Observed) -> Estimate:
    """The cost to serve of a request at one upstream, and its margin."""
    sell_nano = None
    base_nano = 0
    if price is not None:
        tokens = {"input_tokens": load.input_tokens, "output_tokens": load.output_tokens}
        sell_nano = price.sell.hold_nano(**tokens)
        base_nano = price.cost.hold_nano(**tokens)
    if not base_nano:
        base_nano = divide_up((load.input_tokens + load.output_tokens) * rules.base_rate_pico, 1000)
    factors = _factors(rules, load.target_ms, observed)
    cost = base_nano
    for ppm in factors.values():
        cost *= ppm
    cost_nano = divide_up(cost, PPM ** len(factors))
    least = {Factor.FAILURES: rules.failure_buffer_ppm}
    causes = tuple([each for each, ppm in factors.items() if ppm > least.get(each, PPM)])
    return Estimate(sell_nano, cost_nano, _margin_ppm(sell_nano, cost_nano), causes)


def _factors(rules: CostRules, target_ms: int | None, observed: Observed) -> dict[Factor, int]:
    penalty_ppm = rules.latency_penalty_ppm // _TENTH
    failures_ppm = min(observed.failures_ppm, FAILURES_MAX_PPM)
    attempts_ppm = divide_up(PPM * PPM, PPM - failures_ppm)
    return {
        Factor.LATENCY: PPM + penalty_ppm * _is_missed(target_ms, observed.p95_ms),
        Factor.FAILURES: max(rules.failure_buffer_ppm, attempts_ppm),
        Factor.QUEUE: PPM + penalty_ppm * observed.slower_ppm // PPM,
        Factor.COLD_START: PPM + penalty_ppm * observed.cold_ppm // PPM,
    }


def _is_missed(target_ms: int | None, p95_ms: int | None) -> bool:
    if target_ms is None:
        return False
    return target_ms < TIGHT_MS if p95_ms is None else p95_ms > target_ms


def _margin_ppm(sell_nano: int | None, cost_nano: int) -> int | None:
    if sell_nano is None:
        return None
    if not sell_nano:
        return MARGIN_MIN_PPM if cost_nano else PPM
    return max(MARGIN_MIN_PPM, PPM - divide_up(cost_nano * PPM, sell_nano))


def keeps_margin(rules: CostRules, found: Estimate) -> bool:
    """Whether it may be served as it is; what has no sell price is no matter of margins."""
    return found.margin_ppm is None or found.margin_ppm >= rules.margin_threshold_ppm


def decide(rules: CostRules, asked: Estimate, others: Sequence[Estimate]) -> Decision:
    """What is to become of a request at `asked`, given what else could serve it."""
    if keeps_margin(rules, asked):
        return Decision(Verdict.ALLOW, asked)
    sell_nano = asked.sell_nano or 0
    able = [
        (each.sell_nano, index)
        for index, each in enumerate(others)
        if each.sell_nano is not None and each.sell_nano <= sell_nano and keeps_margin(rules, each)
    ]
    reason = "; ".join(["margin", *asked.causes])
    if able:
        return Decision(Verdict.ROUTE, asked, reason, min(able)[1])
    return Decision(Verdict.THROTTLE, asked, reason)
