"""Spans and histograms as OTLP/HTTP carries them in JSON, and what its answers mean. Pure.

The rules of that encoding: ids are hexadecimal, 64-bit integers are text, enumerations are numbers.
Why not OpenTelemetry's own library: docs/telemetry.md has the reasons.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

import orjson

from proxy.spans import Histograms, Instrument, Labels, Point, Span, Value

SCOPE = "tokenweir"
TEXT_MAX = 256
"""No value is longer: names and ids are not, and nothing else is told."""

_ERROR = 2
_CUMULATIVE = 2
_LATER = frozenset({408, 429, 502, 503, 504})


class Told(StrEnum):
    """What became of a message; `LATER` is to be sent again."""

    TAKEN = "taken"
    LATER = "later"
    REFUSED = "refused"


def trace_body(resource: Mapping[str, str], version: str, spans: Iterable[Span]) -> bytes:
    """An ExportTraceServiceRequest."""
    scoped = {"scope": _scope(version), "spans": [_span(each) for each in spans]}
    return orjson.dumps(
        {"resourceSpans": [{"resource": _resource(resource), "scopeSpans": [scoped]}]}
    )


def metrics_body(
    resource: Mapping[str, str], version: str, kept: Histograms, *, since_ns: int, now_ns: int
) -> bytes:
    """An ExportMetricsServiceRequest: every series, counted from `since_ns` on."""
    by_name: dict[str, dict[str, Any]] = {}
    for (instrument, labels), point in kept.points.items():
        metric = by_name.setdefault(instrument.name, _metric(instrument))
        metric["histogram"]["dataPoints"].append(
            {
                **_point(instrument, labels, point),
                "startTimeUnixNano": str(since_ns),
                "timeUnixNano": str(now_ns),
            }
        )
    scoped = {"scope": _scope(version), "metrics": list(by_name.values())}
    return orjson.dumps(
        {"resourceMetrics": [{"resource": _resource(resource), "scopeMetrics": [scoped]}]}
    )


def told_by(status: int) -> Told:
    """What this status means for what was sent."""
    if status // 100 == 2:
        return Told.TAKEN
    return Told.LATER if status in _LATER else Told.REFUSED


def rejected_in(body: bytes) -> int:
    """How many spans an answer of success says were not taken after all."""
    try:
        answer = orjson.loads(body)
        return max(0, int(answer["partialSuccess"]["rejectedSpans"]))
    except (ValueError, KeyError, TypeError):  # there is nothing in most answers
        return 0


def _resource(resource: Mapping[str, str]) -> dict[str, Any]:
    return {"attributes": _attributes(resource)}


def _scope(version: str) -> dict[str, str]:
    return {"name": SCOPE, "version": version}


def _span(span: Span) -> dict[str, Any]:
    written: dict[str, Any] = {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "name": _text(span.name),
        "kind": int(span.kind),
        "startTimeUnixNano": str(span.start_ns),
        "endTimeUnixNano": str(max(span.start_ns, span.end_ns)),
        "attributes": _attributes(span.attributes),
    }
    if span.parent_id is not None:
        written["parentSpanId"] = span.parent_id
    if span.events:
        written["events"] = [
            {"name": name, "timeUnixNano": str(at_ns)} for name, at_ns in span.events
        ]
    if span.error is not None:
        written["status"] = {"code": _ERROR, "message": _text(span.error)}
    return written


def _metric(instrument: Instrument) -> dict[str, Any]:
    return {
        "name": instrument.name,
        "unit": instrument.unit,
        "description": instrument.help,
        "histogram": {"aggregationTemporality": _CUMULATIVE, "dataPoints": []},
    }


def _point(instrument: Instrument, labels: Labels, point: Point) -> dict[str, Any]:
    return {
        "attributes": _attributes(dict(labels)),
        "count": str(sum(point.counts)),
        "sum": point.total,
        "bucketCounts": [str(count) for count in point.counts],
        "explicitBounds": list(instrument.bounds),
    }


def _attributes(values: Mapping[str, Value]) -> list[dict[str, Any]]:
    return [{"key": name, "value": _value(value)} for name, value in values.items()]


def _value(value: Value) -> dict[str, Any]:
    if isinstance(value, str):
        return {"stringValue": _text(value)}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"arrayValue": {"values": [_value(each) for each in value]}}


def _text(value: str) -> str:
    """Short, and without the halves of letters that a client's JSON may hold: no encoder takes
    them."""
    cut = value[:TEXT_MAX]
    return cut if cut.isascii() else cut.encode("utf-8", "replace").decode()
