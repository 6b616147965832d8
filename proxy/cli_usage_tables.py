"""Usage over time, requests and one exchange, as tables for people. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from metering.settlement.analytics import Question

_MINUTE = len("2026-11-01T00:00")


def usage(answer: Mapping[str, Any], question: Question) -> RenderableType:
    """A row for each, the sum below, and how far it goes."""
    is_timed = question.interval != "none"
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in [*(["Start"] if is_timed else []), *(each.capitalize() for each in question.by)]:
        table.add_column(name)
    for name in ("Requests", "Errors", "Hits", "Tokens", "Cost USD", "Charged USD", "p95 ms"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in answer["data"]:
        start = [row["start"][:_MINUTE]] if is_timed else []
        table.add_row(*start, *(Text(row[name] or "-") for name in question.by), *_figures(row))
    blanks = [""] * (len(question.by) + is_timed - 1)
    if question.by or is_timed:
        table.add_section()
        table.add_row("Total", *blanks, *_figures(answer["totals"]), style="bold")
    else:
        table.add_row(*_figures(answer["totals"]))
    notes = [f"settled through {answer['settled_through'] or 'nothing yet'}"]
    if answer["behind"]:
        notes.append(f"{answer['behind']:,} settled events are not summed yet")
    if answer["next_cursor"] is not None:
        notes.append("There are more rows: --csv has all of them.")
    return Group(table, *notes)


def _figures(row: Mapping[str, Any]) -> list[str]:
    return [
        f"{row['requests']:,}",
        _share(row["error_rate"]),
        _share(row["cache_hit_rate"]),
        f"{row['tokens']['total']:,}",
        row["cost_usd"][:-3],
        row["sell_usd"][:-3],
        "-" if row["latency_ms"]["p95"] is None else f"{row['latency_ms']['p95']:,}",
    ]


def _share(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.1%}"


def exchanges(answer: Mapping[str, Any]) -> RenderableType:
    """A row for each exchange."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("At", "Exchange", "Tenant", "Key", "Model", "Status"):
        table.add_column(name, no_wrap=True)
    for name in ("Attempts", "Tokens", "Charged USD", "ms"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in answer["data"]:
        names = (row["exchange_id"], row["tenant"], row["key"], row["model"], row["status"])
        table.add_row(
            row["at"][: _MINUTE + 3],
            *(Text(name) for name in names),
            str(row["attempts"]),
            f"{row['tokens']['total']:,}",
            row["sell_usd"],
            f"{row['latency_ms']:,}",
        )
    if answer["next_cursor"] is not None:
        return Group(table, "There are more: raise --limit, or shorten the time with --until.")
    return table


def exchange(whole: Mapping[str, Any]) -> RenderableType:
    """What it came to, and what each event was booked at."""
    head = Table(box=None, show_header=False, pad_edge=False)
    for name, value in whole.items():
        if name not in ("events", "tokens") and not name.endswith("_nano"):
            head.add_row(name, Text("-" if value is None else str(value)))
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("Attempt", "Kind", "Status", "Unit"):
        table.add_column(name)
    for name in ("Quantity", "Rate pico-USD", "Charged USD", "Cost USD"):
        table.add_column(name, justify="right", no_wrap=True)
    for event in whole["events"]:
        for line in event["amounts"]:
            table.add_row(
                str(event["attempt"]),
                event["kind"],
                event["status"],
                Text(line["unit"]),
                f"{line['quantity']:,}",
                "-" if line["rate_pico"] is None else f"{line['rate_pico']:,}",
                line["sell_usd"],
                line["cost_usd"],
            )
    return Group(head, "", table)
