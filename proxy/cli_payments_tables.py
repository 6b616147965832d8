"""Payments, as tables for people. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table


def listing(body: Mapping[str, Any]) -> RenderableType:
    """Payments, and below them the callbacks that are not settled."""
    parts: list[RenderableType] = []
    if body["payments"]:
        table = _table(("Payment", "Paid (UTC)", "State", "Tenant"), ("Received", "Credit, USD"))
        for each in body["payments"]:
            received = f"{each['received']} {each['currency'].upper()}"
            table.add_row(
                each["id"],
                _at(each["paid_ms"]),
                _state(each),
                each["tenant"] or "",
                received,
                each["credit_usd"],
            )
        parts.append(table)
    else:
        parts.append("No payments.")
    if body["callbacks"]:
        parts += ["", "Callbacks that are not settled:", _callbacks(body["callbacks"])]
    return Group(*parts)


def one(body: Mapping[str, Any]) -> RenderableType:
    """A payment and its steps."""
    about = _table(("", ""), ())
    about.show_header = False
    for name, value in (
        ("Payment", body["id"]),
        ("State", _state(body)),
        ("Tenant", body["tenant"] or ""),
        ("Customer", body["customer"] or ""),
        ("Paid (UTC)", _at(body["paid_ms"])),
        ("Received", f"{body['received']} {body['currency'].upper()}"),
        ("Credit, USD", body["credit_usd"]),
        ("Decided by", body["decided_by"] or ""),
    ):
        about.add_row(name, value)
    if not body["steps"]:
        return about
    steps = _table(("Step", "Of", "Grant", "Booked (UTC)"), ("USD",))
    for each in body["steps"]:
        at = _at(each["booked_ms"])
        steps.add_row(each["step"], each["id"], each["grant"], at, each["usd"])
    return Group(about, "", steps)


def _callbacks(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = _table(("Callback", "Type", "Made (UTC)", "State"), ("Attempts",))
    for each in rows:
        at = _at(each["created_ms"])
        table.add_row(each["id"], each["type"], at, _state(each), str(each["attempts"]))
    return table


def _table(texts: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in texts:
        table.add_column(name, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _state(row: Mapping[str, Any]) -> str:
    return f"{row['state']}: {row['reason']}" if row["reason"] else str(row["state"])


def _at(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M")
