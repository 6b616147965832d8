"""Invoices: the same ledger rows give the same bytes, in whatever order they are read.

Pure: no clock, no chance, no float. A line is everything that was sold in one project, of one
model and unit, at one rate of one price version and under the same conditions of it (`variant`:
"service tier flex, prompts above 200000 tokens"; only lines at another than the list price say so).
Its amount is the sum of what the events were rounded to, so lines equal their events to the nano;
cents appear once, at the total.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from metering.events import Kind
from metering.money import format_cents
from metering.settlement.journal import CURRENCY

LINE_KINDS = ("usage", "fee", "discount", "credit", "adjustment")
"""The kinds of lines, in the order in which an invoice shows them."""

_PERIOD = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")
_NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Charge:
    """One unit of one billable event, as the ledger booked it. `model` is the upstream model."""

    kind: str
    project: str
    model: str
    unit: str
    quantity: int
    rate_pico: int
    amount_nano: int
    price_version: str
    variant: str | None = None
    """Which of the model's rates it was sold at, where that is not the list price."""


@dataclass(frozen=True, slots=True)
class InvoiceReport:
    """An invoice with what stands beside it: none of this is part of its hash.

    `settled_through` (UTC, RFC 3339) is the newest event of the tenant in the ledger, `pending`
    how many entries still wait in the streams: with any, the invoice is provisional.
    `event_digest` is the SHA-256 over the sorted hashes of the billed events' bodies, and
    `unpriced` how many of these hold a unit that found no rate and is on no line.
    """

    invoice: dict[str, Any]
    body: bytes
    sha256: str
    event_count: int
    event_digest: str
    unpriced: int
    settled_through: str | None
    pending: int | None


def line_kind(event_kind: str) -> str:
    """The kind of line that an event of this kind belongs to."""
    return "adjustment" if event_kind in (Kind.CORRECTION, Kind.ADJUSTMENT) else "usage"


def make_invoice(tenant: str, period: str, charges: Iterable[Charge]) -> dict[str, Any]:
    """The invoice of a tenant for a month; `charges` in any order."""
    sums: dict[tuple[int, str, str, str, str, int, str], tuple[int, int]] = {}
    for charge in charges:
        key = (
            LINE_KINDS.index(charge.kind),
            charge.project,
            charge.model,
            charge.unit,
            charge.price_version,
            charge.rate_pico,
            charge.variant or "",
        )
        quantity, amount_nano = sums.get(key, (0, 0))
        sums[key] = (quantity + charge.quantity, amount_nano + charge.amount_nano)
    lines = [
        {
            "kind": LINE_KINDS[kind],
            "project": project,
            "model": model,
            "unit": unit,
            "quantity": sums[key][0],
            "rate_pico": rate_pico,
            "amount_nano": sums[key][1],
            "price_version": price_version,
            **({"variant": variant} if variant else {}),
        }
        for key in sorted(sums)
        for kind, project, model, unit, price_version, rate_pico, variant in (key,)
    ]
    total_nano = sum(amount_nano for _, amount_nano in sums.values())
    return {
        "tenant": tenant,
        "period": period,
        "currency": CURRENCY,
        "lines": lines,
        "total_nano": total_nano,
        "total": format_cents(total_nano),
    }


def invoice_bytes(invoice: dict[str, Any]) -> bytes:
    """The invoice as canonical JSON: UTF-8, sorted keys, integers and strings only."""
    return orjson.dumps(invoice, option=orjson.OPT_SORT_KEYS)


def events_digest(payload_hashes: Iterable[str]) -> str:
    """Names a set of events, in whatever order: SHA-256 over the sorted hashes of their bodies."""
    return hashlib.sha256("".join(sorted(payload_hashes)).encode()).hexdigest()


def period_bounds_ns(period: str) -> tuple[int, int]:
    """First nanosecond of a UTC month `YYYY-MM`, and of the next; ValueError for anything else."""
    match = _PERIOD.fullmatch(period)
    if match is None or match[1] == "0000" or period == "9999-12":
        raise ValueError(f"period {period!r} is not a month: write it as YYYY-MM")
    year, month = int(match[1]), int(match[2])
    start = datetime(year, month, 1, tzinfo=UTC)
    end = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    return int(start.timestamp()) * _NS_PER_S, int(end.timestamp()) * _NS_PER_S
