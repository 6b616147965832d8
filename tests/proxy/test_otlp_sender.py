"""Sending to a collector that is there, slow, away, or says no."""

from __future__ import annotations

from dataclasses import replace

from fixtures_door import CollectingLog
from fixtures_otlp import Collector, plain

from proxy import otlp_sender
from proxy.metrics import Metrics
from proxy.otlp_sender import OtlpSender
from proxy.settings import Telemetry
from proxy.spans import Instrument, Span, SpanKind
from proxy.telemetry_open import sending

SPAN = Span("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "x", SpanKind.SERVER, 1, 2)
SOME = Instrument("some", "s", "Something.", (1.0,))


def sender_to(
    settings: Telemetry, log: CollectingLog, metrics: Metrics, *, metrics_every_s: float = 15.0
) -> OtlpSender:
    return OtlpSender(
        settings,
        metrics,
        resource={"service.name": "tokenweir", "service.instance.id": "p-0"},
        version="1",
        log=log,
        send_every_s=0.01,
        metrics_every_s=metrics_every_s,
    )


def counted(metrics: Metrics) -> dict[str, float]:
    return {key[1]: value for key, value in metrics.counters.items()}


async def test_spans_arrive_and_are_counted(collector: Collector) -> None:
    """With the headers that were set, and what the installation says of itself."""
    log, metrics = CollectingLog(), Metrics()
    settings = collector.settings(resource={"deployment.environment.name": "staging"})
    sender = sender_to(settings, log, metrics)

    async with sending(sender):
        for _ in range(300):
            sender.put(SPAN)
        await collector.until(300)

    resource = collector.traces[0]["resourceSpans"][0]["resource"]["attributes"]
    assert plain(resource) == {
        "service.name": "tokenweir",
        "service.instance.id": "p-0",
        "deployment.environment.name": "staging",
    }
    assert collector.headers[0]["x-key"] == "canary-otlp-key"
    assert collector.headers[0]["Content-Type"] == "application/json"
    assert counted(metrics) == {"sent": 300, "dropped": 0, "refused": 0}
    assert log.lines == []


async def test_what_is_left_is_sent_at_the_end(collector: Collector) -> None:
    """A process that ends in order loses nothing."""
    metrics = Metrics()
    sender = sender_to(collector.settings(), CollectingLog(), metrics)
    sender.put(SPAN)
    sender.histograms.observe(SOME, (), 0.5)

    await sender.close()

    assert len(collector.spans) == len(collector.metrics) == 1


async def test_a_collector_that_comes_back_gets_all(collector: Collector) -> None:
    """One line when it goes, one when it comes; in between nothing is lost that has room."""
    log, metrics = CollectingLog(), Metrics()
    collector.statuses = [503, 429, 503]
    sender = sender_to(collector.settings(), log, metrics)

    async with sending(sender):
        sender.put(SPAN)
        await collector.until(1)

    assert [line for line, _ in log.lines] == ["telemetry_waits", "telemetry_goes_on"]
    assert counted(metrics) == {"sent": 1, "dropped": 0, "refused": 0}


async def test_a_refusal_is_counted_and_told_once(collector: Collector) -> None:
    """What a collector will never take is not sent again."""
    log, metrics = CollectingLog(), Metrics()
    collector.statuses = [401] * 8
    sender = sender_to(collector.settings(), log, metrics)

    async with sending(sender):
        for count in (1, 2):
            sender.put(SPAN)
            await collector.asked(count)

    assert [line for line, _ in log.lines] == ["telemetry_refused"]
    assert "canary" not in repr(log.lines)
    assert counted(metrics) == {"sent": 0, "dropped": 0, "refused": 2}


async def test_what_a_collector_rejects_is_not_counted_as_sent(collector: Collector) -> None:
    """A success may be a partial one."""
    metrics = Metrics()
    collector.body = '{"partialSuccess":{"rejectedSpans":"1","errorMessage":"too old"}}'
    sender = sender_to(collector.settings(), CollectingLog(), metrics)
    sender.put(SPAN)
    sender.put(SPAN)

    await sender.close()

    assert counted(metrics) == {"sent": 1, "dropped": 0, "refused": 1}


async def test_what_finds_no_room_is_dropped_and_counted(collector: Collector) -> None:
    """Nobody listens: memory stays bounded, and putting never fails or waits."""
    log, metrics = CollectingLog(), Metrics()
    away = replace(collector.settings(), otlp="http://127.0.0.1:9")
    sender = sender_to(away, log, metrics)
    for _ in range(otlp_sender.QUEUE_MAX + 5):
        sender.put(SPAN)
    assert counted(metrics)["dropped"] == 5

    await sender.close()

    assert counted(metrics) == {"sent": 0, "dropped": otlp_sender.QUEUE_MAX + 5, "refused": 0}
    assert [line for line, _ in log.lines] == ["telemetry_waits"]


async def test_histograms_are_told_from_the_beginning_on(collector: Collector) -> None:
    """Each message has all of them, so one that is lost costs nothing."""
    sender = sender_to(collector.settings(), CollectingLog(), Metrics(), metrics_every_s=0.0)
    sender.histograms.observe(SOME, (), 0.5)

    async with sending(sender):
        await collector.asked(1)
        sender.histograms.observe(SOME, (), 0.5)

    last = collector.metrics[-1]["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0]
    assert last["histogram"]["dataPoints"][0]["count"] == "2"
