"""Counters, gauges and histograms of one process: plain numbers in dicts. Pure.

Rules:
- A metric has a fixed list of labels, and every value of a label comes from the configuration or
  from a list in the code, never from a client: the number of series does not grow with traffic.
- Counting costs a look-up in a dict. What is counted becomes text in another process.
- Names start with `weir_`; units stand last in them, and are base units, but for money.
- `proxy.metrics_catalogue` lists all of them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias


class Kind(StrEnum):
    """What a metric does: a counter only grows, a gauge goes up and down."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One name and what it means; `buckets` are upper bounds, ascending, without infinity."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


Key: TypeAlias = tuple[str, ...]
"""The metric's name and the values of its labels."""


class Metrics:
    """The series of one process. Histograms keep a count for each bucket, then the sum.

    What is counted for every request goes to `counters` directly, a third of the time of `add`.
    """

    def __init__(self) -> None:
        self.counters: defaultdict[Key, float] = defaultdict(int)
        self.gauges: dict[Key, float] = {}
        self.histograms: dict[Key, list[float]] = {}

    def add(self, metric: Metric, *labels: str, by: float = 1) -> None:
        """Count something `by` so much."""
        self.counters[metric.name, *labels] += by

    def set(self, metric: Metric, *labels: str, to: float) -> None:
        """A gauge's value, or a counter's that is counted elsewhere."""
        kept = self.gauges if metric.kind is Kind.GAUGE else self.counters
        kept[metric.name, *labels] = to

    def observe(self, metric: Metric, *labels: str, value: float) -> None:
        """One more value of a histogram."""
        key = (metric.name, *labels)
        counts = self.histograms.get(key)
        if counts is None:
            counts = self.histograms[key] = [0] * (len(metric.buckets) + 2)
        counts[bisect_left(metric.buckets, value)] += 1
        counts[-1] += value

    def series(self) -> dict[str, list[Any]]:
        """All of it, as JSON can carry it."""
        return {
            "counters": [[*key, value] for key, value in self.counters.items()],
            "gauges": [[*key, value] for key, value in self.gauges.items()],
            "histograms": [[*key, value] for key, value in self.histograms.items()],
        }

    def resume(self, series: dict[str, list[Any]]) -> None:
        """Go on from what a process in our place had counted; its gauges ended with it."""
        for *key, value in series["counters"]:
            self.counters[tuple(key)] = value
        for *key, value in series["histograms"]:
            self.histograms[tuple(key)] = value
