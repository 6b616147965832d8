"""Usage as rows of a CSV file, for the admin API and the command line. Pure.

Rule: a text that a spreadsheet would take for a formula gets a quote before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from metering.settlement.analytics import Question
from metering.usage import TOKEN_CLASSES

_PLAIN = ("requests", "attempts", "errors", "failed_attempts", "cache_hits")
_TIMES = tuple((name, p) for name in ("latency_ms", "ttft_ms") for p in ("p50", "p95", "p99"))
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_rows(
    rows: Iterable[Mapping[str, Any]], question: Question, *, sees_cost: bool
) -> Iterator[list[Any]]:
    """The heading, then a list for each row."""
    names = [*(["start"] if question.interval != "none" else []), *question.by]
    money = ["sell_usd", *(["cost_usd", "margin_usd"] if sees_cost else [])]
    times = [f"{name.removesuffix('_ms')}_{p}_ms" for name, p in _TIMES]
    yield [*names, *_PLAIN, "tokens", *TOKEN_CLASSES, *money, *times]
    for row in rows:
        tokens = row["tokens"]
        yield [
            *(_safe(row[name]) for name in names),
            *(row[name] for name in _PLAIN),
            tokens["total"],
            *(tokens.get(unit, 0) for unit in TOKEN_CLASSES),
            *(row[name] for name in money),
            *(row[name][p] for name, p in _TIMES),
        ]


def _safe(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
