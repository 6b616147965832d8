"""Plans and statements as tables for people. Pure: from plain values to what rich prints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from metering.money import format_short, format_usd
from metering.plans import Cell, ChargeKind, Component, Coupon, Meter, Plan, Tier
from metering.settlement.charges import percent, usd_of_micro, usd_of_pico


def plans(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """One row per version."""
    if not rows:
        return Text("no plans")
    table = _table("Plan", "From", "Version", "Name", "Charges", "Tenants", "Kept in")
    for row in rows:
        table.add_row(
            Text(row["plan"]),
            row["effective_from"],
            row["version"],
            Text(row["name"]),
            str(len(row["charges"])),
            Text(", ".join(row["tenants"]) or "-"),
            " and ".join(row["kept_in"]),
        )
    return table


def plan(found: Plan) -> RenderableType:
    """One version, every charge with its terms."""
    table = _table("Charge", "Kind", "Meter")
    table.add_column("Terms")
    for component in found.components:
        table.add_row(
            Text(component.id + (" (add-on)" if component.add_on else "")),
            component.kind.value,
            component.meter or "-",
            Text("\n".join(terms_of(component))),
        )
    table.title = f"Plan {found.id}, version {found.version}, from {found.effective_from}"
    table.title_justify = "left"
    notes = [Text(note) for note in (*_notes(found), *map(_coupon, found.coupons))]
    return Group(table, *notes, *[Text(_meter(meter)) for meter in found.meters])


def terms_of(component: Component) -> list[str]:
    """What a charge comes to, in words."""
    found = _RATED[component.kind](component)
    if component.included:
        is_credits = component.kind is ChargeKind.CREDITS
        units = usd_of_micro(component.included) if is_credits else f"{component.included:,}"
        found.insert(0, f"{units} included")
    if not component.prorated:
        found.append("in full, however many days")
    return found


def _tier(tiers: Sequence[Tier]) -> list[str]:
    lines = []
    for tier in tiers:
        border = "all above" if tier.up_to is None else f"up to {tier.up_to:,}"
        flat = f" and {format_short(tier.flat_nano)} USD" if tier.flat_nano else ""
        lines.append(f"{border}: {usd_of_pico(tier.rate_pico)} USD each{flat}")
    return lines


def _cells(cells: Iterable[Cell], unit: str) -> list[str]:
    return [
        f"{', '.join(cell.match.values()) or 'all'}: {usd_of_pico(cell.rate)} {unit} each"
        for cell in cells
    ]


_RATED = {
    ChargeKind.FLAT: lambda it: [f"{format_short(it.amount_nano)} USD"],
    ChargeKind.PER_UNIT: lambda it: [f"{usd_of_pico(it.rate_pico)} USD each"],
    ChargeKind.GRADUATED: lambda it: _tier(it.tiers),
    ChargeKind.VOLUME: lambda it: [*_tier(it.tiers), "all units at the tier of the last"],
    ChargeKind.PACKAGE: lambda it: [
        f"{format_short(it.amount_nano)} USD per {it.package_size:,}, the last one in full"
    ],
    ChargeKind.PERCENTAGE: lambda it: [percent(it.percent_ppm)],
    ChargeKind.MATRIX: lambda it: _cells(it.cells, "USD"),
    ChargeKind.CREDITS: lambda it: [
        f"{format_short(it.amount_nano)} USD per credit",
        *_cells(it.cells, "credits"),
    ],
}


def _notes(found: Plan) -> list[str]:
    other = "costs its list price" if found.other_usage == "list_price" else "is included"
    notes = [f"Other usage {other}."]
    if found.minimum_nano:
        notes.append(f"At least {format_short(found.minimum_nano)} USD a month.")
    if found.trial_days:
        notes.append(f"The first {found.trial_days} days are free.")
    return notes


def _coupon(coupon: Coupon) -> str:
    off = (
        percent(coupon.percent_ppm)
        if coupon.percent_ppm
        else f"{format_short(coupon.amount_nano)} USD"
    )
    of = f" {', '.join(coupon.components)}" if coupon.components else ""
    months = "every month" if coupon.months is None else f"for {coupon.months} months"
    return f"Coupon {coupon.id}: {off} off{of}, {months}."


def _meter(meter: Meter) -> str:
    what = meter.of or ", ".join(meter.units[:3]) + (", ..." if len(meter.units) > 3 else "")
    by = f" by {', '.join(meter.dimensions)}" if meter.dimensions else ""
    where = [f", {name} {' or '.join(values)}" for name, values in meter.where.items()]
    return f"Meter {meter.name}: {meter.aggregation.value} of {what}{by}{''.join(where)}."


def statement(body: Mapping[str, Any]) -> RenderableType:
    """What a month comes to by a plan: one row per line, the total in cents."""
    table = _table("Plan", "Charge", "Of", "Tier")
    table.add_column("How")
    for heading in ("Amount USD", "Cents"):
        table.add_column(heading, justify="right", no_wrap=True)
    for line in body["lines"]:
        table.add_row(
            Text(line["plan"] or "-"),
            Text(line["name"] or line["component"] or "list price"),
            Text(_of(line)),
            Text(line["tier"] or "-"),
            Text(line["formula"]),
            _money(line["amount_nano"]),
            f"{line['cents']:,}",
        )
    table.add_section()
    total = f"{body['total']} {body['currency']}"
    table.add_row("Total", "", "", "", "", _money(body["total_nano"]), total, style="bold")
    state = f"closed at {body['closed_at']}" if body.get("closed_at") else "open: this may change"
    table.title = f"Statement {body['tenant']}, {body['period']} (UTC), {state}"
    table.title_justify = "left"
    return Group(table, f"{_money(body['list_nano'])} USD at list prices", *_pending(body))


def _of(line: Mapping[str, Any]) -> str:
    names = [value for value in line["dimensions"].values() if value]
    if line["reference"]:
        names.append(line["reference"])
    return ", ".join(names) or line["meter"] or "-"


def _pending(body: Mapping[str, Any]) -> list[str]:
    if "pending" not in body:
        return []
    pending = body["pending"]
    waiting = "pending unknown (Redis is away)" if pending is None else f"{pending:,} pending"
    through = body.get("settled_through")
    settled = f"settled through {through}" if through else "nothing settled yet"
    return [f"{settled}, {waiting}"]


def _money(nano: int) -> str:
    return format_usd(nano, places=6 if nano % 1_000 == 0 else 9)


def _table(*headings: str) -> Table:
    table = Table(title_justify="left", header_style="bold")
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    return table
