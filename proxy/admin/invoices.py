"""Invoices: what was issued, as a document in some format, and the events behind its lines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from metering.clock import now_ns
from metering.settlement.ledger import invoice_books as book
from metering.settlement.ledger import line_books
from metering.settlement.ledger.plan_books import Terms
from metering.settlement.ledger.store import Ledger
from proxy.admin.errors import Conflict, NotFound
from proxy.admin.pages import MONTH, PAGE, REASON, TENANT, listed, month_of, page, with_usd
from proxy.admin.routes import BASE, Answer, Call, Param, Role, Route
from proxy.admin.rows import invoice_row
from proxy.cli_documents import document_of, rendered
from proxy.cli_invoice_tables import events_body
from proxy.cli_reports import LedgerError, NotFoundError
from proxy.settling_months import Ends, issue_all, unsettled

TYPES = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "focus": "text/csv; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "pdf": "application/pdf",
}

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'"
"""An invoice is one file with its style inside; it runs and loads nothing."""


async def list_invoices(call: Call) -> Answer:
    """What was issued, in the order of its numbers."""
    tenant = call.query.get("tenant")
    period = month_of(call.query, now_ns()) if "month" in call.query else None
    found = await call.console.ask(
        lambda ledger: book.all_issued(ledger, tenant=tenant, period=period)
    )
    rows = [with_usd(invoice_row(each)) for each in found]
    return Answer(page(rows, lambda row: row["number"], call.query))


async def show_invoice(call: Call) -> Answer:
    """What was issued for the month, else what would be."""
    settings, tenant = call.console.settings, call.path["tenant"]
    period, how = month_of(call.path, now_ns()), call.query.get("format", "json")

    def ask(ledger: Ledger) -> bytes:
        try:
            document = document_of(ledger, settings, tenant, period, now_ns=now_ns())
            return rendered(document, settings, how, simple=call.query.get("simple") == "true")
        except NotFoundError as error:
            raise NotFound(f"{error}.") from None
        except (LedgerError, LookupError) as error:
            raise Conflict(f"{error.args[0]}.") from None

    raw = await call.console.ask(ask)
    headers = {"Content-Security-Policy": _POLICY, "X-Frame-Options": "SAMEORIGIN"}
    if how in ("csv", "focus"):
        name = f"invoice-{tenant}-{period}-{how}.csv"
        headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return Answer(raw=raw, content_type=TYPES[how], headers=headers)


async def show_events(call: Call) -> Answer:
    """The events that a line is made of, each with its part."""
    settings, tenant = call.console.settings, call.path["tenant"]
    period, number = month_of(call.path, now_ns()), call.path["line"]
    terms = Terms(settings.plans, settings.assignments.get(tenant, ()))
    if not (number.isdigit() and 0 < int(number) < 10**6):
        raise NotFound(f"There is no line {number!r}.")

    def ask(ledger: Ledger) -> dict[str, Any]:
        try:
            found = line_books.events_of_line(ledger, tenant, period, int(number), terms)
        except line_books.NotTheEventsError as error:
            raise Conflict(f"{error}.") from None
        except LookupError as error:
            raise NotFound(f"{error.args[0]}.") from None
        return events_body(found)

    return Answer(with_usd(await call.console.ask(ask)))


async def issue_invoices(call: Call) -> Answer:
    """Close a month that is over and issue its invoices; a repeat changes nothing."""
    settings, body = call.console.settings, call.body
    period = month_of(body, now_ns())

    def act(ledger: Ledger) -> Ends:
        why = None if body.get("force") else unsettled(settings, ledger, period, now_ns())
        if why is not None:
            raise Conflict(f"Nothing was issued: {why}.")
        try:
            tenant = body.get("tenant")
            return issue_all(ledger, settings, period, tenant=tenant, now_ns=now_ns())
        except LookupError as error:
            raise NotFound(f"{error.args[0]}.") from None

    made = await call.console.ask(act)
    rows = [with_usd(invoice_row(each)) for each in made.issued.values()]
    numbers = [row["number"] for row in rows if row["is_new"]]
    answer = {"month": period, "issued": rows, "failed": dict(made.failed)}
    after = {"issued": numbers, "failed": dict(made.failed)}
    return Answer(answer, target=f"invoices/{period}", after=after)


async def correct_invoice(call: Call) -> Answer:
    """Issue it again with the names and addresses of today, under a number of its own."""
    settings, tenant = call.console.settings, call.path["tenant"]
    period, reason = month_of(call.path, now_ns()), call.body["reason"].strip()

    def act(ledger: Ledger) -> book.Issued:
        try:
            return book.correct(
                ledger, tenant, period, settings.invoicing, reason=reason, now_ns=now_ns()
            )
        except (book.NotIssuedError, book.NothingToCorrectError) as error:
            raise Conflict(f"{error.args[0]}.") from None

    row = with_usd(invoice_row(await call.console.ask(act)))
    after = {"number": row["number"], "corrects": row["corrects"], "reason": reason}
    return Answer(row, status=201, target=f"invoices/{tenant}/{period}", after=after)


_ONE = f"{BASE}/invoices/{{tenant}}/{{month}}"
_MONTH = {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}$"}

ROUTES = (
    Route(
        "GET",
        f"{BASE}/invoices",
        Role.VIEWER,
        list_invoices,
        summary="What was issued, in the order of its numbers",
        tag="invoices",
        query=(*PAGE, TENANT, replace(MONTH, about="Only of this UTC month, as `2026-11`")),
        answer=listed(),
    ),
    Route(
        "GET",
        _ONE,
        Role.VIEWER,
        show_invoice,
        summary="A month's invoice as JSON, CSV, FOCUS, HTML or PDF",
        tag="invoices",
        query=(
            Param("format", "json if left out", {"type": "string", "enum": list(TYPES)}),
            Param("simple", "Fewer details on HTML and PDF", {"type": "boolean"}),
        ),
    ),
    Route(
        "GET",
        f"{_ONE}/lines/{{line}}/events",
        Role.VIEWER,
        show_events,
        summary="The events that a line is made of",
        tag="invoices",
    ),
    Route(
        "POST",
        f"{BASE}/invoices/issue",
        Role.BILLING,
        issue_invoices,
        summary="Close a month and issue its invoices",
        tag="invoices",
        body={
            "type": "object",
            "additionalProperties": False,
            "required": ["month"],
            "properties": {
                "month": _MONTH,
                "tenant": {"type": "string", "maxLength": 64},
                "force": {"type": "boolean", "description": "Although something may be missing"},
            },
        },
        audit="invoice.issue",
    ),
    Route(
        "POST",
        f"{_ONE}/correct",
        Role.BILLING,
        correct_invoice,
        summary="Issue an invoice again with today's names and addresses",
        tag="invoices",
        body={
            "type": "object",
            "additionalProperties": False,
            "required": ["reason"],
            "properties": {"reason": REASON},
        },
        audit="invoice.correct",
    ),
)
