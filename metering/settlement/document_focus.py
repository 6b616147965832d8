"""A document as FOCUS 1.2 (FinOps Open Cost and Usage Specification): CSV, one row per line. Pure.

All columns that the version makes mandatory, and the conditional ones that apply to tokens sold by
a price list. Costs are exact decimals; a row of its own holds what rounding the total to cents came
to, so that the rows of an invoice sum to what it demands. What belongs to a month that was invoiced
already is a `Correction` with that month as its charge period.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import orjson

from metering.money import NANO_PER_CENT, divide_half_even, format_usd
from metering.settlement.charges import usd_of_pico
from metering.settlement.document_csv import safe
from metering.settlement.document_rows import unit_text
from metering.settlement.documents import days_of
from metering.usage import TOKEN_CLASSES

VERSION = "1.2"

MANDATORY = (
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "ContractedCost",
    "EffectiveCost",
    "InvoiceIssuerName",
    "ListCost",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "ServiceCategory",
    "ServiceName",
)
COLUMNS = (
    *sorted(
        (
            *MANDATORY,
            "ChargeFrequency",
            "ConsumedQuantity",
            "ConsumedUnit",
            "ContractedUnitPrice",
            "InvoiceId",
            "ListUnitPrice",
            "PricingCategory",
            "SkuId",
            "SkuMeter",
            "SkuPriceId",
            "SubAccountId",
            "SubAccountName",
            "Tags",
        )
    ),
    "x_InvoiceLine",
    "x_InvoiceStatus",
    "x_PriceVersion",
)

_CATEGORY = {"usage": "Usage", "fee": "Purchase", "discount": "Credit", "credit": "Credit"}
_SOLD = ("Usage", "Purchase")


def document_focus(document: Mapping[str, Any]) -> bytes:
    """The document's lines; UTF-8, an empty field is null."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\r\n")
    writer.writeheader()
    for line in document["lines"]:
        writer.writerow({**_head(document), **_line(line, document)})
    for each in document["credits"]:
        if each["kind"] == "promo":
            name = f"Promotional credit {each['note'] or each['grant']}"
            writer.writerow(_extra(document, "Credit", name, -each["amount_nano"]))
    if rounding := _rounding(document):
        writer.writerow(_extra(document, "Adjustment", "Rounding to whole cents", rounding))
    return text.getvalue().encode()


def _head(document: Mapping[str, Any]) -> dict[str, str]:
    issuer = safe(document["issuer"]["name"] or "not named")
    start, end = _bounds(document["period"])
    return {
        "BillingAccountId": document["tenant"],
        "BillingAccountName": safe(document["customer"]["name"] or document["tenant"]),
        "BillingCurrency": document["currency"],
        "BillingPeriodStart": start,
        "BillingPeriodEnd": end,
        "InvoiceId": safe(document["number"] or ""),
        "InvoiceIssuerName": issuer,
        "ProviderName": issuer,
        "PublisherName": issuer,
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": "LLM API",
        "x_InvoiceStatus": document["status"],
    }


def _line(line: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, str]:
    amount, rate = line["amount_nano"], line["rate_pico"]
    category = _CATEGORY.get(line["kind"], "Usage")
    is_late = bool(line["reference"])
    start, end = _bounds(line["reference"]) if is_late else (_at(line["from"]), _at(line["to"]))
    model = line["model"] or line["dimensions"].get("model", "")
    found = {
        **_costs(amount),
        "ChargeCategory": category,
        "ChargeClass": "Correction" if is_late else "",
        "ChargeDescription": safe(_described(line, model)),
        "ChargeFrequency": "Recurring" if category == "Purchase" else "Usage-Based",
        "ChargePeriodStart": start,
        "ChargePeriodEnd": end,
        "SubAccountId": safe(line["project"]),
        "SubAccountName": safe(line["project"]),
        "Tags": _tags(line, model),
        "x_InvoiceLine": str(line["line"]),
        "x_PriceVersion": line["price_version"] or "",
    }
    if category not in _SOLD or is_late:
        return found
    return found | _priced(line, category, model, rate)


def _priced(line: Mapping[str, Any], category: str, model: str, rate: int | None) -> dict[str, str]:
    """Quantity and prices. Where no rate was applied, the price is of the line as a whole."""
    unit = "Tokens" if line["unit"] in TOKEN_CLASSES else unit_text(line["unit"])
    amount = line["amount_nano"]
    by_rate = rate is not None and _product(line["quantity"], rate) == amount
    quantity = str(line["quantity"]) if by_rate else "1"
    price = usd_of_pico(rate) if by_rate and rate is not None else format_usd(amount, places=9)
    consumed = {"ConsumedQuantity": str(line["quantity"]), "ConsumedUnit": unit}
    sku = ":".join(filter(None, (line["component"], model, line["unit"])))
    return {
        "PricingQuantity": quantity,
        "PricingUnit": unit if by_rate else "Units",
        "PricingCategory": "Standard" if not line["plan"] else "Other",
        "ListUnitPrice": price,
        "ContractedUnitPrice": price,
        "SkuId": safe(sku),
        "SkuMeter": safe(unit_text(line["unit"])),
        "SkuPriceId": safe(f"{line['price_version'] or ''}:{sku}:{line['tier'] or ''}"),
        **(consumed if category == "Usage" else {}),
    }


def _product(quantity: int, rate_pico: int) -> int:
    return divide_half_even(quantity * rate_pico, 1_000)


def _described(line: Mapping[str, Any], model: str) -> str:
    name = line["name"] or line["component"]
    parts = (name, model, unit_text(line["unit"]), line.get("variant", ""), line["formula"])
    return "; ".join(part for part in parts if part)


def _tags(line: Mapping[str, Any], model: str) -> str:
    tags = {"charge": line["component"], "model": model, "project": line["project"]}
    kept = {name: value for name, value in tags.items() if value}
    return orjson.dumps(kept, option=orjson.OPT_SORT_KEYS).decode()


def _extra(document: Mapping[str, Any], category: str, name: str, nano: int) -> dict[str, str]:
    start, end = _bounds(document["period"])
    return {
        **_head(document),
        **_costs(nano),
        "ChargeCategory": category,
        "ChargeDescription": safe(name),
        "ChargeFrequency": "One-Time",
        "ChargePeriodStart": start,
        "ChargePeriodEnd": end,
        "Tags": "{}",
    }


def _rounding(document: Mapping[str, Any]) -> int:
    total: int = document["total_nano"]
    return divide_half_even(total, NANO_PER_CENT) * NANO_PER_CENT - total


def _costs(nano: int) -> dict[str, str]:
    cost = format_usd(nano, places=9)
    return dict.fromkeys(("BilledCost", "ContractedCost", "EffectiveCost", "ListCost"), cost)


def _bounds(period: str) -> tuple[str, str]:
    first, last = days_of(period)
    return _at(first.isoformat()), _at((last + timedelta(days=1)).isoformat())


def _at(day: str) -> str:
    return f"{date.fromisoformat(day).isoformat()}T00:00:00Z"
