"""Invoices in the ledger: a month's statement with a number and an address, kept as it was sent.

Rules: an invoice is issued once for a tenant and month, after the month is closed, and never
written again; a repeat answers what was issued. What is wrong in its words is put right by a
correction with a number of its own, over the same statement; what is wrong in its amounts by lines
of a later month. Numbers are counted in the transaction that stores them, so there is no gap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
from sqlalchemy import Connection, func, inspect, select

from metering.invoice_settings import Invoicing, Party, has_seq, number_of
from metering.settlement.documents import (
    FINAL,
    Applied,
    Heading,
    document_bytes,
    make_document,
    reworded,
    says_the_same,
    status_of,
)
from metering.settlement.invoices import period_bounds_ns
from metering.settlement.ledger import tables
from metering.settlement.ledger.credit_closing import Settling
from metering.settlement.ledger.invoice_credits import credits_of
from metering.settlement.ledger.invoice_tables import invoice
from metering.settlement.ledger.plan_books import (
    Terms,
    close_month,
    closed_statement,
    settling,
    statement_of,
)
from metering.settlement.ledger.store import Ledger, insert_rows
from metering.settlement.ledger.unpriced import terms_in, unpriced_of
from metering.settlement.statements import sha256_of

_EVENT = tables.usage_event.c
_TABLE = invoice.c


class NotIssuedError(LookupError):
    """There is no invoice to correct."""


class NothingToCorrectError(Exception):
    """A correction would say what the invoice says already."""


@dataclass(frozen=True, slots=True)
class Issued:
    """An invoice as it was stored; `is_new` when this issued it."""

    number: str
    document: dict[str, Any]
    body: bytes
    sha256: str
    issued_at: int
    is_new: bool = False


def knows_invoices(ledger: Ledger) -> bool:
    """Whether the ledger has the table of this module: the worker brings it up to date."""
    with ledger.read() as connection:
        return inspect(connection).has_table(invoice.name)


def issued(
    ledger: Ledger, tenant: str, period: str, correction: int | None = None
) -> Issued | None:
    """The invoice that was issued for a month: its newest correction, unless one is named."""
    with ledger.read() as connection:
        found = _issued(connection, tenant, period)
    return next((each for each in found if correction in (None, each.document["correction"])), None)


def all_issued(
    ledger: Ledger, *, tenant: str | None = None, period: str | None = None
) -> list[Issued]:
    """Every invoice in the order of their issue."""
    query = select(invoice).order_by(_TABLE.seq)
    if tenant is not None:
        query = query.where(_TABLE.tenant == tenant)
    if period is not None:
        query = query.where(_TABLE.period == period)
    with ledger.read() as connection:
        return [_read(row) for row in connection.execute(query)]


def tenants_to_bill(ledger: Ledger, period: str, assigned: Iterable[str]) -> list[str]:
    """Who has a plan, usage in the month, or a statement: who of these is owed an invoice, `issue`
    decides."""
    start_ns, end_ns = period_bounds_ns(period)
    used = (
        select(_EVENT.tenant)
        .where(_EVENT.occurred_at >= start_ns, _EVENT.occurred_at < end_ns)
        .where(_EVENT.billable.is_(True))
        .distinct()
    )
    with ledger.read() as connection:
        found = set(connection.execute(used).scalars())
        found |= set(
            connection.execute(select(tables.plan_statement.c.tenant).distinct()).scalars()
        )
    return sorted(found | set(assigned))


def is_owed(ledger: Ledger, tenant: str, period: str, terms: Terms) -> bool:
    """Whether there is a line, or a plan under which none is a statement, too."""
    if closed_statement(ledger, tenant, period) is not None:
        return True
    statement = statement_of(ledger, tenant, period, terms)
    return bool(statement.charged) or any(term.plan for term in statement.terms)


def draft(
    ledger: Ledger, tenant: str, period: str, terms: Terms, invoicing: Invoicing, *, now_ns: int
) -> dict[str, Any]:
    """The document of a month that is not invoiced yet, as it would be now; nothing is written."""
    status = status_of(period, now_ns, issued=False)
    closed = closed_statement(ledger, tenant, period)
    body = closed.body if closed else statement_of(ledger, tenant, period, terms).body()
    ahead = None if closed else settling(ledger, body)
    heading = _heading(tenant, invoicing, status)
    with ledger.read() as connection:
        return _document(connection, body, terms, heading, ahead=ahead)


def issue(
    ledger: Ledger, tenant: str, period: str, terms: Terms, invoicing: Invoicing, *, now_ns: int
) -> Issued | None:
    """Close the month and issue its invoice. A repeat changes nothing.

    None for a tenant without a plan that has nothing to pay for. Errors as `close_month`.
    """
    if (known := issued(ledger, tenant, period)) is not None:
        return known
    if not is_owed(ledger, tenant, period, terms):
        return None
    closed = close_month(ledger, tenant, period, terms, now_ns=now_ns)
    heading = replace(_heading(tenant, invoicing, FINAL), issued_at=now_ns)
    with ledger.write() as connection:
        seq = _next(connection)
        if found := _issued(connection, tenant, period):
            return found[0]
        number = number_of(invoicing.number_format, tenant=tenant, period=period, seq=seq)
        document = _document(connection, closed.body, terms, replace(heading, number=number))
        return _store(connection, document, seq, now_ns)


def correct(
    ledger: Ledger, tenant: str, period: str, invoicing: Invoicing, *, reason: str, now_ns: int
) -> Issued:
    """Issue the invoice again with the names and addresses of today; its lines stay.

    NotIssuedError, and NothingToCorrectError when no name, address or footer has changed.
    """
    with ledger.write() as connection:
        seq = _next(connection)
        found = _issued(connection, tenant, period)
        if not found:
            raise NotIssuedError(f"no invoice of {tenant} for {period} was issued")
        first, last = found[-1], found[0]
        count = last.document["correction"] + 1
        heading = replace(
            _heading(tenant, invoicing, FINAL),
            issued_at=now_ns,
            number=_correction_number(first, invoicing.number_format, count=count, seq=seq),
            correction=count,
            corrects=last.number,
            reason=reason,
        )
        made = reworded(first.document, heading)
        if says_the_same(last.document, made):
            raise NothingToCorrectError(
                f"{last.number} says already what the configuration says: "
                "change `invoices` or the tenant's `billing` first"
            )
        return _store(connection, made, seq, now_ns)


def _correction_number(first: Issued, number_format: str, *, count: int, seq: int) -> str:
    """A number of its own where numbers count, since a suffix would use one up unseen: a gap."""
    if not has_seq(number_format):
        return f"{first.number}-C{count}"
    tenant, period = first.document["tenant"], first.document["period"]
    return number_of(number_format, tenant=tenant, period=period, seq=seq)


def _heading(tenant: str, invoicing: Invoicing, status: str) -> Heading:
    return Heading(
        issuer=invoicing.issuer,
        customer=invoicing.customers.get(tenant, Party(tenant)),
        status=status,
        due_days=invoicing.due_days,
        footer=invoicing.footer,
    )


def _document(
    connection: Connection,
    body: Mapping[str, Any],
    terms: Terms,
    heading: Heading,
    *,
    ahead: Settling | None = None,
) -> dict[str, Any]:
    tenant, period = body["tenant"], body["period"]
    unpriced = unpriced_of(connection, tenant, period, terms_in(connection, body, terms))
    applied = credits_left(connection, tenant, period, ahead=ahead)
    return make_document(body, heading, applied=applied, unpriced=unpriced)


def credits_left(
    connection: Connection, tenant: str, period: str, *, ahead: Settling | None = None
) -> list[Applied]:
    """What grants have paid through that month, less what invoices said of it."""
    said: dict[str, int] = {}
    for (body,) in connection.execute(
        select(_TABLE.body).where(_TABLE.tenant == tenant, _TABLE.correction == 0)
    ):
        for each in orjson.loads(bytes(body))["credits"]:
            said[each["grant"]] = said.get(each["grant"], 0) + each["amount_nano"]
    left = [
        replace(each, amount_nano=each.amount_nano - said.get(each.grant, 0))
        for each in credits_of(connection, tenant, period, ahead=ahead)
    ]
    return [each for each in left if each.amount_nano]


def _next(connection: Connection) -> int:
    """The next number of all, with everybody else kept from taking one."""
    mark = tables.watermark
    connection.execute(select(mark.c.shard).order_by(mark.c.shard).with_for_update()).all()
    return int(connection.execute(select(func.coalesce(func.max(_TABLE.seq), 0))).scalar_one()) + 1


def _issued(connection: Connection, tenant: str, period: str) -> Sequence[Issued]:
    """The invoice and its corrections, the newest first."""
    query = (
        select(invoice)
        .where(_TABLE.tenant == tenant, _TABLE.period == period)
        .order_by(_TABLE.correction.desc())
    )
    return [_read(row) for row in connection.execute(query)]


def _read(row: Any) -> Issued:
    body = bytes(row.body)
    return Issued(row.number, orjson.loads(body), body, row.sha256, row.issued_at)


def _store(connection: Connection, document: dict[str, Any], seq: int, now_ns: int) -> Issued:
    body = document_bytes(document)
    made = Issued(document["number"], document, body, sha256_of(body), now_ns, is_new=True)
    row = {
        "tenant": document["tenant"],
        "period": document["period"],
        "correction": document["correction"],
        "seq": seq,
        "number": made.number,
        "body": body,
        "sha256": made.sha256,
        "issued_at": now_ns,
    }
    insert_rows(connection, invoice, [row])
    return made
