"""A document in words: the rows that people read, alike in HTML and PDF. Pure.

Every text and number is made here, so that the renderings differ in their looks alone. Amounts are
whole cents that sum to the total; exact amounts are in the CSV and the JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from metering.money import NANO_PER_CENT, divide_half_even
from metering.settlement.charges import is_rate_times, usd_of_micro, usd_of_pico
from metering.settlement.documents import DRAFT, FINAL, REST, days_of
from metering.settlement.invoices import LINE_KINDS
from metering.usage import TOKEN_CLASSES

SECTIONS = dict(
    zip(LINE_KINDS, ("Usage", "Fees", "Discounts", "Credits", "Adjustments"), strict=True)
)
"""What the kinds of lines are called, in the order in which they stand."""

HEADINGS = ("#", "Description", "Quantity", "Unit price", "Amount")

_UNITS = {
    "input_uncached": "input tokens",
    "input_cache_read": "input tokens, cached",
    "input_cache_write_5m": "cache write tokens, 5 min",
    "input_cache_write_1h": "cache write tokens, 1 h",
    "input_audio": "audio input tokens",
    "input_image": "image input tokens",
    "output_text": "output tokens",
    "output_reasoning": "reasoning tokens",
    "output_audio": "audio output tokens",
    "output_image": "image output tokens",
    "api_call": "API calls",
    "inference": "answers",
    "web_search": "web searches",
    "file_search": "file searches",
    "code_session": "code sessions",
    "sla_credit": "credit for late answers",
}
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Row:
    """One line as it reads. `line` is empty where the row stands for several."""

    line: str
    item: str
    detail: str
    quantity: str
    rate: str
    amount: str


@dataclass(frozen=True, slots=True)
class Section:
    """The lines of a kind, and what they come to."""

    title: str
    rows: tuple[Row, ...]
    amount: str


def sections_of(document: Mapping[str, Any], *, simple: bool = False) -> list[Section]:
    """The document's lines; `simple` has a row for each model or charge instead."""
    made = []
    for kind, title in SECTIONS.items():
        lines = [line for line in document["lines"] if line["kind"] == kind]
        if lines:
            rows = _simple_rows(lines) if simple else [_row(line, document) for line in lines]
            amount = cents_text(sum(line["cents"] for line in lines))
            made.append(Section(title, tuple(rows), amount))
    return made


def totals_of(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What stands at the end, line by line; the last is what is to be paid."""
    currency = document["currency"]
    found = [(SECTIONS[kind], amount) for kind, amount in _kinds(document) if amount]
    rows = [(name, cents_text(cents)) for name, cents in found] if len(found) > 1 else []
    rows.append(("Total", f"{_thousands(document['total'])} {currency}"))
    for each in document["credits"]:
        name = "Promotional credit" if each["kind"] == "promo" else "Prepaid credit"
        rows.append((_joined(name, each["note"] or each["grant"]), _cents(-each["amount_nano"])))
    if document["credits"]:
        rows.append(("Amount due", f"{_thousands(document['due'])} {currency}"))
    return rows


def subtotals_of(document: Mapping[str, Any], name: str) -> list[tuple[str, str]]:
    """By project or model; empty where there is only one."""
    found = document["subtotals"][name]
    if len(found) < 2:
        return []
    return [(each[name] or REST, cents_text(each["cents"])) for each in found]


def facts_of(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What stands in the head: number, dates and period."""
    first, last = days_of(document["period"])
    facts = [("Invoice number", document["number"])] if document["number"] else []
    if document["corrects"]:
        facts.append(("Replaces", document["corrects"]))
    if document["issued_on"]:
        facts.append(("Issued", day_text(date.fromisoformat(document["issued_on"]))))
        facts.append(("Due", day_text(date.fromisoformat(document["due_on"]))))
    facts.append(("Period", f"{day_text(first)} - {day_text(last)} (UTC)"))
    facts.append(("Account", document["tenant"]))
    plans = dict.fromkeys(term["plan"] for term in document["terms"] if term["plan"])
    if plans:
        facts.append(("Plan", ", ".join(plans)))
    return facts


def title_of(document: Mapping[str, Any]) -> str:
    """What the document is."""
    if document["status"] != FINAL:
        return "Draft invoice" if document["status"] == DRAFT else "Provisional invoice"
    return "Corrected invoice" if document["correction"] else "Invoice"


def notes_of(document: Mapping[str, Any]) -> list[str]:
    """What a reader has to know, in sentences."""
    notes = []
    if document["status"] == DRAFT:
        notes.append("This month is not over: amounts may change. This is no demand for payment.")
    elif document["status"] != FINAL:
        notes.append("This invoice is not issued yet: amounts may change.")
    if document["reason"]:
        notes.append(f"Reason of the correction: {document['reason']}")
    if document["unpriced"]:
        number = document["unpriced"]
        notes.append(f"Usage without a price is not included ({number:,} requests).")
    if not document["lines"]:
        notes.append("Nothing was used in this period.")
    return notes


def provenance_of(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The digests that name what the document was made from."""
    digests = document["digests"]
    count = digests["event_count"]
    return [
        (f"Events ({count:,})", digests["events"]),
        ("Statement", digests["statement"]),
        ("Prices", ", ".join(digests["price_versions"]) or "-"),
        ("Plans", ", ".join(digests["plan_versions"]) or "-"),
    ]


def party_lines(party: Mapping[str, Any]) -> list[str]:
    """A name and address, line by line; what is not known is left out."""
    tax = f"Tax ID {party['tax_id']}" if party["tax_id"] else ""
    return [text for text in (party["name"], *party["address"], tax, party["email"]) if text]


def cents_text(cents: int) -> str:
    """Cents as USD with thousands apart: -1,234.50."""
    sign = "-" if cents < 0 else ""
    whole, part = divmod(abs(cents), 100)
    return f"{sign}{whole:,}.{part:02d}"


def day_text(day: date) -> str:
    """A day, the same in every locale: 1 Nov 2026."""
    return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"


def unit_text(unit: str) -> str:
    """What a unit is called."""
    return _UNITS.get(unit, unit.replace("_", " "))


def _cents(nano: int) -> str:
    return cents_text(divide_half_even(nano, NANO_PER_CENT))


def _thousands(usd: str) -> str:
    return cents_text(int(usd.replace(".", "")))


def _kinds(document: Mapping[str, Any]) -> list[tuple[str, int]]:
    return [
        (kind, sum(line["cents"] for line in document["lines"] if line["kind"] == kind))
        for kind in LINE_KINDS
    ]


def _row(line: Mapping[str, Any], document: Mapping[str, Any]) -> Row:
    item, details = _described(line)
    if line["reference"]:
        details.append(f"belongs to {line['reference']}")
    elif len(document["terms"]) > 1:
        first = date.fromisoformat(line["from"])
        last = date.fromordinal(date.fromisoformat(line["to"]).toordinal() - 1)
        details.append(f"{day_text(first)} - {day_text(last)}")
    quantity, rate = _counted(line)
    amount = cents_text(line["cents"])
    return Row(str(line["line"]), item, "; ".join(details), quantity, rate, amount)


def _described(line: Mapping[str, Any]) -> tuple[str, list[str]]:
    """What a line is for, and what there is to say of it."""
    if not line["component"]:
        if line["reference"]:
            return line["name"] or REST, [line["formula"]]
        details = [f"project {line['project']}" if line["project"] else "", line.get("variant", "")]
        if line["kind"] == "adjustment":
            details.append("corrected" if _is_rate_times(line) else line["formula"])
        if not line["amount_nano"] and line["list_nano"]:
            details.append(line["formula"])
        return _joined(line["model"], unit_text(line["unit"])), [each for each in details if each]
    values = [
        unit_text(value) if name == "type" else value
        for name, value in line["dimensions"].items()
        if value
    ]
    details = [line["formula"]]
    if line["tier"] and line["tier"] != "included":
        details.insert(0, f"tier {line['tier']}")
    return _joined(line["name"] or line["component"], *values), details


def _is_rate_times(line: Mapping[str, Any]) -> bool:
    """Whether an adjustment takes back what was counted, and no price was changed beside it."""
    quantity, amounts = line["quantity"], (line["list_nano"], line["events"])
    return bool(quantity) and is_rate_times(quantity, line["rate_pico"] or 0, *amounts)


def _counted(line: Mapping[str, Any]) -> tuple[str, str]:
    """Quantity and unit price, where the line has them."""
    if line["kind"] in ("fee", "discount") or line["reference"]:
        return "", ""
    unit, quantity, rate = line["unit"], line["quantity"], line["rate_pico"]
    if unit in ("nano_usd", "sla_credit"):
        return "", ""
    if line["kind"] == "adjustment" and not line["component"] and not _is_rate_times(line):
        return "", ""
    if unit == "micro_credit":
        return f"{usd_of_micro(quantity)} credits", ""
    if rate is None or line["tier"] == "included":
        return f"{quantity:,}", "included" if line["tier"] == "included" else ""
    if unit in TOKEN_CLASSES or "token" in unit:
        return f"{quantity:,}", f"{usd_of_pico(rate * _MILLION)} / 1M"
    return f"{quantity:,}", usd_of_pico(rate)


def _simple_rows(lines: Sequence[Mapping[str, Any]]) -> list[Row]:
    """One row for each model or charge, in the order in which they come."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        model = line["model"] or line["dimensions"].get("model")
        groups.setdefault(model or line["name"] or line["component"], []).append(line)
    rows = []
    for name, group in groups.items():
        tokens = sum(line["quantity"] for line in group if line["unit"] in TOKEN_CLASSES)
        quantity = f"{tokens:,} tokens" if tokens else ""
        months = sorted({line["reference"] for line in group if line["reference"]})
        detail = f"belongs to {', '.join(months)}" if months else ""
        amount = cents_text(sum(line["cents"] for line in group))
        rows.append(Row("", name or REST, detail, quantity, "", amount))
    return rows


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)
