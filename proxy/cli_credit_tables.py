"""Grants and balances as tables for people. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table


def grants_table(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Every grant in a line."""
    if not rows:
        return "Nobody was granted anything."
    table = _table(
        ("Grant", "Tenant", "Kind"), ("Priority", "USD", "Left", "Drawn"), ("From", "Expires")
    )
    for row in rows:
        table.add_row(
            row["id"],
            row["tenant"],
            row["kind"],
            str(row["priority"]),
            row["usd"],
            row["left_usd"],
            row["drawn_usd"],
            row["from"],
            row["expires"] or "never",
        )
    return table


def balances_table(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """A tenant in a line."""
    if not rows:
        return "Nobody was granted anything."
    table = _table(("Tenant",), ("Left", "Granted", "Spent", "Expired"), ())
    for row in rows:
        names = ("left_usd", "granted_usd", "spent_usd", "expired_usd")
        table.add_row(row["tenant"], *(row[name] for name in names))
    return table


def grant_page(body: Mapping[str, Any]) -> RenderableType:
    """One grant and its history."""
    facts = [f"{name}: {value}" for name, value in body.items() if name != "entries" and value]
    if not body["entries"]:
        return Group(*facts, "", "Nothing became of it yet.")
    table = _table(("At", "What"), ("USD", "Owed"), ("Event",))
    for row in body["entries"]:
        table.add_row(
            row["booked_at"], row["kind"], row["usd"], row["owed_usd"], row["event"] or ""
        )
    return Group(*facts, "", table)


def _table(left: Sequence[str], right: Sequence[str], last: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in left:
        table.add_column(name, no_wrap=True)
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    for name in last:
        table.add_column(name, no_wrap=True)
    return table
