"""OpenAI's usage and costs APIs, and the CSV files of its dashboard, as rows of ours. Pure.

`input_tokens` counts the cached, written, audio and image tokens in; here they are taken apart.
Where the parts do not fit into the whole (older rows name none of some) all of it is uncached
input, so that no token is lost. `value` of an amount is a JSON number and read as a decimal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

from metering.settlement.exports.rows import (
    COST,
    REQUESTS,
    USAGE,
    CostRow,
    Export,
    ExportError,
    UsageRow,
    count,
    day_of,
    nano,
    spanning,
    text,
)
from metering.usage import (
    CODE_SESSION,
    IMAGE,
    INPUT_AUDIO,
    INPUT_CACHE_READ,
    INPUT_CACHE_WRITE_5M,
    INPUT_IMAGE,
    INPUT_UNCACHED,
    OUTPUT_AUDIO,
    OUTPUT_TEXT,
)

ADDRESS = "https://api.openai.com/v1"
USAGE_PATHS = (
    "/organization/usage/completions",
    "/organization/usage/embeddings",
    "/organization/usage/images",
    "/organization/usage/audio_transcriptions",
    "/organization/usage/code_interpreter_sessions",
)
COST_PATHS = ("/organization/costs",)
USAGE_DAYS, COST_DAYS = 31, 180
"""Buckets of a day that one page may hold."""

_LABELS = ("model", "api_key_id", "project_id")
_GROUPS = {
    USAGE_PATHS[0]: (*_LABELS, "batch", "service_tier"),
    USAGE_PATHS[4]: ("project_id",),
    COST_PATHS[0]: ("project_id", "line_item"),
}


def headers(admin_key: str) -> dict[str, str]:
    """What proves who asks."""
    return {"authorization": f"Bearer {admin_key}"}


def query(path: str, since: str, until: str, *, limit: int) -> list[tuple[str, str]]:
    """The parameters of the first page of a path, from a day to before another."""
    groups = _GROUPS.get(path, _LABELS)
    return [
        ("start_time", str(_unix_s(since))),
        ("end_time", str(_unix_s(until))),
        ("bucket_width", "1d"),
        ("limit", str(limit)),
        *(("group_by[]", group) for group in groups),
    ]


def read_usage(page: Mapping[str, Any], path: str) -> list[UsageRow]:
    """The rows of a page of one of `USAGE_PATHS`."""
    del path  # its results say by their fields what they count
    return [
        row
        for day, result in _results(page)
        for row in _usage_rows(day, result, tier=_tier(result))
    ]


def read_costs(page: Mapping[str, Any]) -> list[CostRow]:
    """The rows of a page of costs."""
    rows = []
    for day, result in _results(page):
        amount = result.get("amount")
        if not isinstance(amount, Mapping):
            raise ExportError(f"a cost of {day} has no amount")
        rows.append(_cost_row(day, result, amount.get("value"), text(amount, "currency")))
    return rows


def read_file(rows: list[dict[str, str]]) -> Export:
    """A CSV file of the dashboard: usage by `input_tokens`, or costs by `amount_value`."""
    names = rows[0].keys() if rows else ()
    days = [day_of(row["start_time"]) for row in rows if "start_time" in row]
    if len(days) < len(rows):
        raise ExportError("a row has no start_time")
    told = list(zip(days, rows, strict=True))
    if "amount_value" in names:
        costs = [
            _cost_row(day, row, row["amount_value"], row.get("amount_currency", ""))
            for day, row in told
            if row["amount_value"]  # a day without costs is a row with nothing in it
        ]
        return spanning(COST, days, (), costs)
    usage = [row for day, one in told for row in _usage_rows(day, one, tier=_tier(one))]
    return spanning(USAGE, days, usage, ())


def is_file(columns: Iterable[str]) -> bool:
    """Whether a table with these columns is one of ours."""
    names = set(columns)
    return "start_time" in names and bool(names & {"amount_value", "num_model_requests"})


def _unix_s(day: str) -> int:
    return (date.fromisoformat(day) - date(1970, 1, 1)).days * 86_400


def _results(page: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    data = page.get("data")
    if not isinstance(data, list):
        raise ExportError("a page has no data")
    for bucket in data:
        results = bucket.get("results", bucket.get("result"))  # both names are in use
        for result in results or ():
            yield day_of(bucket.get("start_time")), result


def _usage_rows(day: str, result: Mapping[str, Any], *, tier: str) -> list[UsageRow]:
    units = {
        **_input(result),
        OUTPUT_TEXT: max(count(result, "output_tokens") - count(result, "output_audio_tokens"), 0),
        OUTPUT_AUDIO: min(count(result, "output_audio_tokens"), count(result, "output_tokens")),
        IMAGE: count(result, "images"),
        "second": count(result, "seconds"),
        CODE_SESSION: count(result, "num_sessions"),
        REQUESTS: count(result, "num_model_requests"),
    }
    place = text(result, "project_id"), text(result, "api_key_id")
    model = text(result, "model")
    return [UsageRow(day, model, unit, n, tier, *place) for unit, n in units.items() if n]


def _input(result: Mapping[str, Any]) -> dict[str, int]:
    whole = count(result, "input_tokens")
    parts = {
        INPUT_CACHE_READ: count(result, "input_cached_tokens"),
        INPUT_CACHE_WRITE_5M: count(result, "input_cache_write_tokens"),
        INPUT_AUDIO: _fresh(result, "audio"),
        INPUT_IMAGE: _fresh(result, "image"),
    }
    rest = whole - sum(parts.values())
    if rest < 0:
        return {INPUT_UNCACHED: whole}
    return {INPUT_UNCACHED: rest, **parts}


def _fresh(result: Mapping[str, Any], kind: str) -> int:
    """Tokens of a kind that were not cached; the cached ones are among the cached."""
    cached = count(result, f"input_cached_{kind}_tokens")
    return max(count(result, f"input_{kind}_tokens") - cached, 0)


def _tier(result: Mapping[str, Any]) -> str:
    if text(result, "batch").lower() == "true":
        return "batch"
    tier = text(result, "service_tier").lower()
    return "standard" if tier == "default" else tier


def _cost_row(day: str, result: Mapping[str, Any], value: object, currency: str) -> CostRow:
    line = text(result, "line_item")
    model, _, what = line.partition(", ")
    return CostRow(
        day,
        model if what or _is_model(model) else "",
        nano(value),
        currency.upper() or "USD",
        what or line,
        text(result, "project_id"),
        text(result, "api_key_id"),
    )


def _is_model(line: str) -> bool:
    """Whether a line item is the name of a model: those have a hyphen and no space."""
    return "-" in line and " " not in line
