"""What we say ourselves, side by side, as a table for people. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from metering.money import format_usd


def comparison(body: Mapping[str, Any]) -> RenderableType:
    """One row for each tenant; under the table every difference, with what leads to it."""
    table = Table(header_style="bold", title=f"{body['month']} (UTC)")
    table.add_column("Tenant", no_wrap=True)
    for heading in ("In streams", "Waiting", "Attempts", "Sold", "Rollups", "Invoice", "Stripe"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    parts: list[RenderableType] = [table]
    for row in body["tenants"]:
        wrong = row["differences"]
        table.add_row(Text(row["tenant"]), *_cells(row), f"{len(wrong)} differ" if wrong else "ok")
        for each in wrong:
            more = f" and {each['more']} more" if each["more"] else ""
            ids = f": {', '.join(each['ids'])}{more}" if each["ids"] else ""
            parts.append(Text(f"{row['tenant']}, {each['between']}: {each['said']}{ids}"))
    if not body["tenants"]:
        parts.append(Text("nothing was used in this month"))
    if body["streams_unread"]:
        parts.append(Text(f"the streams were not read: {body['streams_unread']}"))
    return Group(*parts)


def _cells(row: Mapping[str, Any]) -> list[str]:
    stream, stripe, invoice = row["stream"], row["stripe"], row["invoice"]
    behind = row["rollup"]["behind"]
    rolled = format_usd(row["rollup"]["sold_nano"]) + (f" (+{behind})" if behind else "")
    total = invoice["total_nano"]
    hours = f"{stripe['hours']} h" if stripe["hours"] else ""
    return [
        f"{stream['events']:,}",
        f"{stream['waiting']:,}",
        f"{row['ledger']['attempts']:,}",
        format_usd(row["ledger"]["sold_nano"]),
        rolled,
        ("" if total is None else format_usd(total)) + (" closed" if invoice["is_closed"] else ""),
        hours + (f", {stripe['waiting']} wait" if stripe["waiting"] else ""),
    ]
