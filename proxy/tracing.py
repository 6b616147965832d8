"""The trace of a request, from its first byte to its commit. Nothing of it exists when it is off.

A process that traces has one `Tracer`; every other one has None in its place, and each stage asks
for that and nothing else. The trace of the request under way stands in a context variable, so that
whatever runs for the request, in whichever task, adds to the right one. A span is sent as soon as
its work is over, and is never kept for another.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar, Token
from dataclasses import dataclass, field, replace

from metering.clock import now_ns
from proxy.attempts import Attempt, Facts
from proxy.charging import Charge
from proxy.genai_spans import OPERATIONS, attempt_span, count, request_attributes, span_id_of
from proxy.spans import Histograms, Span, SpanKind, Value
from proxy.traceparent import TRACEPARENT, parent_in, traceparent
from proxy.transport import Call

PPM = 1_000_000


@dataclass(slots=True)
class Trace:
    """The trace of one request; `at_ns` is where its last stage ended."""

    trace_id: str
    span_id: str
    parent_id: str | None
    is_sampled: bool
    operation: str | None
    started_ns: int
    at_ns: int
    attributes: dict[str, Value] = field(default_factory=dict)
    error: str | None = None


_CURRENT: ContextVar[Trace | None] = ContextVar("weir_trace", default=None)


class Tracer:
    """Makes spans and gives them to `put`, which must not wait; counts into `histograms`."""

    def __init__(
        self,
        put: Callable[[Span], None],
        histograms: Histograms,
        *,
        sample_ppm: int = PPM,
        clock: Callable[[], int] = now_ns,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._put, self._histograms = put, histograms
        self._sample_ppm, self._clock, self._entropy = sample_ppm, clock, entropy

    def begin(self, parents: Sequence[str], path: str) -> tuple[Trace, Token[Trace | None]]:
        """A request has come with these `traceparent` headers; to be ended with `end`.

        Its client decides whether it is recorded, where it says so; else a share of all are.
        """
        now, drawn = self._clock(), self._entropy(28)
        parent = parent_in(parents)
        if parent is not None:
            trace_id, parent_id, is_sampled = parent.trace_id, parent.span_id, parent.is_sampled
        else:
            trace_id, parent_id = drawn[:16].hex(), None
            is_sampled = int.from_bytes(drawn[24:28]) % PPM < self._sample_ppm
        trace = Trace(
            trace_id=trace_id,
            span_id=drawn[16:24].hex(),
            parent_id=parent_id,
            is_sampled=is_sampled,
            operation=OPERATIONS.get(path),
            started_ns=now,
            at_ns=now,
        )
        return trace, _CURRENT.set(trace)

    def end(
        self, trace: Trace, token: Token[Trace | None], name: str, more: Mapping[str, Value]
    ) -> None:
        """The request was answered, or its client has left."""
        _CURRENT.reset(token)
        if trace.is_sampled:
            self._put(
                Span(
                    trace_id=trace.trace_id,
                    span_id=trace.span_id,
                    parent_id=trace.parent_id,
                    name=name,
                    kind=SpanKind.SERVER,
                    start_ns=trace.started_ns,
                    end_ns=self._clock(),
                    attributes={**more, **trace.attributes},
                    error=trace.error,
                )
            )

    def stage(self, name: str) -> None:
        """What went on since the last stage was this, and is over."""
        trace = _CURRENT.get()
        if trace is not None:
            began_ns, trace.at_ns = trace.at_ns, self._clock()
            self._child(trace, name, began_ns, {})

    def step(
        self, name: str, began_ns: int, attributes: Mapping[str, Value], error: str | None = None
    ) -> None:
        """Something of the request that began then is over, beside its stages."""
        if (trace := _CURRENT.get()) is not None:
            trace.at_ns = self._clock()
            self._child(trace, name, began_ns, attributes, error)

    def _child(
        self,
        trace: Trace,
        name: str,
        began_ns: int,
        attributes: Mapping[str, Value],
        error: str | None = None,
    ) -> None:
        if trace.is_sampled:
            self._put(
                Span(
                    trace_id=trace.trace_id,
                    span_id=self._entropy(8).hex(),
                    parent_id=trace.span_id,
                    name=name,
                    kind=SpanKind.INTERNAL,
                    start_ns=began_ns,
                    end_ns=trace.at_ns,
                    attributes=attributes,
                    error=error,
                )
            )

    def alone(self, name: str, began_ns: int, attributes: Mapping[str, Value]) -> None:
        """Something that no request waits for has ended: a trace of its own."""
        drawn = self._entropy(28)
        if int.from_bytes(drawn[24:28]) % PPM < self._sample_ppm:
            self._put(
                Span(
                    trace_id=drawn[:16].hex(),
                    span_id=drawn[16:24].hex(),
                    name=name,
                    kind=SpanKind.INTERNAL,
                    start_ns=began_ns,
                    end_ns=self._clock(),
                    attributes=attributes,
                )
            )

    def carried(self, call: Call, attempt: Attempt) -> Call:
        """The call to an upstream, with the span of this attempt as what it belongs to."""
        if (trace := _CURRENT.get()) is None:
            return call
        told = traceparent(trace.trace_id, span_id_of(attempt), is_sampled=trace.is_sampled)
        return replace(call, headers={**call.headers, TRACEPARENT: told}, is_signed=True)

    def refused(self, code: str) -> None:
        """The request gets an error of ours."""
        if (trace := _CURRENT.get()) is not None:
            trace.error = trace.attributes["error.type"] = code

    def told(self, facts: Facts, attempts: Sequence[Attempt], charges: Sequence[Charge]) -> None:
        """An exchange has ended, with these attempts and what they come to."""
        if (trace := _CURRENT.get()) is None:
            return
        if trace.operation is not None:
            for attempt, charged in zip(attempts, charges, strict=True):
                count(self._histograms, facts, attempt, charged, trace.operation)
        if not trace.is_sampled:
            return
        trace.attributes |= request_attributes(facts, attempts, charges)
        for attempt, charged in zip(attempts, charges, strict=True):
            self._put(
                attempt_span(
                    facts,
                    attempt,
                    charged,
                    trace_id=trace.trace_id,
                    parent_id=trace.span_id,
                    operation=trace.operation,
                )
            )
