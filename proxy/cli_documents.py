"""An invoice as the document that was issued, or as it would be now, and as bytes in some format.

What `weir invoice --format` prints. The money is the ledger's; names, logo and fonts are those of
the configuration, and of an issued invoice those that it was issued with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from metering.settlement.document_csv import document_csv
from metering.settlement.document_focus import document_focus
from metering.settlement.document_html import document_html
from metering.settlement.document_rows import (
    HEADINGS,
    facts_of,
    notes_of,
    sections_of,
    title_of,
    totals_of,
)
from metering.settlement.documents import document_bytes
from metering.settlement.ledger.credit_books import knows_credits, tenant_grants
from metering.settlement.ledger.invoice_books import draft, issued, knows_invoices
from metering.settlement.ledger.plan_books import Terms, knows_plans
from metering.settlement.ledger.queries import knows
from metering.settlement.ledger.store import Ledger
from proxy.cli_reports import LedgerError, NotFoundError, Report, read_ledger
from proxy.settings import Settings

FORMATS = ("table", "json", "csv", "html", "pdf", "focus")


def document_of(
    ledger: Ledger, settings: Settings, tenant: str, period: str, *, now_ns: int
) -> dict[str, Any]:
    """What was issued for the month, else what would be; NotFoundError for an unknown tenant."""
    if not knows_plans(ledger):
        raise LedgerError("the ledger is of an older version: `weir worker` brings it up")
    if knows_invoices(ledger) and (found := issued(ledger, tenant, period)) is not None:
        return found.document
    if tenant not in settings.tenants:
        with ledger.read() as connection:
            if not knows(connection, tenant):
                where = settings.source
                raise NotFoundError(f"no tenant {tenant!r}, neither in the ledger nor in {where}")
    terms = Terms(settings.plans, settings.assignments.get(tenant, ()))
    return draft(ledger, tenant, period, terms, settings.invoicing, now_ns=now_ns)


def with_credits(
    settings: Settings, found: Report, tenant: str, period: str, *, now_ns: int
) -> Report:
    """A month's report with what grants pay of it and what is left to pay, where there are any."""
    document = read_ledger(
        settings, lambda ledger: _credited(ledger, settings, tenant, period, now_ns=now_ns)
    )
    if document is None:
        return found
    body, table = found
    names = ("credits", "credits_nano", "due_nano", "due")
    totals = totals_of(document)
    rows = totals[[name for name, _ in totals].index("Total") + 1 :]
    grid = Table.grid(padding=(0, 2))
    grid.add_column()
    grid.add_column(justify="right")
    for name, amount in rows:
        grid.add_row(Text(name), amount)
    return {**body, **{name: document[name] for name in names}}, Group(table, grid)


def _credited(
    ledger: Ledger, settings: Settings, tenant: str, period: str, *, now_ns: int
) -> dict[str, Any] | None:
    """The document, where a grant pays a part of it."""
    if not knows_plans(ledger) or not knows_credits(ledger):
        return None
    with ledger.read() as connection:
        if not tenant_grants(connection, [tenant]):
            return None
    document = document_of(ledger, settings, tenant, period, now_ns=now_ns)
    return document if document["credits"] else None


def rendered(
    document: Mapping[str, Any], settings: Settings, how: str, *, simple: bool = False
) -> bytes:
    """The document in one of the formats but `table`; LedgerError says why there is no PDF."""
    invoicing = settings.invoicing
    if how in ("html", "pdf"):
        logo = invoicing.logo
        try:
            image = None if logo is None else logo.read_bytes()
        except OSError as error:
            raise LedgerError(f"cannot read invoices.logo {logo}: {error.strerror}") from None
        if how == "html":
            return document_html(document, logo=image, simple=simple)
        return _pdf(document, image, settings, simple=simple)
    if how == "csv":
        return document_csv(document)
    return document_focus(document) if how == "focus" else document_bytes(document)


def _pdf(
    document: Mapping[str, Any], logo: bytes | None, settings: Settings, *, simple: bool
) -> bytes:
    try:
        from metering.settlement.document_pdf import NoLetterError, document_pdf
    except ImportError:
        how = "pip install 'tokenweir[pdf]', or use --format html and print that"
        raise LedgerError(f"a PDF needs reportlab: {how}") from None
    try:
        return document_pdf(document, logo=logo, fonts=settings.invoicing.fonts, simple=simple)
    except NoLetterError as error:
        raise LedgerError(f"no PDF was made: {error}") from None


def document_table(document: Mapping[str, Any], *, simple: bool) -> RenderableType:
    """The document for a terminal."""
    table = Table(title_justify="left", header_style="bold")
    for number, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="right" if number > 1 else "left")
    for section in sections_of(document, simple=simple):
        table.add_row("", section.title, "", "", section.amount, style="bold")
        for row in section.rows:
            item = Text(row.item)
            if row.detail:
                item.append(f"\n{row.detail}", style="dim")
            table.add_row(row.line, item, row.quantity, row.rate, row.amount)
    for name, amount in totals_of(document):
        table.add_row("", Text(name), "", "", amount)
    table.title = f"{title_of(document)} {document['tenant']}, {document['period']} (UTC)"
    facts = [Text(f"{name}: {value}") for name, value in facts_of(document)]
    return Group(*facts, table, *map(Text, notes_of(document)))
