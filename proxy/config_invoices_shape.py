"""The shapes of the section `invoices`, and of whom a tenant's are made out to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator, Field

from metering.invoice_settings import NUMBER_FORMAT
from proxy.config_values import FORBID, Text
from proxy.config_values import whole as _whole


@dataclass(frozen=True, kw_only=True)
class PartyShape:
    """A name and an address on an invoice."""

    __pydantic_config__ = FORBID

    name: Text = ""
    """The name in full; a tenant's `name` if left out for a tenant."""
    address: Text = ""
    """The address, as many lines as it has (`|`)."""
    tax_id: Text = ""
    """The number under which tax is paid."""
    email: Text = ""
    """Where questions go, or the invoice."""


@dataclass(frozen=True, kw_only=True)
class InvoicesShape:
    """What invoices say beside amounts."""

    __pydantic_config__ = FORBID

    issuer: PartyShape = PartyShape()
    """Who sends them."""
    number_format: Text = NUMBER_FORMAT
    """Made of `{tenant}`, `{period}`, `{year}`, `{month}` and `{seq}`, which counts: `{seq:06}`."""
    due_days: Annotated[int, Field(ge=0, le=365), BeforeValidator(_whole)] = 30
    """So many days after its issue an invoice is due, 0 to 365."""
    footer: Text = ""
    """What stands at the end: a bank account, a note on tax."""
    logo: Text | None = None
    """A PNG or JPEG of at most 1 MiB; relative to the file's directory."""
    fonts: tuple[Text, ...] = ()
    """TrueType fonts for letters that ours lacks; see [invoices](invoices.md#letters)."""


NO_PARTY = PartyShape()
NO_INVOICES = InvoicesShape()
