"""Issued invoices and the events of a line, as tables and as CSV. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from metering.money import format_usd
from metering.settlement.document_csv import safe
from metering.settlement.ledger.queries import rfc3339

if TYPE_CHECKING:
    from metering.settlement.ledger.line_books import LineEvents

SHOWN_MAX = 200
"""Rows of events on a screen; the CSV and the JSON have all of them."""

_COLUMNS = ("event_id", "request_id", "at", "quantity", "amount_usd")


def issued_table(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """One row per invoice."""
    if not rows:
        return Text("no invoices were issued")
    table = Table(header_style="bold")
    for heading in ("Number", "Tenant", "Month", "Issued", "Due on", "Replaces"):
        table.add_column(heading, no_wrap=True)
    for heading in ("Total", "Due"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("SHA-256", no_wrap=True)
    for row in rows:
        table.add_row(
            Text(row["number"]),
            Text(row["tenant"]),
            row["period"],
            row["issued_on"],
            row["due_on"],
            Text(row["corrects"] or "-"),
            f"{row['total']} {row['currency']}",
            f"{row['due']} {row['currency']}",
            row["sha256"][:12],
        )
    return table


def events_body(found: LineEvents) -> dict[str, Any]:
    """A line with its events, for programs; `sum_nano` is what these come to."""
    return {
        "line": found.line,
        "closed": found.is_closed,
        "events": [
            {
                "event_id": part.event_id,
                "request_id": part.request_id,
                "at": rfc3339(part.occurred_at),
                "quantity": part.quantity,
                "amount_nano": part.amount_nano,
                "amount_usd": format_usd(part.amount_nano, places=9),
            }
            for part in found.parts
        ],
        "sum_nano": sum(part.amount_nano for part in found.parts),
    }


def events_csv(body: Mapping[str, Any]) -> bytes:
    """One row per event, with exact amounts."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, _COLUMNS, extrasaction="ignore", lineterminator="\r\n")
    writer.writeheader()
    for row in body["events"]:
        writer.writerow({**row, "request_id": safe(row["request_id"])})
    return text.getvalue().encode()


def events_table(body: Mapping[str, Any]) -> RenderableType:
    """One row per event, the line above them and what they come to below."""
    line = body["line"]
    head = f"Line {line['line']}: {line['name'] or line['model']} {line['unit']}, {line['formula']}"
    if not body["events"]:
        kind = {"fee": "a fee", "discount": "a discount"}.get(line["kind"], "a line")
        return Group(Text(head), Text(f"{kind} that is made of no events"))
    table = Table(header_style="bold")
    for heading in ("Event", "Request", "At"):
        table.add_column(heading, no_wrap=True)
    for heading in ("Quantity", "Amount USD"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in body["events"][:SHOWN_MAX]:
        table.add_row(
            row["event_id"],
            Text(row["request_id"]),
            row["at"],
            f"{row['quantity']:,}",
            row["amount_usd"],
        )
    table.add_section()
    count = len(body["events"])
    total = format_usd(body["sum_nano"], places=9)
    table.add_row(f"{count:,} events", "", "", "", total, style="bold")
    more = count - SHOWN_MAX
    notes = [Text(f"{more:,} more: --format csv or --json")] if more > 0 else []
    return Group(Text(head), table, *notes)
