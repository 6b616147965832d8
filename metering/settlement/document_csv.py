"""A document as CSV: a row for each line of the invoice, exact amounts, the total last. Pure.

UTF-8, CRLF, quoted by RFC 4180. A text that a spreadsheet would take for a formula gets a quote in
front: model names and notes come from outside.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from metering.money import format_usd
from metering.settlement.charges import usd_of_pico
from metering.settlement.document_rows import cents_text

COLUMNS = (
    "invoice",
    "status",
    "tenant",
    "period",
    "line",
    "kind",
    "project",
    "model",
    "unit",
    "charge",
    "name",
    "tier",
    "variant",
    "from",
    "to",
    "belongs_to",
    "quantity",
    "rate_usd",
    "amount_usd",
    "cents_usd",
    "currency",
    "formula",
    "events",
    "price_version",
)

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def document_csv(document: Mapping[str, Any]) -> bytes:
    """The document; amounts have nine digits, of which none is lost."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for line in document["lines"]:
        writer.writerow(_row(line, document))
    for each in document["credits"]:
        writer.writerow(
            _sparse(
                document,
                kind="applied_credit",
                name=safe(each["note"] or each["grant"]),
                amount_usd=format_usd(-each["amount_nano"], places=9),
            )
        )
    total = format_usd(document["total_nano"], places=9)
    writer.writerow(_sparse(document, kind="total", amount_usd=total, cents_usd=document["total"]))
    if document["credits"]:
        due = format_usd(document["due_nano"], places=9)
        writer.writerow(_sparse(document, kind="due", amount_usd=due, cents_usd=document["due"]))
    return text.getvalue().encode()


def safe(text: str) -> str:
    """A text that no spreadsheet computes."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _row(line: Mapping[str, Any], document: Mapping[str, Any]) -> list[str]:
    rate = line["rate_pico"]
    return _sparse(
        document,
        line=str(line["line"]),
        kind=line["kind"],
        project=safe(line["project"]),
        model=safe(line["model"]),
        unit=line["unit"],
        charge=line["component"],
        name=safe(line["name"]),
        tier=line["tier"] or "",
        variant=safe(line.get("variant", "")),
        **{"from": line["from"], "to": line["to"]},
        belongs_to=line["reference"] or document["period"],
        quantity=str(line["quantity"]),
        rate_usd="" if rate is None else usd_of_pico(rate),
        amount_usd=format_usd(line["amount_nano"], places=9),
        cents_usd=cents_text(line["cents"]).replace(",", ""),
        formula=safe(line["formula"]),
        events=str(line["events"]),
        price_version=line["price_version"] or "",
    )


def _sparse(document: Mapping[str, Any], **values: str) -> list[str]:
    head = {
        "invoice": safe(document["number"] or ""),
        "status": document["status"],
        "tenant": document["tenant"],
        "period": document["period"],
        "currency": document["currency"],
    }
    return [{**head, **values}.get(column, "") for column in COLUMNS]
