"""Webhooks, as tables for people. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table


def listing(body: Mapping[str, Any]) -> RenderableType:
    """Endpoints, and below them what was not taken."""
    if not body["endpoints"]:
        return "Nobody is told anything: the file has no section webhooks."
    table = Table(box=None, pad_edge=False)
    for name in ("Endpoint", "Format", "Events"):
        table.add_column(name)
    for name in ("Sent", "Waiting", "Dead"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in body["endpoints"]:
        written = each["format"] or "not configured any more"
        counts = (f"{each[name]:,}" for name in ("sent", "waiting", "dead"))
        table.add_row(each["name"], written, ", ".join(each["events"]), *counts)
    if not body["unsent"]:
        return table
    unsent = Table(box=None, pad_edge=False)
    for name in ("Message", "Endpoint", "Type", "Of", "State", "Why"):
        unsent.add_column(name, no_wrap=name == "Message")
    unsent.add_column("Attempts", justify="right")
    for each in body["unsent"]:
        names = ("message_id", "endpoint", "type", "subject", "state", "reason")
        unsent.add_row(*(each[name] for name in names), str(each["attempts"]))
    return Group(table, "", "Not taken:", unsent)
