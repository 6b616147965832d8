"""From reports to what is scraped."""

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy import metrics_catalogue as catalogue
from proxy.metrics import Metrics
from proxy.metrics_catalogue import CATALOGUE
from proxy.metrics_render import STALE_S, Reports, render, standing
from proxy.metrics_report import Report


def report(metrics, at_s=100.0, **facts):
    return Report(7, at_s, facts, metrics.series())


def text(reports, now_s=100.0, accept="text/plain"):
    return render(Reports(reports, now_s, ("1", "3")), accept)[0].decode()


def samples(reports, now_s=100.0):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text(reports, now_s))
        for sample in family.samples
    }


def test_every_metric_is_there_before_anything_happened():
    """Its type and its help, so that a rule that names it is never about nothing."""
    said = set(re.findall(r"^# TYPE (\S+)", text({}), re.MULTILINE))

    assert said == {metric.name for metric in CATALOGUE}


def test_counters_and_histograms_are_summed_and_gauges_are_not():
    """Two processes: one sum, two gauges with the process beside them."""
    one, two = Metrics(), Metrics()
    for metrics, times in ((one, 2), (two, 3)):
        metrics.add(catalogue.REFUSALS, "invalid_api_key", by=times)
        metrics.set(catalogue.OPEN_EXCHANGES, to=times)
        for _ in range(times):
            metrics.observe(catalogue.DURATION, "m", value=0.2)
    found = samples({"proxy-0": report(one), "proxy-1": report(two)})

    assert found["weir_refusals_total", ("code", "invalid_api_key")] == 5
    assert found["weir_open_exchanges", ("process", "proxy-0")] == 2
    assert found["weir_open_exchanges", ("process", "proxy-1")] == 3
    name = "weir_exchange_seconds"
    assert found[f"{name}_bucket", ("le", "0.1"), ("model", "m")] == 0
    assert found[f"{name}_bucket", ("le", "0.25"), ("model", "m")] == 5
    assert found[f"{name}_bucket", ("le", "+Inf"), ("model", "m")] == 5
    assert found[f"{name}_count", ("model", "m")] == 5
    assert found[f"{name}_sum", ("model", "m")] == pytest.approx(1.0)


def test_a_process_that_is_silent_keeps_its_counters_and_loses_its_gauges():
    """What it did was done; how it is now nobody knows."""
    metrics = Metrics()
    metrics.add(catalogue.REFUSALS, "invalid_api_key")
    metrics.set(catalogue.OPEN_EXCHANGES, to=4)
    found = samples({"proxy-0": report(metrics)}, now_s=101 + STALE_S)

    assert found["weir_refusals_total", ("code", "invalid_api_key")] == 1
    assert ("weir_open_exchanges", ("process", "proxy-0")) not in found
    assert found["weir_process_report_age_seconds", ("process", "proxy-0")] == 1 + STALE_S


@pytest.mark.parametrize(
    "name", ['a"b', "a\\b", "a\nb", "<img src=x onerror=alert(1)>", "=cmd()", "{{7*7}}", "漢\u202e"]
)
def test_t34_names_are_escaped(name):
    """A name of the configuration, whatever it holds, is one label and nothing else."""
    metrics = Metrics()
    metrics.add(catalogue.SELL, name, by=5)
    found = samples({"proxy-0": report(metrics)})

    assert found["weir_sell_nano_usd_total", ("model", name)] == 5


def test_the_scraper_chooses_the_format():
    """OpenMetrics for whoever asks for it."""
    _, plain = render(Reports({}, 0), "text/plain")
    body, chosen = render(Reports({}, 0), "application/openmetrics-text; version=1.0.0")

    assert plain.startswith("text/plain")
    assert chosen.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_standing_tells_who_is_silent():
    """Every process with its pid, what it said, and how old that is."""
    reports = {
        "proxy-0": report(Metrics(), 100.0, is_ready=True),
        "worker": report(Metrics(), 90.0),
    }

    assert standing(reports, 101.0) == {
        "proxy-0": {"pid": 7, "report_age_s": 1.0, "is_stale": False, "is_ready": True},
        "worker": {"pid": 7, "report_age_s": 11.0, "is_stale": True},
    }
