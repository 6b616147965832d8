"""Transactions into the ledger: their ids, their rows, their postings, and the balances.

Whoever posts holds the lock on the watermarks of the shards that the tenants belong to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, func, select, text

from metering.settlement.journal import Transaction
from metering.settlement.ledger import tables
from metering.settlement.ledger.store import add_rows, insert_rows


def post(
    connection: Connection, transactions: Sequence[Transaction], now_ns: int
) -> dict[Transaction, int]:
    """Book these; their ids. One that is booked already fails on its `idem_key`."""
    ids = dict(zip(transactions, _allocate(connection, len(transactions)), strict=True))
    insert_rows(
        connection,
        tables.txn,
        [
            {
                "id": txn_id,
                "tenant": transaction.tenant,
                "kind": transaction.kind,
                "idem_key": transaction.idem_key,
                "events": transaction.events,
                "booked_at": now_ns,
            }
            for transaction, txn_id in ids.items()
        ],
    )
    _insert_postings(connection, ids)
    return ids


def _insert_postings(connection: Connection, ids: Mapping[Transaction, int]) -> None:
    rows: list[dict[str, Any]] = [
        {
            "txn_id": txn_id,
            "seq": seq,
            "tenant": transaction.tenant,
            "account": posting.account,
            "currency": posting.currency,
            "amount_nano": posting.amount_nano,
        }
        for transaction, txn_id in ids.items()
        for seq, posting in enumerate(transaction.postings, start=1)
    ]
    insert_rows(connection, tables.posting, rows)
    moved: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in rows:  # one statement changes a balance once
        place = (row["tenant"], row["account"], row["currency"])
        names = ("tenant", "account", "currency", "amount_nano")
        if place in moved:
            moved[place]["amount_nano"] += row["amount_nano"]
        else:
            moved[place] = {**{name: row[name] for name in names}, "version": 1}
    balances = list(moved.values())
    add_rows(connection, tables.balance, balances, measures=("amount_nano", "version"))


def _allocate(connection: Connection, count: int) -> list[int]:
    """The ids of the next transactions; before the insert, because events refer to them."""
    if connection.dialect.name == "sqlite":  # the write lock is held: nobody else counts
        last = connection.execute(select(func.max(tables.txn.c.id))).scalar() or 0
        return [last + n for n in range(1, count + 1)]
    query = text(
        "SELECT nextval(pg_get_serial_sequence('txn', 'id')) FROM generate_series(1, :count)"
    )
    return [int(row[0]) for row in connection.execute(query, {"count": count})]
