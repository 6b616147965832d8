"""Comparisons with providers as tables for people. Pure: from what is stored to rich's tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from metering.money import PPM, divide_half_even, format_usd
from metering.settlement.exports.rows import next_day
from metering.settlement.ledger.provider_books import Run
from metering.settlement.reconcile import COST_UNIT
from proxy.cli_times import rfc3339

OTHER = "(all or other)"
"""What stands where a cost names no model."""

_FAR = ("warn", "alert")


def as_row(run: Run) -> dict[str, Any]:
    """What stands in the list."""
    return {
        "id": run.id,
        "provider": run.provider,
        "from": run.since,
        "to": next_day(run.until, -1),
        "ran_at": rfc3339(run.ran_at),
        "ran_by": run.ran_by,
        "totals": run.body["totals"],
        "alerts": run.body["alerts"],
        "over_alert": run.body["over_alert"],
        "corrections": len(run.body["corrections"]),
        "applied": _applied(run),
    }


def as_body(run: Run) -> dict[str, Any]:
    """All of it, for programs and for the page."""
    body = {name: value for name, value in run.body.items() if name != "own_sha256"}
    return {**as_row(run), **body, "applied": _applied(run)}


def listing(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """One row for each comparison, newest first."""
    if not rows:
        return Text("no comparisons yet: `weir reconcile run` makes one")
    table = _table("ID", "Provider", "From", "To", "Made", "By", numbers=("Ours", "Theirs"))
    for name in ("Drift", "Corrections"):
        table.add_column(name, justify="right")
    table.add_column("Booked by")
    for row in rows:
        totals = row["totals"]
        table.add_row(
            str(row["id"]),
            Text(row["provider"]),
            row["from"],
            row["to"],
            row["ran_at"],
            Text(row["ran_by"]),
            format_usd(totals["booked_nano"]),
            format_usd(totals["provider_nano"]),
            percent(totals["drift_ppm"]),
            str(row["corrections"]),
            Text(row["applied"]["by"] if row["applied"] else "-"),
        )
    return table


def report(body: Mapping[str, Any], *, everything: bool = False) -> RenderableType:
    """A comparison: its totals, its models, its gaps, and what is proposed."""
    parts: list[RenderableType] = [Text(line) for line in summary(body)]
    parts += [Text(), _models(body["models"])]
    lines = [line for line in body["lines"] if everything or line["gap"] is not None]
    parts += [Text(), _lines(lines)] if lines else [Text("no gaps")]
    if body["price_changes"]:
        parts += [Text("\nproposed prices, USD per million"), _changes(body["price_changes"])]
    if body["corrections"]:
        parts += [Text("\nproposed corrections"), _corrections(body["corrections"])]
        if body["applied"] is None:
            hint = f"to book them: weir reconcile apply {body['id']} --by NAME --reason TEXT"
            parts.append(Text(hint))
    return Group(*parts)


def summary(body: Mapping[str, Any]) -> list[str]:
    """The head of a report, in sentences."""
    totals = body["totals"]
    days = f"{body['provider']}, {body['from']} to {body['to']}"
    amounts = format_usd(totals["booked_nano"]), format_usd(totals["provider_nano"])
    names = ("drift_ppm", "capture_ppm", "true_margin_ppm")
    drift, capture, margin = (percent(totals[name]) for name in names)
    lines = [
        f"comparison {body['id']}: {days}, made {body['ran_at']} by {body['ran_by']}",
        f"booked {amounts[0]} USD, the provider charges {amounts[1]} USD: drift {drift}",
        f"capture ratio {capture}, true margin {margin}",
    ]
    if totals["foreign_nano"]:
        lines.append(f"of other projects or keys: {format_usd(totals['foreign_nano'])} USD")
    for name, words in (
        ("provisional", "numbers still change"),
        ("without_usage", "no usage export"),
        ("without_costs", "no cost export"),
    ):
        if body[name]:
            lines.append(f"{words}: {', '.join(body[name])}")
    for row in body["models"]:
        if row["is_over"]:
            what = "its margin makes up for it" if row["is_compensated"] else "consider dropping it"
            lines.append(f"{name_of(row['model'])} is {percent(row['drift_ppm'])} off: {what}")
    if (done := body["applied"]) is not None:
        lines.append(f"booked {done['at']} by {done['by']}: {done['reason']}")
    return lines


def sides(line: Mapping[str, Any]) -> tuple[str, str, str]:
    """Ours, theirs and the difference, as words; money in USD."""
    ours, theirs = line["ours"], line["theirs"]
    if line["unit"] == COST_UNIT:
        if line["tier"]:  # the currency, where it is another one
            return "-", f"{format_usd(theirs)} {line['tier']}", "-"
        return format_usd(ours), format_usd(theirs), format_usd(ours - theirs)
    return f"{ours:,}", f"{theirs:,}", f"{ours - theirs:+,}"


def percent(ppm: int | None) -> str:
    """Parts per million as a percentage with one digit."""
    if ppm is None:
        return "-"
    tenths = divide_half_even(ppm * 1_000, PPM)
    sign = "-" if tenths < 0 else ""
    return f"{sign}{abs(tenths) // 10}.{abs(tenths) % 10}%"


def per_mtok(rate_pico: int) -> str:
    """A rate per unit as USD per million."""
    return format_usd(rate_pico * 1_000)


def name_of(model: str) -> str:
    """The model, or what stands for none."""
    return model or OTHER


def _models(rows: Sequence[Mapping[str, Any]]) -> Table:
    names = ("Booked", "Provider", "Drift", "Sold", "Capture", "Margin", "True margin")
    table = _table("Model", numbers=names)
    for row in rows:
        table.add_row(
            Text(name_of(row["model"]), style="bold red" if row["is_over"] else ""),
            format_usd(row["booked_nano"]),
            format_usd(row["provider_nano"]),
            percent(row["drift_ppm"]),
            format_usd(row["sold_nano"]),
            percent(row["capture_ppm"]),
            percent(row["booked_margin_ppm"]),
            percent(row["true_margin_ppm"]),
        )
    return table


def _lines(lines: Sequence[Mapping[str, Any]]) -> Table:
    table = _table("Day", "Model", "Unit", "Tier", numbers=("Ours", "Theirs", "Off", "Drift"))
    table.add_column("Gap")
    table.add_column("Level")
    for line in lines:
        table.add_row(
            line["day"],
            Text(name_of(line["model"])),
            line["unit"],
            Text(line["tier"]),
            *sides(line),
            percent(line["drift_ppm"]),
            line["gap"] or "-",
            Text(line["level"], style="bold red" if line["level"] in _FAR else ""),
        )
    return table


def _changes(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = _table("Model", "Unit", numbers=("Ours", "Theirs", "Over units"))
    for row in rows:
        rates = per_mtok(row["ours_pico"]), per_mtok(row["theirs_pico"])
        table.add_row(Text(row["model"]), row["unit"], *rates, f"{row['quantity']:,}")
    return table


def _corrections(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = _table("Day", "Model", "Tenant", "Project", "Key", "Why", numbers=("Cost",))
    for row in rows:
        table.add_row(
            row["day"],
            Text(name_of(row["model"])),
            Text(row["tenant"]),
            Text(row["project"]),
            Text(row["key"]),
            row["gap"],
            format_usd(row["cost_nano"]),
        )
    return table


def _table(*headings: str, numbers: Sequence[str] = ()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading)
    for heading in numbers:
        table.add_column(heading, justify="right")
    return table


def _applied(run: Run) -> dict[str, Any] | None:
    done = run.applied
    if done is None:
        return None
    at = rfc3339(done["applied_at"])
    return {"by": done["applied_by"], "reason": done["reason"], "at": at}
