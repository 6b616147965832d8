"""Anthropic's reports and files, read against what they are known to look like."""

from __future__ import annotations

from pathlib import Path

import pytest

from metering.settlement.exports import anthropic
from metering.settlement.exports.rows import COST, USAGE, ExportError, read_json, read_table

DATA = Path(__file__).parent / "data"
MODEL, DAY = "claude-sonnet-4-5-20250929", "2026-11-01"


def test_input_is_split_already() -> None:
    """Every class is a number of its own; null is the default workspace."""
    page = read_json((DATA / "anthropic_usage.json").read_bytes())
    rows = anthropic.read_usage(page, anthropic.USAGE_PATHS[0])

    assert {row.unit: row.quantity for row in rows} == {
        "input_uncached": 1_500,
        "input_cache_read": 200,
        "input_cache_write_5m": 500,
        "input_cache_write_1h": 1_000,
        "output_text": 500,
        "web_search": 10,
    }
    assert {(row.day, row.model, row.tier, row.project, row.key) for row in rows} == {
        (DAY, MODEL, "standard", "default", "apikey_1")
    }


def test_amounts_are_decimal_cents() -> None:
    """`123.78912` is a dollar and a bit."""
    rows = anthropic.read_costs(read_json((DATA / "anthropic_costs.json").read_bytes()))

    assert [(row.model, row.what, row.amount_nano, row.project) for row in rows] == [
        (MODEL, "uncached_input_tokens", 1_237_891_200, "wrkspc_1"),
        ("", "web_search", 100_000_000, "default"),
    ]


def test_a_usage_file_names_keys_and_workspaces() -> None:
    """The file covers the days from its first to its last."""
    rows = read_table((DATA / "anthropic_usage.csv").read_text(encoding="utf-8"))
    export = anthropic.read_file(rows)

    assert anthropic.is_file(rows[0])
    assert (export.kind, export.since, export.until) == (USAGE, DAY, "2026-11-04")
    assert sum(row.quantity for row in export.usage) == 46_981 + 15_969 + 16_932 + 8 + 3 + 1 + 2
    assert {(row.project, row.key, row.tier) for row in export.usage} == {
        ("default", "gateway", "standard"),
        ("default", "other", "batch"),
    }


def test_a_cost_file_is_in_dollars() -> None:
    """Other than the report, which is in cents."""
    rows = read_table((DATA / "anthropic_costs.csv").read_text(encoding="utf-8"))
    export = anthropic.read_file(rows)

    assert anthropic.is_file(rows[0])
    assert export.kind == COST
    assert [(row.model, row.what, row.amount_nano) for row in export.costs] == [
        ("Claude Sonnet 4.5", "input_no_cache", 130_000_000),
        ("", "web_search", 100_000_000),
    ]


def test_an_amount_that_is_a_float_of_words_is_a_fault() -> None:
    """What is no number is no zero."""
    page = {"data": [{"starting_at": f"{DAY}T00:00:00Z", "results": [{"amount": "free"}]}]}

    with pytest.raises(ExportError):
        anthropic.read_costs(page)
