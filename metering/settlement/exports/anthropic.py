"""Anthropic's usage and cost reports, and the CSV files of its console, as rows of ours. Pure.

Input is split already: uncached, read from the cache, written to it for five minutes or an hour.
An amount of the cost report is a decimal text in cents; in the file it is in dollars. A workspace
of null is the default one. The priority tier is in the usage and not in the costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from metering.settlement.exports.rows import (
    COST,
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
    INPUT_CACHE_READ,
    INPUT_CACHE_WRITE_1H,
    INPUT_CACHE_WRITE_5M,
    INPUT_UNCACHED,
    OUTPUT_TEXT,
    WEB_SEARCH,
)

ADDRESS = "https://api.anthropic.com/v1"
USAGE_PATHS = ("/organizations/usage_report/messages",)
COST_PATHS = ("/organizations/cost_report",)
USAGE_DAYS = COST_DAYS = 31
"""Buckets of a day that one page may hold."""

DEFAULT = "default"
"""The workspace that has no id."""

_GROUPS = {
    USAGE_PATHS[0]: ("api_key_id", "workspace_id", "model", "service_tier"),
    COST_PATHS[0]: ("workspace_id", "description"),
}
_CENTS_PER_USD = 100


def headers(admin_key: str) -> dict[str, str]:
    """What proves who asks."""
    return {"x-api-key": admin_key, "anthropic-version": "2023-06-01"}


def query(path: str, since: str, until: str, *, limit: int) -> list[tuple[str, str]]:
    """The parameters of the first page of a path."""
    return [
        ("starting_at", f"{since}T00:00:00Z"),
        ("ending_at", f"{until}T00:00:00Z"),
        ("bucket_width", "1d"),
        ("limit", str(limit)),
        *(("group_by[]", group) for group in _GROUPS[path]),
    ]


def read_usage(page: Mapping[str, Any], path: str) -> list[UsageRow]:
    """The rows of a page of the usage report."""
    del path
    rows = []
    for day, result in _results(page):
        written = result.get("cache_creation") or {}
        tools = result.get("server_tool_use") or {}
        units = {
            INPUT_UNCACHED: count(result, "uncached_input_tokens"),
            INPUT_CACHE_READ: count(result, "cache_read_input_tokens"),
            INPUT_CACHE_WRITE_5M: count(written, "ephemeral_5m_input_tokens"),
            INPUT_CACHE_WRITE_1H: count(written, "ephemeral_1h_input_tokens"),
            OUTPUT_TEXT: count(result, "output_tokens"),
            WEB_SEARCH: count(tools, "web_search_requests"),
        }
        place = _workspace(result), text(result, "api_key_id")
        model, tier = text(result, "model"), text(result, "service_tier")
        rows += [UsageRow(day, model, unit, n, tier, *place) for unit, n in units.items() if n]
    return rows


def read_costs(page: Mapping[str, Any]) -> list[CostRow]:
    """The rows of a page of the cost report: amounts in cents."""
    return [
        CostRow(
            day,
            text(result, "model"),
            nano(result.get("amount"), per_usd=_CENTS_PER_USD),
            text(result, "currency").upper() or "USD",
            text(result, "token_type") or text(result, "cost_type") or text(result, "description"),
            _workspace(result),
        )
        for day, result in _results(page)
    ]


def read_file(rows: list[dict[str, str]]) -> Export:
    """A CSV file of the console: usage by its token columns, or costs by `cost_usd`."""
    days = [day_of(row["usage_date_utc"]) for row in rows]
    told = list(zip(days, rows, strict=True))
    if rows and "cost_usd" in rows[0]:
        costs = [
            CostRow(
                day,
                row.get("model", ""),
                nano(row["cost_usd"]),
                what=row.get("token_type") or row.get("cost_type", ""),
                project=row.get("workspace", "").lower(),
                key=row.get("api_key", ""),
            )
            for day, row in told
        ]
        return spanning(COST, days, (), costs)
    usage = [one for day, row in told for one in _file_rows(day, row)]
    return spanning(USAGE, days, usage, ())


def is_file(columns: Iterable[str]) -> bool:
    """Whether a table with these columns is one of ours."""
    names = set(columns)
    is_usage = {"model_version", "usage_output_tokens"} <= names
    return "usage_date_utc" in names and (is_usage or {"model", "cost_usd"} <= names)


def _file_rows(day: str, row: Mapping[str, str]) -> list[UsageRow]:
    units = {
        INPUT_UNCACHED: count(row, "usage_input_tokens_no_cache"),
        INPUT_CACHE_READ: count(row, "usage_input_tokens_cache_read"),
        INPUT_CACHE_WRITE_5M: count(row, "usage_input_tokens_cache_write_5m"),
        INPUT_CACHE_WRITE_1H: count(row, "usage_input_tokens_cache_write_1h"),
        OUTPUT_TEXT: count(row, "usage_output_tokens"),
        WEB_SEARCH: count(row, "web_search_count"),
    }
    names = row.get("workspace", "").lower(), row.get("api_key", "")
    model, tier = row["model_version"], row.get("usage_type", "")
    return [UsageRow(day, model, unit, n, tier, *names) for unit, n in units.items() if n]


def _results(page: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    data = page.get("data")
    if not isinstance(data, list):
        raise ExportError("a page has no data")
    for bucket in data:
        for result in bucket.get("results") or ():
            yield day_of(bucket.get("starting_at")), result


def _workspace(result: Mapping[str, Any]) -> str:
    """The workspace; the default one where the report was asked for it and names none."""
    return text(result, "workspace_id") or (DEFAULT if "workspace_id" in result else "")
