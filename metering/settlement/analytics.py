"""Questions about usage, and where each is best answered from. Pure.

Rules: the coarsest sums that know all of what is asked about are read: whole days where there are
whole days, hours at the edges. A range is widened to whole hours, and the answer says to which.
What sums do not know (users, sessions) is read from the events, with a bound on how many.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

from metering.money import format_usd
from metering.settlement.histograms import percentiles
from metering.usage import TOKEN_CLASSES

Period = Literal["hour", "day"]

HOUR_NS = 3_600_000_000_000
DAY_HOURS = 24

SUMMED = (
    "tenant",
    "project",
    "key",
    "feature",
    "provider",
    "model",
    "version",
    "status",
    "reason",
    "cache",
)
"""The dimensions that sums know."""

EVENTS_ONLY = ("user", "session")
"""Those that only events know: of too many values to be summed."""

DIMENSIONS = (*SUMMED, *EVENTS_ONLY)
INTERVALS = ("none", "hour", "day", "month")
SORTS = ("start", "sell", "cost", "margin", "requests", "attempts", "tokens", "errors")
LIMIT, LIMIT_MAX = 100, 1_000
BINS_MAX = 20_000
"""Hours, days or months of one answer: more than two years of hours."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: a half-open range of admission times, and how it is cut up.

    `filters` are by dimension, any of several values; '' is what has none. `sort` "start" begins
    with the oldest, all others with the largest. `after` is the cursor of the page before.
    """

    start_ns: int
    end_ns: int
    interval: str = "none"
    by: tuple[str, ...] = ()
    filters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sort: str = "start"
    limit: int = LIMIT
    after: str | None = None

    @property
    def needs(self) -> frozenset[str]:
        """Every dimension that the answer depends on."""
        return frozenset(self.by) | frozenset(self.filters)


@dataclass(frozen=True, slots=True)
class Segment:
    """Some hours or days, `first` to before `end`, of the sums at one level."""

    level: str
    period: Period
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class LevelOf:
    """A level of detail: what it tells apart, and by which periods it has sums and times."""

    dimensions: frozenset[str]
    sums: frozenset[str]
    times: frozenset[str]


def checked(question: Question) -> Question:
    """The question, widened to whole hours; ValueError names what is wrong with it."""
    for name in question.needs:
        if name not in DIMENSIONS:
            raise ValueError(f"{name!r} is no dimension: choose from {', '.join(DIMENSIONS)}")
    if question.interval not in INTERVALS:
        raise ValueError(f"interval: {question.interval!r} is not among {', '.join(INTERVALS)}")
    if question.sort not in SORTS:
        raise ValueError(f"sort: {question.sort!r} is not among {', '.join(SORTS)}")
    if not 1 <= question.limit <= LIMIT_MAX:
        raise ValueError(f"limit: {question.limit} is not between 1 and {LIMIT_MAX}")
    if not 0 <= question.start_ns < question.end_ns:
        raise ValueError("from must be before to")
    first, end = question.start_ns // HOUR_NS, -(-question.end_ns // HOUR_NS)
    per = {"hour": 1, "day": DAY_HOURS}.get(question.interval)
    if per and (end - first) // per > BINS_MAX:
        raise ValueError(f"interval: the range has more than {BINS_MAX} of a {question.interval}")
    return Question(
        first * HOUR_NS,
        end * HOUR_NS,
        question.interval,
        question.by,
        question.filters,
        question.sort,
        question.limit,
        question.after,
    )


def is_summed(question: Question) -> bool:
    """Whether sums can answer it; else events have to."""
    return question.needs <= frozenset(SUMMED)


def segments_of(
    question: Question,
    levels: Mapping[str, LevelOf],
    *,
    of: Literal["sums", "times"] = "sums",
) -> list[Segment]:
    """What to add up; `levels` are named the coarsest first, and the last knows every hour."""
    first, end = question.start_ns // HOUR_NS, question.end_ns // HOUR_NS

    def level_with(period: str) -> str | None:
        found = (
            name
            for name, each in levels.items()
            if question.needs <= each.dimensions and period in getattr(each, of)
        )
        return next(found, None)

    hours, days = level_with("hour"), level_with("day")
    assert hours is not None
    first_day, end_day = -(-first // DAY_HOURS), end // DAY_HOURS
    if question.interval == "hour" or days is None or end_day <= first_day:
        return [Segment(hours, "hour", first, end)]
    found = [
        Segment(hours, "hour", first, first_day * DAY_HOURS),
        Segment(days, "day", first_day, end_day),
        Segment(hours, "hour", end_day * DAY_HOURS, end),
    ]
    return [each for each in found if each.first < each.end]


def months_between(start_ns: int, end_ns: int) -> list[tuple[int, int]]:
    """The months that a range touches, as numbers (year times twelve), with the hours they begin
    at."""
    months = [_month_of(start_ns), _month_of(end_ns - 1)]
    return [(number, _month_hour(number)) for number in range(months[0], months[1] + 1)]


def start_of_bin_ns(interval: str, number: int, question: Question) -> int:
    """When an hour, day or month begins."""
    if interval == "hour":
        return number * HOUR_NS
    if interval == "day":
        return number * DAY_HOURS * HOUR_NS
    if interval == "month":
        return _month_hour(number) * HOUR_NS
    return question.start_ns


def _month_of(time_ns: int) -> int:
    moment = datetime.fromtimestamp(time_ns // 10**9, UTC)
    return moment.year * 12 + moment.month - 1


def _month_hour(number: int) -> int:
    moment = datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC)
    return int(moment.timestamp()) // 3600


def cursor_of(place: Sequence[Any]) -> str:
    """The place of the last row of a page, as text."""
    return base64.urlsafe_b64encode(orjson.dumps(place)).decode().rstrip("=")


def place_of(cursor: str, length: int) -> list[Any]:
    """What `cursor_of` was given; ValueError for what it has not made."""
    try:
        found = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error):
        found = None
    if not isinstance(found, list) or len(found) != length:
        raise ValueError("cursor: it is not one of this question's; ask for the first page again")
    return found


def figures(sums: Mapping[str, int], times: Mapping[str, Mapping[int, int]]) -> dict[str, Any]:
    """What is shown of some sums, and of their histograms where there are any."""
    tokens = {unit: int(sums[f"q_{unit}"] or 0) for unit in TOKEN_CLASSES}
    requests = int(sums["requests"] or 0)
    sell_nano, cost_nano = int(sums["sell_nano"] or 0), int(sums["cost_nano"] or 0)
    errors, hits = int(sums["errors"] or 0), int(sums["cache_hits"] or 0)
    return {
        "requests": requests,
        "attempts": int(sums["attempts"] or 0),
        "tokens": {
            "total": sum(tokens.values()),
            **{unit: count for unit, count in tokens.items() if count},
        },
        **_amounts("sell", sell_nano),
        **_amounts("cost", cost_nano),
        **_amounts("margin", sell_nano - cost_nano),
        "errors": errors,
        "error_rate": share(errors, requests),
        "failed_attempts": int(sums["failed"] or 0),
        "cache_hits": hits,
        "cache_hit_rate": share(hits, requests),
        "latency_ms": percentiles(times.get("latency", {})),
        "ttft_ms": percentiles(times.get("ttft", {})),
    }


def _amounts(name: str, nano: int) -> dict[str, Any]:
    return {f"{name}_usd": format_usd(nano, places=9), f"{name}_nano": nano}


def share(part: int, whole: int) -> float | None:
    """A share of requests, to six places; None of nothing."""
    return round(part / whole, 6) if whole else None
