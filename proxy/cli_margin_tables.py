"""Margins as tables for people. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from metering.money import PPM, divide_half_even, format_usd

_MONEY = ("sold_nano", "cost_nano", "open_nano", "incurred_nano", "margin_nano")


def margins(body: Mapping[str, Any]) -> RenderableType:
    """One row for each name and their sum, then the models that drift, then what that rests on."""
    table = _table(body["by"].capitalize())
    for heading in ("Requests", "Sold", "Cost", "Not booked", "Incurred", "Margin", "", "Capture"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in body["rows"]:
        table.add_row(Text(row["name"] or "(none)"), *_figures(row))
    table.add_section()
    table.add_row("Total", *_figures(body["totals"]), style="bold")
    parts: list[RenderableType] = [table]
    if body["drifting"]:
        parts += ["", Text("Models too far from what their provider charges:"), _drifting(body)]
    if not body["compared"]:
        parts.append(Text("Compared with no provider: the cost is that of our prices alone."))
    for each in body["compared"]:
        applied = ", booked" if each["applied"] else ""
        days = f"{each['from']} until {each['until']}"
        parts.append(Text(f"comparison {each['id']}: {each['provider']}, {days}{applied}"))
    for name in body["not_compared"]:
        parts.append(Text(f"not compared in this month: {name} (`weir reconcile run`)"))
    return Group(*parts)


def _figures(row: Mapping[str, Any]) -> list[str]:
    money = [format_usd(row[name]) for name in _MONEY]
    return [
        f"{row['requests']:,}",
        *money,
        _percent(row["margin_ppm"]),
        _percent(row["capture_ppm"]),
    ]


def _drifting(body: Mapping[str, Any]) -> Table:
    table = _table("Provider", "Model")
    for heading in ("Booked", "Provider says", "Drift", "True margin"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    rows: Sequence[Mapping[str, Any]] = body["drifting"]
    for row in sorted(rows, key=lambda each: -each["drift_ppm"]):
        verdict = "its margin makes up for it" if row["is_compensated"] else "look into it"
        table.add_row(
            Text(row["provider"]),
            Text(row["model"] or "(all or other)"),
            format_usd(row["booked_nano"]),
            format_usd(row["provider_nano"]),
            _percent(row["drift_ppm"]),
            _percent(row["true_margin_ppm"]),
            "booked" if row["applied"] else verdict,
        )
    return table


def _table(*headings: str) -> Table:
    table = Table(header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _percent(ppm: int | None) -> str:
    if ppm is None:
        return ""
    tenths = divide_half_even(ppm * 1_000, PPM)
    sign = "-" if tenths < 0 else ""
    return f"{sign}{abs(tenths) // 10}.{abs(tenths) % 10}%"
