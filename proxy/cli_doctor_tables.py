"""What `weir doctor` found, as a table for people. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from metering.settlement.doctor import NOT_LOOKED_AT

_STYLE = {"ok": "green", "note": "yellow", "trouble": "bold red"}


def findings(rows: Sequence[Mapping[str, Any]], *, everything: bool) -> RenderableType:
    """One row for each finding in the order of the checks, and under it what to do."""
    table = Table(header_style="bold", show_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("Check", no_wrap=True)
    table.add_column("Finding", overflow="fold")
    for row in _gathered(rows):
        cell = Text(row["said"])
        if row["todo"] and row["state"] != "ok":
            cell.append(f"\n-> {row['todo']}")
        if everything and row["numbers"]:
            cell.append(f"\n{orjson.dumps(row['numbers']).decode()}", style="dim")
        table.add_row(Text(row["state"], style=_STYLE[row["state"]]), Text(row["check"]), cell)
    return Group(table, Text(_sum(rows)))


def _gathered(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The findings, with one row at the end for all checks that were not made for one reason."""
    found, left = [], dict[str, list[str]]()
    for row in rows:
        if row["said"].startswith(NOT_LOOKED_AT):
            left.setdefault(row["said"], []).append(row["check"])
        else:
            found.append(row)
    rest = [
        {"state": "note", "check": "", "said": f"{said}: {', '.join(names)}", "todo": "", **_NONE}
        for said, names in left.items()
    ]
    return [*found, *rest]


_NONE: Mapping[str, Any] = {"numbers": {}}


def _sum(rows: Sequence[Mapping[str, Any]]) -> str:
    trouble = [row for row in rows if row["state"] == "trouble"]
    notes = sum(row["state"] == "note" for row in rows)
    told = f"{len(rows)} findings, {len(trouble)} in trouble, {notes} to note"
    if not trouble:
        return told
    return f"{told}; begin with `{trouble[0]['check']}`: what follows may come of it"
