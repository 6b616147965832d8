"""OTLP in JSON, to the letter of its rules."""

from __future__ import annotations

import json

import pytest

from proxy.otlp import TEXT_MAX, Told, metrics_body, rejected_in, told_by, trace_body
from proxy.spans import Histograms, Instrument, Span, SpanKind

SPAN = Span(
    trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
    span_id="00f067aa0ba902b7",
    parent_id="b7ad6b7169203331",
    name="chat up-m",
    kind=SpanKind.CLIENT,
    start_ns=1_800_000_000_000_000_001,
    end_ns=1_800_000_000_000_000_009,
    attributes={"n": 2**53 + 1, "f": 0.5, "b": True, "s": "x", "l": ("a", "b")},
    events=(("first event", 1_800_000_000_000_000_005),),
    error="timeout",
)


def test_a_span_to_the_letter() -> None:
    """Ids are hexadecimal, integers of 64 bits are text, enumerations are numbers."""
    assert json.loads(trace_body({"service.name": "tokenweir"}, "1.2", [SPAN])) == {
        "resourceSpans": [
            {
                "resource": {
                    "attributes": [{"key": "service.name", "value": {"stringValue": "tokenweir"}}]
                },
                "scopeSpans": [
                    {
                        "scope": {"name": "tokenweir", "version": "1.2"},
                        "spans": [
                            {
                                "traceId": "4bf92f3577b34da6a3ce929d0e0e4736",
                                "spanId": "00f067aa0ba902b7",
                                "parentSpanId": "b7ad6b7169203331",
                                "name": "chat up-m",
                                "kind": 3,
                                "startTimeUnixNano": "1800000000000000001",
                                "endTimeUnixNano": "1800000000000000009",
                                "attributes": [
                                    {"key": "n", "value": {"intValue": "9007199254740993"}},
                                    {"key": "f", "value": {"doubleValue": 0.5}},
                                    {"key": "b", "value": {"boolValue": True}},
                                    {"key": "s", "value": {"stringValue": "x"}},
                                    {
                                        "key": "l",
                                        "value": {
                                            "arrayValue": {
                                                "values": [
                                                    {"stringValue": "a"},
                                                    {"stringValue": "b"},
                                                ]
                                            }
                                        },
                                    },
                                ],
                                "events": [
                                    {
                                        "name": "first event",
                                        "timeUnixNano": "1800000000000000005",
                                    }
                                ],
                                "status": {"code": 2, "message": "timeout"},
                            }
                        ],
                    }
                ],
            }
        ]
    }


def test_whatever_a_text_holds_is_written() -> None:
    """Half a letter from somebody's JSON does not lose the whole batch; nothing long is told."""
    odd = Span("a", "b", "\ud800" + "x" * 999, SpanKind.SERVER, 2, 1)

    ((written,),) = (
        scope["spans"]
        for scope in json.loads(trace_body({}, "1", [odd]))["resourceSpans"][0]["scopeSpans"]
    )
    assert written["name"] == "?" + "x" * (TEXT_MAX - 1)
    assert written["endTimeUnixNano"] == "2"  # a clock that went back makes no negative span


def test_a_histogram_to_the_letter() -> None:
    """Its buckets are one more than its bounds, and add up to its count."""
    some = Instrument("some", "s", "Something.", (1.0, 2.0))
    kept = Histograms()
    for value in (0.5, 3.0):
        kept.observe(some, (("a", "b"),), value)

    (metric,) = json.loads(metrics_body({}, "1", kept, since_ns=1, now_ns=2))["resourceMetrics"][0][
        "scopeMetrics"
    ][0]["metrics"]
    assert (metric["name"], metric["unit"]) == ("some", "s")
    assert metric["histogram"] == {
        "aggregationTemporality": 2,
        "dataPoints": [
            {
                "attributes": [{"key": "a", "value": {"stringValue": "b"}}],
                "count": "2",
                "sum": 3.5,
                "bucketCounts": ["1", "0", "1"],
                "explicitBounds": [1.0, 2.0],
                "startTimeUnixNano": "1",
                "timeUnixNano": "2",
            }
        ],
    }


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (200, Told.TAKEN),
        (202, Told.TAKEN),
        (302, Told.REFUSED),
        (400, Told.REFUSED),
        (401, Told.REFUSED),
        (429, Told.LATER),
        (500, Told.REFUSED),
        (503, Told.LATER),
    ],
)
def test_what_a_status_means(status: int, told: Told) -> None:
    """Only what the protocol calls retryable is sent again."""
    assert told_by(status) is told


@pytest.mark.parametrize(
    ("body", "count"),
    [
        (b"", 0),
        (b"{}", 0),
        (b"[]", 0),
        (b'{"partialSuccess":{}}', 0),
        (b'{"partialSuccess":{"rejectedSpans":"3"}}', 3),
        (b'{"partialSuccess":{"rejectedSpans":-1}}', 0),
        (b'{"partialSuccess":{"rejectedSpans":"many"}}', 0),
    ],
)
def test_what_an_answer_says_was_rejected(body: bytes, count: int) -> None:
    """Whatever a collector answers, it is a number."""
    assert rejected_in(body) == count
