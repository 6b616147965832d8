"""From the reports of all processes to what is scraped, and to what an operator reads.

Counters and histograms are summed over the processes; gauges stay apart, by the label `process`.
What a process that has ended had counted goes on counting; its gauges end with it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias, TypeVar

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector, CollectorRegistry

from proxy import metrics_catalogue as catalogue
from proxy.metrics import Kind, Metric
from proxy.metrics_report import Report

STALE_S = 5.0
"""A process reports every second; one that has not for so long is stuck or gone."""

PROCESS = "process"

_T = TypeVar("_T")
Labels: TypeAlias = tuple[str, ...]
Found: TypeAlias = defaultdict[str, dict[Labels, _T]]
"""Series by the name of their metric, then by the values of their labels."""


class Reports(Collector):
    """The reports as Prometheus' client library wants them; read once, at one moment."""

    def __init__(
        self, reports: Mapping[str, Report], now_s: float, build: tuple[str, str] | None = None
    ) -> None:
        self._reports = reports
        self._now_s = now_s
        self._build = build

    def collect(self) -> Iterator[Family]:
        """Every metric of the catalogue, whether or not it has a value yet."""
        counters: Found[float] = defaultdict(dict)
        histograms: Found[list[float]] = defaultdict(dict)
        gauges: Found[float] = defaultdict(dict)
        for process, report in self._reports.items():
            for name, *labels, value in report.series["counters"]:
                found = counters[name]
                found[tuple(labels)] = found.get(tuple(labels), 0) + value
            for name, *labels, values in report.series["histograms"]:
                sums = histograms[name].get(tuple(labels), [0] * len(values))
                histograms[name][tuple(labels)] = [a + b for a, b in zip(sums, values, strict=True)]
            age_s = max(0.0, self._now_s - report.at_s)
            gauges[catalogue.REPORT_AGE.name][process,] = age_s
            if age_s <= STALE_S:
                for name, *labels, value in report.series["gauges"]:
                    gauges[name][process, *labels] = value
        if self._build is not None:
            gauges[catalogue.BUILD.name][self._build] = 1
        for metric in catalogue.CATALOGUE:
            if metric.kind is Kind.COUNTER:
                yield _counter(metric, counters[metric.name])
            elif metric.kind is Kind.GAUGE:
                yield _gauge(metric, gauges[metric.name])
            else:
                yield _histogram(metric, histograms[metric.name])


def render(collector: Collector, accept: str) -> tuple[bytes, str]:
    """The text and its content type, in the format that the scraper prefers."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def standing(reports: Mapping[str, Report], now_s: float) -> dict[str, Any]:
    """Every process as it says it stands, with its pid and the age of what it says."""
    return {
        name: {
            "pid": report.pid,
            "report_age_s": round(now_s - report.at_s, 1),
            "is_stale": now_s - report.at_s > STALE_S,
            **report.standing,
        }
        for name, report in reports.items()
    }


def _counter(metric: Metric, found: Mapping[Labels, float]) -> Family:
    family = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, value in sorted(found.items()):
        family.add_metric(labels, value)
    return family


def _gauge(metric: Metric, found: Mapping[Labels, float]) -> Family:
    labels = metric.labels if metric is catalogue.BUILD else (PROCESS, *metric.labels)
    family = GaugeMetricFamily(metric.name, metric.help, labels=labels)
    for values, value in sorted(found.items()):
        family.add_metric(values, value)
    return family


def _histogram(metric: Metric, found: Mapping[Labels, list[float]]) -> Family:
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    bounds = [*map(str, metric.buckets), "+Inf"]
    for labels, (*counts, total) in sorted(found.items()):
        below, buckets = 0.0, []
        for bound, count in zip(bounds, counts, strict=True):
            below += count
            buckets.append((bound, below))
        family.add_metric(labels, buckets, sum_value=total)
    return family
