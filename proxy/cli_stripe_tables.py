"""What Stripe was told, as tables for people. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table


def standing(body: Mapping[str, Any]) -> RenderableType:
    """How each tenant's meters stand, and what is held."""
    if not body["meters"]:
        return (
            "Stripe was told nothing yet."
            if body["configured"]
            else "Nothing is told to Stripe: the file has no section stripe."
        )
    table = Table(box=None, pad_edge=False)
    for name in ("Tenant", "Meter", "Customer"):
        table.add_column(name, no_wrap=True)
    for name in ("Ledger", "Stripe", "Differ by", "Hours", "Waiting", "Held", "Verified"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in body["meters"]:
        names = (row["tenant"], row["event_name"], row["customer"])
        numbers = ("ledger", "stripe", "difference", "hours", "waiting", "held", "verified")
        table.add_row(*names, *(f"{row[name]:,}" for name in numbers))
    if not body["held"]:
        return table
    return Group(table, "", "Held:", differing(body["held"]))


def differing(hours: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Hours, with what each side says of them."""
    table = Table(box=None, pad_edge=False)
    for name in ("Tenant", "Meter", "Hour (UTC)", "Reason"):
        table.add_column(name, no_wrap=True)
    for name in ("Ledger", "Taken", "Stripe shows"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in hours:
        at = datetime.fromtimestamp(each["hour_ms"] / 1_000, UTC).strftime("%Y-%m-%d %H:00")
        seen = "" if each["seen"] is None else f"{each['seen']:,}"
        names = (each["tenant"], each["event_name"], at, each["reason"] or "")
        table.add_row(*names, f"{each['ledger']:,}", f"{each['stripe']:,}", seen)
    return table
