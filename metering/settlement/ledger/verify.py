"""`weir ledger verify`: whether the books still say what they said when they were written.

Recomputes from the rows alone: each shard's chain, each payload's hash and the columns taken from
it, each transaction's sum, the postings against the events, and the balances. Answers with
findings in words; none means that everything holds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Row, func, select

from metering.events import decode
from metering.settlement.journal import Account
from metering.settlement.ledger import tables
from metering.settlement.ledger.chain import GENESIS, link
from metering.settlement.ledger.rows import COPIED, decode_amounts
from metering.settlement.ledger.store import Ledger

_EVENT, _POSTING = tables.usage_event.c, tables.posting.c
_FETCH = 1_000


def verify(ledger: Ledger) -> list[str]:
    """What does not hold, in words; an empty list when all does."""
    with ledger.read() as connection:
        return [
            *_verify_chains(connection),
            *_verify_sums(connection),
            *_verify_postings(connection),
            *_verify_balances(connection),
        ]


def _verify_chains(connection: Connection) -> Iterator[str]:
    heads = {row.shard: row for row in connection.execute(select(tables.watermark))}
    query = (
        select(tables.usage_event)
        .order_by(_EVENT.shard, _EVENT.seq)
        .execution_options(yield_per=_FETCH)
    )
    ends: dict[int, tuple[int, str]] = dict.fromkeys(heads, (0, GENESIS))
    for row in connection.execute(query):
        seq, prev_hash = ends.get(row.shard, (0, GENESIS))
        if row.seq != seq + 1:
            yield f"shard {row.shard}: event {seq + 1} of the chain is missing"
        if row.prev_hash != prev_hash:
            yield f"shard {row.shard}: event {row.seq} does not follow the one before it"
        yield from _verify_event(row)
        ends[row.shard] = (row.seq, row.hash)
    for shard, end in ends.items():
        if shard not in heads or end != (heads[shard].events, heads[shard].chain_hash):
            yield f"shard {shard}: the chain does not end where its watermark says"


def _verify_event(row: Row[Any]) -> Iterator[str]:
    where = f"shard {row.shard}: event {row.seq} ({row.event_id})"
    expected = link(
        row.prev_hash,
        shard=row.shard,
        seq=row.seq,
        event_id=row.event_id,
        payload_hash=row.payload_hash,
        txn_id=row.txn_id,
        amounts=row.amounts,
    )
    if row.hash != expected:
        yield f"{where} does not hash to its link"
    if hashlib.sha256(row.payload).hexdigest() != row.payload_hash:
        yield f"{where} has another payload than was received"
        return
    event = decode(row.payload)
    for name in COPIED:
        if getattr(row, name) != getattr(event, name):
            yield f"{where}: column {name} is not what the payload says"
    amounts = decode_amounts(row.amounts).values()
    if (row.sell_nano, row.cost_nano) != (sum(a[2] for a in amounts), sum(a[3] for a in amounts)):
        yield f"{where}: its totals are not the sums of its units"


def _verify_sums(connection: Connection) -> Iterator[str]:
    query = (
        select(_POSTING.txn_id, _POSTING.currency, func.sum(_POSTING.amount_nano).label("off"))
        .group_by(_POSTING.txn_id, _POSTING.currency)
        .having(func.sum(_POSTING.amount_nano) != 0)
    )
    for row in connection.execute(query):
        yield f"transaction {row.txn_id} is off by {row.off} nano-{row.currency}"


def _verify_postings(connection: Connection) -> Iterator[str]:
    """Each usage transaction posts exactly what its events were rated at."""
    rated = {
        row.txn_id: (int(row.sell), int(row.cost))
        for row in connection.execute(
            select(
                _EVENT.txn_id,
                func.sum(_EVENT.sell_nano).label("sell"),
                func.sum(_EVENT.cost_nano).label("cost"),
            ).group_by(_EVENT.txn_id)
        )
    }
    posted: dict[tuple[int, str], int] = {
        (row.txn_id, row.account): int(row.amount_nano)
        for row in connection.execute(
            select(_POSTING.txn_id, _POSTING.account, _POSTING.amount_nano)
        )
    }
    usage = select(tables.txn.c.id).where(tables.txn.c.kind == "usage")
    for txn_id in connection.execute(usage).scalars():
        sides = (
            posted.get((txn_id, Account.RECEIVABLE), 0),
            posted.get((txn_id, Account.COGS), 0),
        )
        if rated.get(txn_id) != sides:
            yield f"transaction {txn_id} does not post what its events come to"


def _verify_balances(connection: Connection) -> Iterator[str]:
    key = (_POSTING.tenant, _POSTING.account, _POSTING.currency)
    sums = {
        tuple(row)[:3]: int(row[3])
        for row in connection.execute(select(*key, func.sum(_POSTING.amount_nano)).group_by(*key))
    }
    kept = {
        (row.tenant, row.account, row.currency): row.amount_nano
        for row in connection.execute(select(tables.balance))
    }
    for place in sorted(sums.keys() | kept.keys()):
        if sums.get(place, 0) != kept.get(place, 0):
            yield f"balance {'/'.join(place)} is not the sum of its postings"
