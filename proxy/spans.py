"""Spans, and points of histograms: what is told of one piece of work, whoever reads it. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeAlias

Value: TypeAlias = str | int | float | bool | tuple[str, ...]
"""What an attribute can be."""


class SpanKind(IntEnum):
    """On which side of a call a span is; the numbers are OTLP's."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3


@dataclass(frozen=True, slots=True)
class Span:
    """One piece of work that has ended. Times are UTC nanoseconds; a trace's first has no parent.

    `error` says in one word how it failed; `events` are names with their times.
    """

    trace_id: str
    span_id: str
    name: str
    kind: SpanKind
    start_ns: int
    end_ns: int
    parent_id: str | None = None
    attributes: Mapping[str, Value] = field(default_factory=dict)
    events: tuple[tuple[str, int], ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Instrument:
    """A histogram: its name, unit, and the upper bounds of its buckets, without infinity."""

    name: str
    unit: str
    help: str
    bounds: tuple[float, ...]


@dataclass(slots=True)
class Point:
    """One series of a histogram, from the start of the process on."""

    counts: list[int]
    total: float = 0.0

    def observe(self, bounds: tuple[float, ...], value: float) -> None:
        """One more value."""
        self.counts[bisect_left(bounds, value)] += 1
        self.total += value


Labels: TypeAlias = tuple[tuple[str, str], ...]


class Histograms:
    """Series of histograms by their labels, at most `series_max`; values of others are not kept."""

    def __init__(self, *, series_max: int = 2_000) -> None:
        self._series_max = series_max
        self.points: dict[tuple[Instrument, Labels], Point] = {}

    def observe(self, instrument: Instrument, labels: Labels, value: float) -> None:
        """One more value of a series."""
        point = self.points.get((instrument, labels))
        if point is None:
            if len(self.points) >= self._series_max:
                return
            point = Point([0] * (len(instrument.bounds) + 1))
            self.points[instrument, labels] = point
        point.observe(instrument.bounds, value)
