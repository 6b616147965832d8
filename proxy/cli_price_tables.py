"""Prices, differences and reviews as tables for people. Pure: from plain values to what rich
prints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from metering.money import format_short
from metering.price_diff import CONDITIONS
from metering.usage import TOKEN_CLASSES


def book(body: Mapping[str, Any]) -> RenderableType:
    """A price book: one row per rule."""
    since = body["effective_from"] or "since ever"
    table = _table("Model", "Provider", "Input /M", "Output /M", "Times", "Conditions", "Source")
    table.title = f"Prices from {since}: cost {body['cost_version']}, sell {body['sell_version']}"
    table.title_justify = "left"
    for rule in body["rules"]:
        table.add_row(
            Text(rule["model"]),
            Text(rule["provider"] or "any"),
            usd_of(rule["input_pico"], is_token=True),
            usd_of(rule["output_pico"], is_token=True),
            times(rule["multiplier_ppm"]),
            "yes" if rule["has_conditions"] else "-",
            Text(rule["source"]),
        )
    later = [
        Text(
            f"from {each['effective_from']}: cost {each['cost_version']}, "
            f"sell {each['sell_version']}"
        )
        for each in body["later"]
    ]
    return Group(table, *later)


def prices_of(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Every rate of a model, by upstream."""
    found: list[RenderableType] = []
    for row in rows:
        name = f"{row['provider']} {row['model']}"
        if row["cost"] is None:
            found.append(Text(f"{name}: no price"))
            continue
        table = _table("Unit", "Cost", "Sell")
        multiplier = times(row["multiplier_ppm"])
        table.title = f"{name}: {row['rule']}, times {multiplier}, sell {row['sell_version']}"
        table.title_justify = "left"
        for words in ("", *row["sell"]["conditions"]):
            cost, sell = (_rates(row[side], words) for side in ("cost", "sell"))
            if words:
                table.add_row(Text(f"at {words}", style="bold"))
            for unit, rate in sell.items():
                is_token = unit in TOKEN_CLASSES
                if not words or rate != row["sell"]["rates_pico"].get(unit):
                    table.add_row(unit, usd_of(cost.get(unit), is_token), usd_of(rate, is_token))
        found.append(table)
    found.append(Text("USD per million tokens; of other units, per unit."))
    return Group(*found)


def difference(body: Mapping[str, Any]) -> RenderableType:
    """What changes, and what recent usage comes to by it."""
    heading = Text(f"Against {body['against']}")
    if not body["changes"]:
        return Group(heading, Text("nothing changes"), _usage(body["usage"]))
    table = _table("From", "Model", "Provider", "Side", "Units", "Before", "After", "Change")
    for row in body["changes"]:
        is_token = any(unit in TOKEN_CLASSES for unit in row["units"])
        is_conditions = CONDITIONS in row["units"]
        table.add_row(
            row["from"] or "now",
            Text(row["model"]),
            Text(row["provider"] or "any"),
            row["side"],
            _units(row["units"]),
            "-" if is_conditions else usd_of(row["before_pico"], is_token),
            "changed" if is_conditions else usd_of(row["after_pico"], is_token),
            "-" if row["change_ppm"] is None else percent(row["change_ppm"]),
        )
    return Group(heading, table, _usage(body["usage"]))


def outlook(rows: Iterable[Mapping[str, Any]], title: str) -> RenderableType:
    """What usage comes to by other prices."""
    table = _table(
        "Tenant", "Model", "Events", "Changed", "No price", "Sold", "More", "Cost", "More"
    )
    table.title, table.title_justify = title, "left"
    for row in rows:
        table.add_row(
            Text(row["tenant"]),
            Text(row["model"]),
            str(row["events"]),
            str(row["changed"]),
            str(row["unpriced"]),
            format_short(row["sell_nano"]),
            format_short(row["sell_change_nano"]),
            format_short(row["cost_nano"]),
            format_short(row["cost_change_nano"]),
        )
    return table


def history(body: Mapping[str, Any]) -> RenderableType:
    """What was published, and what was rated again."""
    published = _table("Id", "At", "Cost", "Sell", "By", "Note")
    published.title, published.title_justify = "Published", "left"
    for row in body["published"]:
        told = row["cost_version"], row["sell_version"], Text(row["by"]), Text(row["note"])
        published.add_row(str(row["id"]), row["at"], *told)
    rated = _table("Id", "At", "Events", "Sold, more", "Cost, more", "By", "Reason")
    rated.title, rated.title_justify = "Rated again", "left"
    for row in body["rated_again"]:
        rated.add_row(
            str(row["id"]),
            row["at"],
            str(row["events"]),
            format_short(row["sell_change_nano"]),
            format_short(row["cost_change_nano"]),
            Text(row["by"]),
            Text(row["reason"]),
        )
    return Group(published, rated)


def review(body: Mapping[str, Any]) -> RenderableType:
    """Prices beside lists, margins, and drift."""
    listed = body["list_prices"]
    beside = _table(
        "Provider", "Model", "Input /M", "List", "Off", "Output /M", "List", "Off", "Times"
    )
    title = f"Prices beside the list of {listed['source']}, {listed['generated']}"
    beside.title, beside.title_justify = title, "left"
    for row in body["prices"]:
        cells = []
        for side in ("input", "output"):
            cells += [usd_of(row[f"{side}{name}_pico"], is_token=True) for name in ("", "_list")]
            off = row[f"{side}_off_ppm"]
            cells.append("-" if off is None else percent(off))
        multiplier = times(row["multiplier_ppm"])
        beside.add_row(Text(row["provider"]), Text(row["model"]), *cells, multiplier)
    margins = _table("Model", "Requests", "Cost", "Sold", "Margin")
    margins.title, margins.title_justify = f"Earned since {body['since']}", "left"
    for row in body["margins"]:
        margin = "-" if row["margin_ppm"] is None else percent(row["margin_ppm"])
        amounts = format_short(row["cost_nano"]), format_short(row["sell_nano"])
        margins.add_row(Text(row["model"]), str(row["requests"]), *amounts, margin)
    return Group(beside, margins, _drifting(body["drifting"]))


def _drifting(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    if not rows:
        return Text("No model's cost is 15 % or more off in the last comparisons with providers.")
    table = _table("Provider", "Model", "Booked", "Charged to us", "Off", "True margin")
    table.title, table.title_justify = "Cost is 15 % or more off: another price, or none", "left"
    for row in rows:
        margin = row["true_margin_ppm"]
        table.add_row(
            Text(row["provider"]),
            Text(row["model"]),
            format_short(row["booked_nano"]),
            format_short(row["provider_nano"]),
            percent(row["drift_ppm"]),
            "-" if margin is None else percent(margin),
        )
    return table


def _units(units: Sequence[str]) -> str:
    """The units of a row: the classes of a side that has one rate are many."""
    return ", ".join(units) if len(units) < 3 else f"{units[-1]} and {len(units) - 1} more"


def usd_of(rate_pico: int | None, is_token: bool) -> str:
    """A rate in USD: per million tokens, or per unit of what is no token."""
    if rate_pico is None:
        return "-"
    found = Decimal(rate_pico) / (10**6 if is_token else 10**12)
    whole, _, part = f"{found:f}".partition(".")
    return f"{whole}.{part.rstrip('0').ljust(2, '0')}"


def times(multiplier_ppm: int | None) -> str:
    """A multiplier as it is written."""
    return "-" if multiplier_ppm is None else f"{(Decimal(multiplier_ppm) / 10**6).normalize():f}"


def percent(ppm: int) -> str:
    """Millionths as a percentage with two digits, and its sign."""
    return f"{Decimal(ppm) / 10_000:+.2f} %"


def _usage(usage: Mapping[str, Any]) -> RenderableType:
    if not usage["rows"]:
        return Text(f"no usage since {usage['since']}")
    return outlook(usage["rows"], f"Usage since {usage['since']} by the new prices")


def _rates(side: Mapping[str, Any], words: str) -> Mapping[str, int]:
    found: Mapping[str, int] = side["conditions"][words] if words else side["rates_pico"]
    return found


def _table(*names: str) -> Table:
    table = Table()
    for name in names:
        table.add_column(name)
    return table
