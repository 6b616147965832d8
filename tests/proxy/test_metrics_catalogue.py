"""The list of all metrics keeps the rules of naming."""

import re

import pytest

from proxy.metrics import Kind
from proxy.metrics_catalogue import CATALOGUE

UNITS = ("_seconds", "_bytes", "_total", "_info", "_ratio", "_per_second", "_nano_usd")
COUNTS = ("exchanges", "connections", "up", "open", "ready", "entries", "fds", "records")
COUNTS += ("outage", "refusing", "generation", "hash", "failed", "in_flight")


@pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.name)
def test_names_and_labels(metric):
    """A name says its unit at its end, counters end in _total, and help is a sentence."""
    assert re.fullmatch(r"weir_[a-z_]+", metric.name)
    assert metric.name.endswith(UNITS) or metric.name.endswith(COUNTS)
    assert metric.name.endswith("_total") is (metric.kind is Kind.COUNTER)
    assert metric.help.endswith(".")
    assert "process" not in metric.labels
    assert list(metric.buckets) == sorted(set(metric.buckets))
    assert bool(metric.buckets) is (metric.kind is Kind.HISTOGRAM)


def test_names_are_unique():
    """Two metrics of one name would be added up."""
    names = [metric.name for metric in CATALOGUE]

    assert len(set(names)) == len(names)
