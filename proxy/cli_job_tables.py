"""What is done by the clock, as tables for people. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import RenderableType
from rich.table import Table


def listing(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Every job with its next and its last run."""
    if not rows:
        return "Nothing is done by the clock: the file has no section jobs."
    table = _table("Job", "Does", "Schedule", "Time zone", "Next (UTC)", "Last (UTC)", "Outcome")
    for row in rows:
        last = row["last"]
        table.add_row(
            *(row["job"], row["kind"], row["schedule"], row["timezone"], at(row["next_ms"])),
            "" if last is None else at(last["scheduled_for_ms"]),
            "" if last is None else last["state"],
        )
    return table


def runs(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Runs, with what came of them."""
    if not rows:
        return "No run yet."
    table = _table("Job", "For (UTC)", "Outcome", "Tries", "Ended (UTC)", "By")
    table.add_column("Message")
    for row in rows:
        table.add_row(
            *(row["job"], at(row["scheduled_for_ms"]), row["state"], str(row["attempts"])),
            *(at(row["ended_ms"]), row["ran_by"], row["message"]),
        )
    return table


def at(time_ms: int | None) -> str:
    """A time in UTC, to the minute."""
    if time_ms is None:
        return ""
    return datetime.fromtimestamp(time_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M")


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in names:
        table.add_column(name, no_wrap=True)
    return table
