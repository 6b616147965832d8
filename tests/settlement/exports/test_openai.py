"""OpenAI's pages and files, read against what they are known to look like."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl, urlencode

import pytest

from metering.settlement.exports import openai
from metering.settlement.exports.rows import COST, USAGE, ExportError, read_json, read_table

DATA = Path(__file__).parent / "data"
MODEL, DAY = "gpt-4o-2024-08-06", "2026-11-01"


def _page(name: str) -> dict[str, object]:
    return read_json((DATA / name).read_bytes())


def _units(rows: list[openai.UsageRow], tier: str) -> dict[str, int]:
    return {row.unit: row.quantity for row in rows if row.tier == tier}


def test_input_is_taken_apart() -> None:
    """The cached tokens are among the input, the audio among the output; each counts once."""
    rows = openai.read_usage(_page("openai_usage.json"), openai.USAGE_PATHS[0])

    assert _units(rows, "standard") == {
        "input_uncached": 200,
        "input_cache_read": 800,
        "output_text": 480,
        "output_audio": 20,
        "requests": 5,
    }
    assert _units(rows, "batch") == {"input_uncached": 70, "output_text": 7, "requests": 1}
    assert {(row.day, row.model, row.project, row.key) for row in rows} == {
        (DAY, MODEL, "proj_1", "key_1")
    }


def test_parts_that_do_not_fit_lose_no_token() -> None:
    """Where the parts are more than the whole, the whole is input."""
    result = {"input_tokens": 10, "input_cached_tokens": 8, "input_audio_tokens": 8, "model": "m"}
    page = {"data": [{"start_time": 1793491200, "results": [result]}]}

    assert [(row.unit, row.quantity) for row in openai.read_usage(page, "")] == [
        ("input_uncached", 10)
    ]


def test_costs_are_exact_to_the_nano() -> None:
    """An amount is read as a decimal, never as a float, and names its model and what it is for."""
    rows = openai.read_costs(_page("openai_costs.json"))

    assert [(row.model, row.what, row.amount_nano, row.currency) for row in rows] == [
        (MODEL, "input", 60_000_000, "USD"),
        (MODEL, "cached input", 130_804_380, "USD"),
        ("", "Code interpreter", 30_000_000, "USD"),
        ("gpt-4o-mini", "gpt-4o-mini", 1_500_000_000, "EUR"),
    ]


def test_a_usage_file_is_the_api_in_columns() -> None:
    """Whole numbers are written with a point; a day without usage is covered all the same."""
    rows = read_table((DATA / "openai_usage.csv").read_text())
    export = openai.read_file(rows)

    assert openai.is_file(rows[0])
    assert (export.kind, export.since, export.until) == (USAGE, DAY, "2026-11-03")
    assert _units(list(export.usage), "standard") == {
        "input_uncached": 53_440,
        "input_cache_read": 5_760,
        "output_text": 10_646,
        "requests": 10,
    }


def test_a_cost_file_may_have_one_sum_per_day() -> None:
    """Without line items a cost belongs to no model."""
    export = openai.read_file(read_table((DATA / "openai_costs.csv").read_text()))

    assert (export.kind, export.since, export.until) == (COST, DAY, "2026-11-03")
    assert [(row.model, row.amount_nano) for row in export.costs] == [("", 895_874_000)]


@pytest.mark.parametrize(
    "page",
    [
        {},
        {"data": [{"start_time": "soon", "results": [{}]}]},
        {"data": [{"start_time": 1793491200, "results": [{"input_tokens": -1}]}]},
        {"data": [{"start_time": 1793491200, "results": [{"input_tokens": "many"}]}]},
        {"data": [{"start_time": 1793491200, "results": [{"input_tokens": 0.5}]}]},
    ],
    ids=["no data", "no time", "negative", "a word", "a half"],
)
def test_nonsense_is_a_fault(page: dict[str, object]) -> None:
    """What cannot be read is no zero."""
    with pytest.raises(ExportError):
        openai.read_usage(page, openai.USAGE_PATHS[0])


def test_days_are_asked_for_in_unix_seconds() -> None:
    """The end is the day after the last; groups are named as often as there are."""
    query = openai.query(openai.COST_PATHS[0], DAY, "2026-11-08", limit=180)

    assert parse_qsl(urlencode(query)) == [
        ("start_time", "1793491200"),
        ("end_time", "1794096000"),
        ("bucket_width", "1d"),
        ("limit", "180"),
        ("group_by[]", "project_id"),
        ("group_by[]", "line_item"),
    ]
