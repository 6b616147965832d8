"""One batch into the ledger, in one database transaction: all of it, or nothing.

Order inside: lock the shards' watermarks, find out what is new, write transactions and postings,
then the events that refer to them (chained), then balances, reports and the watermark. The caller
acknowledges only after this has returned.

Writers at the same time: a tenant belongs to one shard, so that the lock on a shard's watermark
also keeps balances apart; rows that shards share (prices) are written in one order, so that nobody
waits in a circle.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict, replace
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, select, update

from metering.events import Kind
from metering.seq_ranges import SeqRanges
from metering.settlement.batches import (
    Batch,
    BatchReport,
    Booking,
    Difference,
    Sorted,
    confirmed_sequences,
    differences,
    sort_bookings,
)
from metering.settlement.journal import usage_transaction
from metering.settlement.ledger import tables
from metering.settlement.ledger.chain import GENESIS
from metering.settlement.ledger.dead_letters import keep_dead_letters
from metering.settlement.ledger.exchanges import incomplete_exchanges, reversals_due
from metering.settlement.ledger.outbox import put_alerts
from metering.settlement.ledger.posted import post
from metering.settlement.ledger.rows import COLUMNS, HASH, event_values
from metering.settlement.ledger.store import (
    Ledger,
    insert_values,
    keep_rows,
)
from metering.settlement.rating import RatedEvent

_ADVANCE = update(tables.watermark).where(tables.watermark.c.shard == bindparam("of_shard"))


def write_batch(
    ledger: Ledger, batch: Batch, *, prices: Mapping[str, bytes], now_ns: int
) -> BatchReport:
    """Settle a batch and say what became of it. `prices` are bodies the ledger has not kept yet."""
    found = {booking.arrival.entry.shard for booking in batch.bookings}
    shards = sorted(found | {malformed.entry.shard for malformed in batch.malformed})
    while (report := _write(ledger, batch, shards, prices=prices, now_ns=now_ns)) is None:
        _make_watermarks(ledger, shards, now_ns)
    return report


def _write(
    ledger: Ledger,
    batch: Batch,
    shards: Sequence[int],
    *,
    prices: Mapping[str, bytes],
    now_ns: int,
) -> BatchReport | None:
    """The transaction; None, and nothing done, when a shard has no watermark to be locked yet."""
    with ledger.write() as connection:
        heads = _lock_shards(connection, shards)
        if len(heads) < len(shards):
            return None
        known = _known_hashes(connection, [booking.event_id for booking in batch.bookings])
        found = sort_bookings(batch.bookings, known)
        reversals = reversals_due(connection, found.fresh)
        found = replace(found, fresh=found.fresh + reversals)
        _keep_prices(connection, prices, now_ns)
        txn_of = _post(connection, found.fresh, now_ns)
        _insert_events(connection, found.fresh, txn_of, heads, now_ns)
        incomplete = incomplete_exchanges(connection, batch.bookings)
        report = replace(_report(batch, found, incomplete), superseded=len(reversals))
        _keep_conflicts(connection, found, now_ns)
        keep_dead_letters(connection, batch.malformed, now_ns)
        _raise_alerts(connection, found, report.differences, now_ns)
        forgotten = _confirm_spool(connection, report.confirmed)
        _advance(connection, heads, batch, found, now_ns)
    return replace(report, ranges_forgotten=forgotten) if forgotten else report


def _report(batch: Batch, found: Sorted, incomplete: Set[str]) -> BatchReport:
    return BatchReport(
        settled=len(found.fresh),
        repeats=len(found.repeats),
        conflicts=len(found.conflicts),
        malformed=len(batch.malformed),
        unpriced=len(_unpriced(found)),
        sell_nano=sum(booking.rated.sell_nano for booking in found.fresh),
        cost_nano=sum(booking.rated.cost_nano for booking in found.fresh),
        differences=differences(found.fresh),
        confirmed=confirmed_sequences(
            (booking.arrival for booking in batch.bookings), incomplete=incomplete
        ),
    )


def _lock_shards(connection: Connection, shards: Sequence[int]) -> dict[int, dict[str, Any]]:
    """The watermark rows of these shards, as far as there are any; locked in one order.

    Holding the row is holding the shard's pen: whoever else has events for it waits here, and then
    reads what was committed meanwhile. SQLite has locked the whole database already.
    """
    query = (
        select(tables.watermark)
        .where(tables.watermark.c.shard.in_(shards))
        .order_by(tables.watermark.c.shard)
        .with_for_update()
    )
    return {row["shard"]: dict(row) for row in connection.execute(query).mappings()}


def _make_watermarks(ledger: Ledger, shards: Sequence[int], now_ns: int) -> None:
    """The first step of each shard, in a transaction of its own.

    Within the batch's it would hold some locks while it waits for others: a deadlock, when two
    workers see a new shard at once.
    """
    fresh = {
        "stream_ms": 0,
        "stream_n": 0,
        "occurred_at": 0,
        "events": 0,
        "chain_hash": GENESIS,
        "repeats": 0,
        "conflicts": 0,
        "dead_letters": 0,
        "updated_at": now_ns,
    }
    with ledger.write() as connection:
        rows = [{"shard": shard, **fresh} for shard in shards]
        keep_rows(connection, tables.watermark, rows)


_KNOWN_OF_ARRAY = "SELECT event_id, payload_hash FROM usage_event WHERE event_id = ANY(%s)"
_KNOWN_OF_JSON = (
    "SELECT event_id, payload_hash FROM usage_event "
    "WHERE event_id IN (SELECT value FROM json_each(?))"
)


def _known_hashes(connection: Connection, event_ids: Sequence[str]) -> dict[str, str]:
    """The hashes of the bodies that stand, of those of these events that are in the ledger.

    Straight to the driver, as in `insert_values`: SQLAlchemy takes longer for a thousand parameters
    than the database, and PostgreSQL takes an array in a third of the time.
    """
    if not event_ids:
        return {}
    if connection.dialect.name == "postgresql":
        found = connection.exec_driver_sql(_KNOWN_OF_ARRAY, (list(event_ids),))
    else:
        found = connection.exec_driver_sql(_KNOWN_OF_JSON, (orjson.dumps(event_ids).decode(),))
    return {row.event_id: row.payload_hash for row in found}


def _keep_prices(connection: Connection, prices: Mapping[str, bytes], now_ns: int) -> None:
    rows = [
        {"version": version, "body": body, "stored_at": now_ns}
        for version, body in sorted(prices.items())  # one order for all writers
    ]
    keep_rows(connection, tables.price_body, rows)


def _post(connection: Connection, fresh: Sequence[Booking], now_ns: int) -> dict[str, int]:
    """Book one transaction per tenant; the transaction's id by tenant."""
    by_tenant: dict[str, list[Booking]] = {}
    for booking in fresh:
        by_tenant.setdefault(booking.rated.event.tenant, []).append(booking)
    transactions = [
        usage_transaction(tenant, [booking.rated for booking in bookings])
        for tenant, bookings in sorted(by_tenant.items())  # one order of locks for all writers
    ]
    ids = post(connection, transactions, now_ns)
    return {transaction.tenant: txn_id for transaction, txn_id in ids.items()}


def _insert_events(
    connection: Connection,
    fresh: Sequence[Booking],
    txn_of: Mapping[str, int],
    heads: Mapping[int, dict[str, Any]],
    now_ns: int,
) -> None:
    """Append the events to their shards' chains; `heads` move along."""
    rows = []
    for booking in fresh:
        head = heads[booking.arrival.entry.shard]
        head["events"] += 1
        row = event_values(
            booking,
            txn_id=txn_of[booking.rated.event.tenant],
            seq=head["events"],
            prev_hash=head["chain_hash"],
            received_at=now_ns,
        )
        head["chain_hash"] = row[HASH]
        rows.append(row)
    insert_values(connection, tables.usage_event, COLUMNS, rows)


def _keep_conflicts(connection: Connection, found: Sorted, now_ns: int) -> None:
    rows = [
        {
            "event_id": booking.event_id,
            "payload_hash": booking.payload_hash,
            "kept_hash": kept_hash,
            "shard": booking.arrival.entry.shard,
            "stream_id": booking.arrival.entry.stream_id,
            "payload": booking.arrival.body,
            "received_at": now_ns,
        }
        for booking, kept_hash in found.conflicts
    ]
    keep_rows(connection, tables.event_conflict, rows)


def _unpriced(found: Sorted) -> list[RatedEvent]:
    """What is new and lacks a price; an adjustment has what its event had lacked."""
    return [
        booking.rated
        for booking in found.fresh
        if booking.rated.unpriced and booking.rated.event.kind != Kind.ADJUSTMENT
    ]


def _raise_alerts(
    connection: Connection, found: Sorted, differing: Iterable[Difference], now_ns: int
) -> None:
    alerts: list[tuple[str, dict[str, Any]]] = [
        (
            f"event_conflict:{booking.event_id}:{booking.payload_hash}",
            {"tenant": booking.rated.event.tenant, "kept_hash": kept_hash},
        )
        for booking, kept_hash in found.conflicts
    ]
    alerts += [
        (f"rating_difference:{difference.event_ids[0]}", asdict(difference))
        for difference in differing
    ]
    unpriced = _unpriced(found)
    for model in sorted({(rated.event.tenant, rated.event.model_upstream) for rated in unpriced}):
        ids = [
            rated.event.event_id
            for rated in unpriced
            if (rated.event.tenant, rated.event.model_upstream) == model
        ]
        alerts.append(
            (f"unpriced:{ids[0]}", {"tenant": model[0], "model": model[1], "events": len(ids)})
        )
    put_alerts(connection, alerts, now_ns)


def _confirm_spool(connection: Connection, confirmed: Mapping[str, Sequence[int]]) -> int:
    """Add these sequences to what is known of each proxy's spool; how many ranges were too many."""
    if not confirmed:
        return 0
    table, forgotten = tables.spool_confirmed, 0
    keep_rows(connection, table, [{"proxy_id": name, "ranges": ""} for name in sorted(confirmed)])
    query = (
        select(table)
        .where(table.c.proxy_id.in_(list(confirmed)))
        .order_by(table.c.proxy_id)  # one order of locks for all writers
        .with_for_update()
    )
    for row in connection.execute(query).all():
        merged = SeqRanges.parse(row.ranges) | SeqRanges.of(confirmed[row.proxy_id])
        kept = merged.newest()
        forgotten += len(merged.ranges) - len(kept.ranges)
        connection.execute(
            update(table).where(table.c.proxy_id == row.proxy_id).values(ranges=str(kept))
        )
    return forgotten


def _advance(
    connection: Connection,
    heads: Mapping[int, dict[str, Any]],
    batch: Batch,
    found: Sorted,
    now_ns: int,
) -> None:
    """Move the watermarks: never back, whatever order the entries came in."""
    for entry in [b.arrival.entry for b in batch.bookings] + [m.entry for m in batch.malformed]:
        head = heads[entry.shard]
        newest = max(entry.position, (head["stream_ms"], head["stream_n"]))
        head["stream_ms"], head["stream_n"] = newest
    for booking in found.fresh:
        head = heads[booking.arrival.entry.shard]
        head["occurred_at"] = max(head["occurred_at"], booking.rated.event.occurred_at)
    for booking in found.repeats:
        heads[booking.arrival.entry.shard]["repeats"] += 1
    for booking, _ in found.conflicts:
        heads[booking.arrival.entry.shard]["conflicts"] += 1
    for malformed in batch.malformed:
        heads[malformed.entry.shard]["dead_letters"] += 1
    moved = [{**head, "updated_at": now_ns, "of_shard": head["shard"]} for head in heads.values()]
    if moved:
        connection.execute(_ADVANCE, moved)
