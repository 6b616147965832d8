"""Reports as tables for people: money to the right, tokens in words, units that can be read.

Pure: from the JSON body of a report to something that rich prints.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from metering.money import format_usd
from metering.usage import INPUT_CACHE_READ, INPUT_CLASSES, OUTPUT_CLASSES
from proxy.cli_narrow import fitted

_UNITS = {
    "input_uncached": "input",
    "input_cache_read": "input, cached",
    "input_cache_write_5m": "cache write, 5 min",
    "input_cache_write_1h": "cache write, 1 h",
    "input_audio": "input, audio",
    "input_image": "input, image",
    "output_text": "output",
    "output_reasoning": "output, reasoning",
    "output_audio": "output, audio",
    "output_image": "output, image",
    "api_call": "calls",
    "inference": "answers",
    "web_search": "web searches",
    "file_search": "file searches",
    "code_session": "code sessions",
}

_PIPED_WIDTH = 260
"""Wide enough for every column when nobody's terminal says otherwise."""


class _Fitting(Console):
    """Turns tables that are wider than the terminal, rather than to cut their numbers."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(fitted(each, self) for each in objects), **options)


def console() -> Console:
    """Standard output, never narrower than the tables when it is a pipe. Without colours where
    $NO_COLOR is set."""
    return _Fitting(file=sys.stdout, width=None if sys.stdout.isatty() else _PIPED_WIDTH)


def usage(report: Mapping[str, Any]) -> RenderableType:
    """The usage report: one row per tenant and model, or whatever was asked for, and the sum."""
    by = [*(["at"] if "request" in report["by"] else []), *report["by"]]
    headings = [name.capitalize() for name in by]
    table = _table(*headings, numbers=("Requests", "Input", "Cached", "Output"))
    other = sorted({unit for row in report["rows"] for unit in row["units"]} - _TOKEN_UNITS)
    for unit in other:
        table.add_column(_heading(unit), justify="right", no_wrap=True)
    for heading in ("Cost USD", "Charged USD", "Margin USD", "Margin"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in report["rows"]:
        names = [Text(_named(row[name])[: _TIME_CHARS if name == "at" else None]) for name in by]
        table.add_row(*names, *_figures(row, other))
    table.add_section()
    blanks = [""] * (len(by) - 1)
    table.add_row("Total", *blanks, *_figures(report["totals"], other), style="bold")
    notes: list[RenderableType] = [table]
    if more := report["more"]:
        notes.append(f"{more:,} more rows are in the total; raise --limit, or name a --tenant.")
    notes.append(_settled(report))
    if unpriced := report["totals"].get("unpriced"):
        notes.append(_unpriced(unpriced, "billed nothing for those"))
    return Group(*notes)


def invoice(body: Mapping[str, Any]) -> RenderableType:
    """The invoice: one row per line, the total in cents."""
    table = _table(
        "Project", "Model", "Unit", "Kind", numbers=("Quantity", "USD per million", "Amount USD")
    )
    table.add_column("Prices", no_wrap=True)
    has_variants = any("variant" in line for line in body["lines"])
    if has_variants:
        table.add_column("Rate for")
    table.title = f"Invoice {body['tenant']}, {body['period']} (UTC)"
    for line in body["lines"]:
        table.add_row(
            line["project"],
            line["model"],
            _UNITS.get(line["unit"], line["unit"]),
            line["kind"],
            f"{line['quantity']:,}",
            per_million(line["rate_pico"]),
            money(line["amount_nano"]),
            line["price_version"],
            *([line.get("variant", "")] if has_variants else ()),
        )
    table.add_section()
    table.add_row("Total", "", "", "", "", "", f"{body['total']} {body['currency']}", style="bold")
    notes: list[RenderableType] = [table, _settled(body)]
    if unpriced := body.get("unpriced"):
        notes.append(_unpriced(unpriced, "on no line of this invoice and not in its total"))
    return Group(*notes)


def dead_letters(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Dead letters: one row each, the reason last because it is long."""
    if not rows:
        return Text("no dead letters")
    table = Table(header_style="bold")
    for heading in ("Id", "Received", "Shard", "Entry", "Tries", "Outcome"):
        table.add_column(heading, no_wrap=True)
    table.add_column("Reason", overflow="fold")
    for row in rows:
        outcome = f"{row['outcome']} by {row['resolved_by']}" if row["outcome"] else "waits"
        table.add_row(
            str(row["id"]),
            row["received_at"],
            str(row["shard"]),
            row["stream_id"],
            str(row["deliveries"]),
            Text(outcome),
            Text(row["reason"]),
        )
    return table


def review_items(rows: Sequence[Mapping[str, Any]]) -> Table:
    """What was out of the ordinary, one row each."""
    table = _table(
        *("id", "tenant", "key", "cause", "since", "mode", "stands"), numbers=("seen", "usual")
    )
    for row in rows:
        table.add_row(
            str(row["id"]),
            Text(row["tenant"]),
            Text(row["api_key_id"] or "-"),
            row["cause"],
            row["since"],
            row["mode"],
            _stands(row),
            money(row["seen_nano"]),
            money(row["usual_nano"]),
        )
    return table


def _stands(row: Mapping[str, Any]) -> str:
    """The decision, else what holds now: who is paused stays so when the alarm is over."""
    if row["decisions"]:
        return str(row["decisions"][-1]["verdict"])
    if "pause_set" in row["steps"] and "pause_lifted" not in row["steps"]:
        return "paused"
    return next(reversed(row["steps"]), "new")


def money(nano: int) -> str:
    """USD with six digits, or nine when the amount is finer."""
    return format_usd(nano, places=6 if nano % 1_000 == 0 else 9)


def per_million(rate_pico: int) -> str:
    """USD per million units, as price lists write it: at least two digits, no idle zeros."""
    whole, _, digits = format_usd(rate_pico * 1_000, places=9).partition(".")
    return f"{whole}.{digits.rstrip('0'):0<2}"


def flags(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """What of a tenant is paused or stopped."""
    if not rows:
        return Text("nothing is paused or stopped")
    table = _table("Scope", "Flag", "Since", "By", numbers=())
    table.add_column("Why")
    for row in rows:
        table.add_row(row["scope"], row["flag"], row["at"] or "", row["by"], Text(row["why"]))
    return table


_TOKEN_UNITS = frozenset(INPUT_CLASSES + OUTPUT_CLASSES)


def _table(*texts: str, numbers: tuple[str, ...]) -> Table:
    table = Table(title_justify="left", header_style="bold")
    for heading in texts:
        table.add_column(heading, no_wrap=True)
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _figures(row: Mapping[str, Any], other: list[str]) -> list[str]:
    units: Mapping[str, int] = row["units"]
    cached = units.get(INPUT_CACHE_READ, 0)
    fresh = sum(units.get(name, 0) for name in INPUT_CLASSES) - cached
    output = sum(units.get(name, 0) for name in OUTPUT_CLASSES)
    counts = [row["requests"], fresh, cached, output, *(units.get(unit, 0) for unit in other)]
    amounts = [money(row[name]) for name in ("cost_nano", "admission_nano", "margin_nano")]
    return [f"{count:,}" for count in counts] + amounts + [_share(row["margin_ppm"])]


_TIME_CHARS = len("2026-11-21T18:13:21")


def _named(value: Any) -> str:
    return str(value or "-")


def _heading(unit: str) -> str:
    """A unit as a heading; one of somebody's own keeps its name."""
    named = _UNITS.get(unit, unit)
    return named.capitalize() if unit in _UNITS else named


def _share(ppm: int | None) -> str:
    """Parts per million as percent; a dash where there is nothing to be a share of."""
    return "-" if ppm is None else f"{ppm / 10_000:.1f} %"


def _settled(report: Mapping[str, Any]) -> Text:
    through = report["settled_through"]
    pending = report["pending"]
    waiting = "pending unknown (Redis is away)" if pending is None else f"{pending:,} pending"
    if pending:
        waiting += " (not in these numbers)"
    if through is None:
        return Text(f"nothing settled yet, {waiting}")
    return Text(f"settled through {through}, {waiting}")


def _unpriced(events: int, consequence: str) -> Text:
    """What was served without a price, and where prices are written."""
    count = "1 event is" if events == 1 else f"{events:,} events are"
    return Text(
        f"{count} unpriced: some of the units found no rate; {consequence}. "
        "`weir config check` names the models that lack a rule in pricing.rules."
    )
