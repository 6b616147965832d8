"""Where the ledger stands: what the worker asks it before and between batches. Reads only."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select

from metering.settlement.ledger import tables
from metering.settlement.ledger.store import Ledger


def settled_positions(ledger: Ledger) -> dict[int, tuple[int, int]]:
    """By shard, the newest stream id that is settled, as its two halves."""
    with ledger.read() as connection:
        rows = connection.execute(select(tables.watermark)).all()
    return {row.shard: (row.stream_ms, row.stream_n) for row in rows}


def confirmed_spool(ledger: Ledger, shards: Iterable[int]) -> dict[tuple[int, str], int]:
    """By (shard, proxy id), the highest spool sequence in the ledger."""
    table = tables.spool_confirmed
    with ledger.read() as connection:
        rows = connection.execute(select(table).where(table.c.shard.in_(list(shards)))).all()
    return {(row.shard, row.proxy_id): row.seq for row in rows}


def price_bodies(ledger: Ledger, versions: Iterable[str]) -> dict[str, bytes]:
    """The canonical bodies of these price versions, as far as the ledger has them."""
    table = tables.price_body
    with ledger.read() as connection:
        rows = connection.execute(select(table).where(table.c.version.in_(list(versions)))).all()
    return {row.version: bytes(row.body) for row in rows}
