"""An invoice as a document: everything that any rendering of it shows, and nothing besides.

Pure: a month's statement, who sends it to whom, its number and the credits applied give the same
bytes, whatever the clock, the locale and the order of events. Its lines are the statement's,
counted from 1, so that a line's number leads to its events. Digests name what it was made from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import orjson

from metering.invoice_settings import Party
from metering.money import NANO_PER_CENT, divide_half_even, format_cents
from metering.settlement.invoices import LINE_KINDS
from metering.settlement.statements import sha256_of, statement_bytes
from metering.settlement.utc import day_of

SCHEMA = 1

DRAFT, PROVISIONAL, FINAL = "draft", "provisional", "final"
"""The month goes on; it is over and not invoiced yet; the invoice was issued."""

REST = "Other"
"""What a subtotal calls lines that belong to no single project or model."""


@dataclass(frozen=True, slots=True)
class Applied:
    """A credit that pays a part of an invoice: `kind` is `paid` or `promo`."""

    grant: str
    kind: str
    amount_nano: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Heading:
    """What stands above an invoice. `number` and `issued_at` (UTC ns) are None before its issue.

    `corrects` is the number of the invoice that this one replaces, `reason` why.
    """

    issuer: Party
    customer: Party
    status: str = DRAFT
    number: str | None = None
    correction: int = 0
    corrects: str | None = None
    reason: str = ""
    issued_at: int | None = None
    due_days: int = 30
    footer: str = ""


def make_document(
    statement: Mapping[str, Any],
    heading: Heading,
    *,
    applied: Sequence[Applied] = (),
    unpriced: int = 0,
) -> dict[str, Any]:
    """The document of a statement's body (`Statement.body`), as plain values.

    `unpriced` counts events that hold a unit without a price, which is on no line.
    """
    lines = [{"line": n, **line} for n, line in enumerate(statement["lines"], 1)]
    credited: list[dict[str, Any]] = [
        {"grant": each.grant, "kind": each.kind, "amount_nano": each.amount_nano, "note": each.note}
        for each in sorted(applied, key=lambda each: (each.kind, each.grant, each.amount_nano))
    ]
    total_nano = statement["total_nano"]
    credits_nano = sum(each["amount_nano"] for each in credited)
    return {
        "schema": SCHEMA,
        **_words(heading),
        "tenant": statement["tenant"],
        "period": statement["period"],
        "currency": statement["currency"],
        "terms": statement["terms"],
        "lines": lines,
        "sums": {kind: _sum(line for line in lines if line["kind"] == kind) for kind in LINE_KINDS},
        "subtotals": {name: _subtotals(lines, name) for name in ("project", "model")},
        "total_nano": total_nano,
        "total": format_cents(total_nano),
        "list_nano": statement["list_nano"],
        "credits": credited,
        "credits_nano": credits_nano,
        "due_nano": total_nano - credits_nano,
        "due": due_of(total_nano, credits_nano),
        "unpriced": unpriced,
        "digests": _digests(statement, lines, credited),
    }


def reworded(document: Mapping[str, Any], heading: Heading) -> dict[str, Any]:
    """The same lines and amounts under another heading."""
    return {**document, **_words(heading)}


def says_the_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two documents name the same parties and end alike."""
    return all(one[name] == other[name] for name in ("issuer", "customer", "footer"))


def _words(heading: Heading) -> dict[str, Any]:
    issued = None if heading.issued_at is None else day_of(heading.issued_at)
    due = None if issued is None else issued + timedelta(days=heading.due_days)
    return {
        "status": heading.status,
        "number": heading.number,
        "correction": heading.correction,
        "corrects": heading.corrects,
        "reason": heading.reason,
        "issued_on": None if issued is None else issued.isoformat(),
        "due_on": None if due is None else due.isoformat(),
        "issuer": _party(heading.issuer),
        "customer": _party(heading.customer),
        "footer": heading.footer,
    }


def document_bytes(document: Mapping[str, Any]) -> bytes:
    """The document as canonical JSON: UTF-8, sorted keys, integers and strings only."""
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


def due_of(total_nano: int, credits_nano: int) -> str:
    """What is to be paid: the total in cents less the credits in cents, so that it adds up."""
    cents = [divide_half_even(amount, NANO_PER_CENT) for amount in (total_nano, credits_nano)]
    return format_cents((cents[0] - cents[1]) * NANO_PER_CENT)


def status_of(period: str, now_ns: int, *, issued: bool) -> str:
    """What an invoice of that month is at that time."""
    if issued:
        return FINAL
    return DRAFT if day_of(now_ns).isoformat()[: len(period)] <= period else PROVISIONAL


def days_of(period: str) -> tuple[date, date]:
    """First and last day of a month `YYYY-MM`."""
    first = date.fromisoformat(f"{period}-01")
    later = (first + timedelta(days=31)).replace(day=1)
    return first, later - timedelta(days=1)


def _sum(lines: Iterable[Mapping[str, Any]]) -> int:
    return sum(int(line["amount_nano"]) for line in lines)


def _subtotals(lines: Sequence[Mapping[str, Any]], name: str) -> list[dict[str, Any]]:
    """By project or model; what belongs to none is last. Their cents are those of their lines."""
    amounts: dict[str, int] = {}
    cents: dict[str, int] = {}
    for line in lines:
        value = line[name]
        amounts[value] = amounts.get(value, 0) + line["amount_nano"]
        cents[value] = cents.get(value, 0) + line["cents"]
    order = sorted(amounts, key=lambda value: (value == "", value))
    return [{name: v or None, "amount_nano": amounts[v], "cents": cents[v]} for v in order]


def _party(party: Party) -> dict[str, Any]:
    return {
        "name": party.name,
        "address": list(party.address),
        "tax_id": party.tax_id,
        "email": party.email,
    }


def _digests(
    statement: Mapping[str, Any],
    lines: Sequence[Mapping[str, Any]],
    applied: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """What went in, by SHA-256: the events, the terms, the prices, the grants."""
    prices = {line["price_version"] for line in lines if not line["component"]} - {"", None}
    plans = {term["version"] for term in statement["terms"]} - {None}
    return {
        "events": statement["event_digest"],
        "event_count": statement["event_count"],
        "late_events": {month: each["event_count"] for month, each in statement["late"].items()},
        "statement": sha256_of(statement_bytes(statement)),
        "price_versions": sorted(prices),
        "prices": _names(prices),
        "plan_versions": sorted(plans),
        "plans": _names(plans),
        "grants": hashlib.sha256(orjson.dumps(applied, option=orjson.OPT_SORT_KEYS)).hexdigest(),
    }


def _names(versions: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(versions)).encode()).hexdigest()
