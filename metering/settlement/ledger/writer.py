"""One batch into the ledger, in one database transaction: all of it, or nothing.

Order inside: lock the shards' watermarks, find out what is new, write transactions and postings,
then the events that refer to them (chained), then balances, reports and the watermark. The caller
acknowledges only after this has returned.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import orjson
from sqlalchemy import Connection, func, select, text, update

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
from metering.settlement.entries import Malformed
from metering.settlement.journal import Transaction, usage_transaction
from metering.settlement.ledger import tables
from metering.settlement.ledger.chain import GENESIS
from metering.settlement.ledger.rows import event_row
from metering.settlement.ledger.store import (
    Ledger,
    add_rows,
    insert_rows,
    insert_wide_rows,
    keep_rows,
)

ALERT = "alert"
"""The outbox topic of what a person should look at."""


def write_batch(
    ledger: Ledger, batch: Batch, *, prices: Mapping[str, bytes], now_ns: int
) -> BatchReport:
    """Settle a batch and say what became of it. `prices` are bodies the ledger has not kept yet."""
    shards = {booking.arrival.entry.shard for booking in batch.bookings}
    shards |= {malformed.entry.shard for malformed in batch.malformed}
    with ledger.write() as connection:
        heads = _lock_shards(connection, sorted(shards), now_ns)
        known = _known_hashes(connection, {booking.event_id for booking in batch.bookings})
        found = sort_bookings(batch.bookings, known)
        report = _report(batch, found)
        _keep_prices(connection, prices, now_ns)
        txn_of = _post(connection, found.fresh, now_ns)
        _insert_events(connection, found.fresh, txn_of, heads, now_ns)
        _keep_conflicts(connection, found, now_ns)
        _keep_dead_letters(connection, batch.malformed, now_ns)
        _raise_alerts(connection, found, report.differences, now_ns)
        forgotten = _confirm_spool(connection, report.confirmed)
        _advance(connection, heads, batch, found, now_ns)
    return replace(report, ranges_forgotten=forgotten) if forgotten else report


def _report(batch: Batch, found: Sorted) -> BatchReport:
    return BatchReport(
        settled=len(found.fresh),
        repeats=len(found.repeats),
        conflicts=len(found.conflicts),
        malformed=len(batch.malformed),
        unpriced=sum(1 for booking in found.fresh if booking.rated.unpriced),
        sell_nano=sum(booking.rated.sell_nano for booking in found.fresh),
        cost_nano=sum(booking.rated.cost_nano for booking in found.fresh),
        differences=differences(found.fresh),
        confirmed=confirmed_sequences(booking.arrival for booking in batch.bookings),
    )


def _lock_shards(
    connection: Connection, shards: Sequence[int], now_ns: int
) -> dict[int, dict[str, Any]]:
    """The watermark rows of these shards, made where missing. The lock is the shard's writer's."""
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
    query = (
        select(tables.watermark)
        .where(tables.watermark.c.shard.in_(shards))
        .order_by(tables.watermark.c.shard)
        .with_for_update()  # SQLite has locked the whole database already
    )
    heads = {row["shard"]: dict(row) for row in connection.execute(query).mappings()}
    missing = [shard for shard in shards if shard not in heads]
    if missing:
        rows = [{"shard": shard, **fresh} for shard in missing]
        keep_rows(connection, tables.watermark, rows)
        heads = {row["shard"]: dict(row) for row in connection.execute(query).mappings()}
    return heads


def _known_hashes(connection: Connection, event_ids: set[str]) -> dict[str, str]:
    event = tables.usage_event.c
    query = select(event.event_id, event.payload_hash).where(event.event_id.in_(event_ids))
    return {row.event_id: row.payload_hash for row in connection.execute(query)}


def _keep_prices(connection: Connection, prices: Mapping[str, bytes], now_ns: int) -> None:
    rows = [
        {"version": version, "body": body, "stored_at": now_ns} for version, body in prices.items()
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
    return {transaction.tenant: txn_id for transaction, txn_id in ids.items()}


def _insert_postings(connection: Connection, ids: Mapping[Transaction, int]) -> None:
    rows = [
        {"txn_id": txn_id, "seq": seq, "tenant": transaction.tenant, **asdict(posting)}
        for transaction, txn_id in ids.items()
        for seq, posting in enumerate(transaction.postings, start=1)
    ]
    insert_rows(connection, tables.posting, rows)
    names = ("tenant", "account", "currency", "amount_nano")
    moved = [{**{name: row[name] for name in names}, "version": 1} for row in rows]
    add_rows(connection, tables.balance, moved, measures=("amount_nano", "version"))


def _allocate(connection: Connection, count: int) -> list[int]:
    """The ids of the next transactions; before the insert, because events refer to them."""
    if connection.dialect.name == "sqlite":  # the write lock is held: nobody else counts
        last = connection.execute(select(func.max(tables.txn.c.id))).scalar() or 0
        return [last + n for n in range(1, count + 1)]
    query = text(
        "SELECT nextval(pg_get_serial_sequence('txn', 'id')) FROM generate_series(1, :count)"
    )
    return [int(row[0]) for row in connection.execute(query, {"count": count})]


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
        row = event_row(
            booking,
            txn_id=txn_of[booking.rated.event.tenant],
            seq=head["events"] + 1,
            prev_hash=head["chain_hash"],
            received_at=now_ns,
        )
        head["events"], head["chain_hash"] = row["seq"], row["hash"]
        rows.append(row)
    insert_wide_rows(connection, tables.usage_event, rows)


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


def _keep_dead_letters(connection: Connection, dead: Sequence[Malformed], now_ns: int) -> None:
    rows = [
        {
            "shard": malformed.entry.shard,
            "stream_id": malformed.entry.stream_id,
            "raw_hash": hashlib.sha256(malformed.entry.body or b"").hexdigest(),
            "raw": malformed.entry.body or b"",
            "reason": malformed.reason,
            "received_at": now_ns,
        }
        for malformed in dead
    ]
    keep_rows(connection, tables.dead_letter, rows)
    _alert(
        connection,
        (
            (f"dead_letter:{row['shard']}:{row['stream_id']}", {"reason": row["reason"]})
            for row in rows
        ),
        now_ns,
    )


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
    unpriced = [booking.rated for booking in found.fresh if booking.rated.unpriced]
    for model in sorted({(rated.event.tenant, rated.event.model_upstream) for rated in unpriced}):
        ids = [
            rated.event.event_id
            for rated in unpriced
            if (rated.event.tenant, rated.event.model_upstream) == model
        ]
        alerts.append(
            (f"unpriced:{ids[0]}", {"tenant": model[0], "model": model[1], "events": len(ids)})
        )
    _alert(connection, alerts, now_ns)


def _alert(
    connection: Connection, alerts: Iterable[tuple[str, Mapping[str, Any]]], now_ns: int
) -> None:
    rows = [
        {
            "topic": ALERT,
            "key": key,
            "body": orjson.dumps({"kind": key.partition(":")[0], **body}).decode(),
            "state": "new",
            "attempts": 0,
            "next_at": now_ns,
            "created_at": now_ns,
        }
        for key, body in alerts
    ]
    keep_rows(connection, tables.outbox, rows)


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
    for shard, head in heads.items():
        values = {**head, "updated_at": now_ns}
        connection.execute(
            update(tables.watermark).where(tables.watermark.c.shard == shard).values(values)
        )
