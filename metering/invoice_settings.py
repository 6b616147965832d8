"""What an invoice says beside amounts, as configured: who sends it, to whom, under which number.

Plain values that the request path may carry about; who acts on them is the settlement side.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

NUMBER_FORMAT = "{tenant}-{period}"
"""An invoice's number unless the file says otherwise: unique, and the same whenever it is asked."""

NUMBER_FIELDS = ("tenant", "period", "year", "month", "seq")
"""What a number may be made of; `seq` counts the ledger's invoices in the order of their issue."""


@dataclass(frozen=True, slots=True)
class Party:
    """Who sends an invoice, or gets one. `address` are lines; what is empty is left out."""

    name: str = ""
    address: tuple[str, ...] = ()
    tax_id: str = ""
    email: str = ""


NOBODY = Party()


@dataclass(frozen=True, slots=True)
class Invoicing:
    """The section `invoices`, and by tenant who is billed (`tenants[].billing`)."""

    issuer: Party = NOBODY
    customers: Mapping[str, Party] = field(default_factory=dict, hash=False)
    number_format: str = NUMBER_FORMAT
    due_days: int = 30
    footer: str = ""
    logo: Path | None = None
    fonts: tuple[Path, ...] = ()
    """Further fonts of a PDF, for letters that the one that comes with us does not have."""


UNNAMED = Invoicing()
"""Without the section: invoices name nobody who sends them."""


def number_of(number_format: str, *, tenant: str, period: str, seq: int) -> str:
    """The number of an invoice; ValueError, KeyError or IndexError for a format that is none."""
    year, month = period.split("-")
    values = {"tenant": tenant, "period": period, "year": year, "month": month, "seq": seq}
    for _, name, _, conversion in string.Formatter().parse(number_format):
        if name is not None and (name not in NUMBER_FIELDS or conversion):
            raise ValueError(f"{{{name}}} is not among {', '.join(NUMBER_FIELDS)}")
    return number_format.format(**values)


def has_seq(number_format: str) -> bool:
    """Whether numbers count the ledger's invoices."""
    return "seq" in _names(number_format)


def is_unique(number_format: str) -> bool:
    """Whether no two invoices can get the same number."""
    names = _names(number_format)
    return "seq" in names or (
        "tenant" in names and ("period" in names or {"year", "month"} <= names)
    )


def _names(number_format: str) -> set[str | None]:
    return {name for _, name, _, _ in string.Formatter().parse(number_format)}
