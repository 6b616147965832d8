"""Statements against the books: a part of `weir ledger verify`.

Recomputes what can be from the rows alone: that terms and statements hash to their names, that the
lines of a statement sum to its total, and that what it says has to be booked was booked, once, and
nothing else in its name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
from sqlalchemy import Connection, Row, inspect, select

from metering.plans import read_plan
from metering.settlement.journal import Account
from metering.settlement.ledger import tables
from metering.settlement.statements import entries_of, sha256_of

_FETCH = 1_000
_TXN, _POSTING = tables.txn.c, tables.posting.c


def verify_plans(connection: Connection) -> Iterator[str]:
    """What does not hold, in words. A ledger from before there were plans has nothing to say."""
    if not inspect(connection).has_table(tables.plan_statement.name):
        return
    yield from _verify_versions(connection)
    booked = dict(_booked(connection))
    query = select(tables.plan_statement).execution_options(yield_per=_FETCH)
    for row in connection.execute(query):
        yield from _verify_statement(row, booked)
    for key in sorted(booked):
        yield f"transaction {key} is on no statement"


def _verify_versions(connection: Connection) -> Iterator[str]:
    for row in connection.execute(select(tables.plan_version)):
        try:
            plan = read_plan(bytes(row.body), version=row.version)
        except (ValueError, KeyError, TypeError) as error:
            yield f"plan version {row.version} cannot be read: {error}"
            continue
        if (plan.id, plan.effective_from.isoformat()) != (row.plan, row.effective_from):
            yield f"plan version {row.version} is not of the plan and day that it stands for"


def _booked(connection: Connection) -> Iterator[tuple[str, int]]:
    query = (
        select(_TXN.idem_key, _POSTING.amount_nano)
        .join_from(tables.txn, tables.posting, _POSTING.txn_id == _TXN.id)
        .where(_TXN.kind == "adjustment", _TXN.idem_key.like("plan:%"))
        .where(_POSTING.account == Account.RECEIVABLE)
    )
    for row in connection.execute(query):
        yield row.idem_key, int(row.amount_nano)


def _verify_statement(row: Row[Any], booked: dict[str, int]) -> Iterator[str]:
    """What is wrong with a statement; its transactions are taken out of `booked`."""
    where = f"statement {row.tenant} {row.period}"
    data = bytes(row.body)
    if sha256_of(data) != row.sha256:
        yield f"{where} does not hash to its name"
    try:
        body = orjson.loads(data)
        lines = sum(line["amount_nano"] for line in body["lines"])
        entries = entries_of(body)
        total, place = body["total_nano"], (body["tenant"], body["period"])
    except (ValueError, KeyError, TypeError) as error:
        yield f"{where} cannot be read: {error}"
        return
    if place != (row.tenant, row.period):
        yield f"{where} is that of {' '.join(place)}"
    if lines != total:
        yield f"{where}: its lines come to {lines} nano-USD, its total is {total}"
    for key, amount in entries.items():
        if booked.pop(key, None) != amount:
            yield f"{where}: {key} is not booked with {amount} nano-USD"
