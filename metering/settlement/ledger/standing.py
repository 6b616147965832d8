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


def confirmed_spool(ledger: Ledger, proxy_ids: Iterable[str] | None = None) -> dict[str, str]:
    """By proxy id, the spool sequences in the ledger as ranges; of all proxies unless named."""
    table = tables.spool_confirmed
    query = select(table)
    if proxy_ids is not None:
        query = query.where(table.c.proxy_id.in_(list(proxy_ids)))
    with ledger.read() as connection:
        return {row.proxy_id: row.ranges for row in connection.execute(query)}


def price_bodies(ledger: Ledger, versions: Iterable[str]) -> dict[str, bytes]:
    """The canonical bodies of these price versions, as far as the ledger has them."""
    table = tables.price_body
    with ledger.read() as connection:
        rows = connection.execute(select(table).where(table.c.version.in_(list(versions)))).all()
    return {row.version: bytes(row.body) for row in rows}
