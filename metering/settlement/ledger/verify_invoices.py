"""Invoices against the statements they are of: a part of `weir ledger verify`.

Recomputes what can be from the rows alone: that an invoice hashes to its name, stands where it says
it does, has the lines and the total of the closed statement, and that numbers and corrections have
no gap.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from sqlalchemy import Connection, Row, inspect, select

from metering.settlement.documents import due_of
from metering.settlement.ledger import tables
from metering.settlement.ledger.invoice_tables import invoice
from metering.settlement.statements import sha256_of

_FETCH = 1_000


def verify_invoices(connection: Connection) -> Iterator[str]:
    """What does not hold, in words. A ledger from before there were invoices has nothing to say."""
    if not inspect(connection).has_table(invoice.name):
        return
    expected = 1
    corrections: dict[tuple[str, str], int] = {}
    query = select(invoice).order_by(invoice.c.seq).execution_options(yield_per=_FETCH)
    for row in connection.execute(query).all():
        if row.seq != expected:
            yield f"invoice {row.number} is the {row.seq}. of the ledger, expected {expected}"
        expected = row.seq + 1
        place = row.tenant, row.period
        wanted = corrections.get(place, 0)
        if row.correction != wanted:
            yield f"invoice {row.number} is correction {row.correction}, expected {wanted}"
        corrections[place] = row.correction + 1
        yield from _verify_one(connection, row)


def _verify_one(connection: Connection, row: Row[Any]) -> Iterator[str]:
    where = f"invoice {row.number}"
    data = bytes(row.body)
    if sha256_of(data) != row.sha256:
        yield f"{where} does not hash to its name"
    try:
        document = orjson.loads(data)
        place = document["tenant"], document["period"], document["correction"], document["number"]
        yield from _verify_sums(where, document)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        yield f"{where} cannot be read: {error}"
        return
    if place != (row.tenant, row.period, row.correction, row.number):
        yield f"{where} is that of {' '.join(map(str, place))}"
    table = tables.plan_statement
    query = select(table).where(table.c.tenant == row.tenant, table.c.period == row.period)
    statement = connection.execute(query).first()
    if statement is None:
        yield f"{where}: the month is not closed"
    elif statement.sha256 != document["digests"]["statement"]:
        yield f"{where} is of another statement than that of {row.tenant} {row.period}"
    elif not _has_lines(document, bytes(statement.body)):
        yield f"{where} has other lines than the statement of {row.tenant} {row.period}"


def _verify_sums(where: str, document: Mapping[str, Any]) -> Iterator[str]:
    lines = sum(line["amount_nano"] for line in document["lines"])
    if lines != document["total_nano"]:
        total = document["total_nano"]
        yield f"{where}: its lines come to {lines} nano-USD, its total is {total}"
    applied = sum(each["amount_nano"] for each in document["credits"])
    due = due_of(document["total_nano"], applied)
    if (applied, due) != (document["credits_nano"], document["due"]):
        yield f"{where}: {due} USD are due after its credits, it says {document['due']}"


def _has_lines(document: Mapping[str, Any], statement: bytes) -> bool:
    try:
        wanted = orjson.loads(statement)["lines"]
    except (ValueError, KeyError, TypeError):
        return True  # `verify_plans` has told of it
    copied = [
        {name: value for name, value in line.items() if name != "line"}
        for line in document["lines"]
    ]
    return bool(wanted == copied)
