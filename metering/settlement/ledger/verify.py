"""`weir ledger verify`: whether the books still say what they said when they were written.

Recomputes from the rows alone: each shard's chain, each payload's hash and the columns taken from
it, each transaction's sum, the postings against the events, and the balances. Answers with
findings in words; none means that everything holds. Whatever a forger left in a row is a finding,
never a failure. Rows are streamed and findings bounded: memory grows with the tenants at most.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, case, func, inspect, literal, or_, select, text

from metering.events import decode
from metering.settlement.counting import user_scope
from metering.settlement.journal import Account
from metering.settlement.ledger import tables
from metering.settlement.ledger.admin_books import verify_audits
from metering.settlement.ledger.archive_tables import event_erasure
from metering.settlement.ledger.chain import GENESIS, link
from metering.settlement.ledger.faults import LedgerDamagedError
from metering.settlement.ledger.rows import COPIED, copied, decode_amounts
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.verify_archive import Moved, is_rest, verify_archive
from metering.settlement.ledger.verify_credits import verify_credits
from metering.settlement.ledger.verify_invoices import verify_invoices
from metering.settlement.ledger.verify_payments import verify_payments
from metering.settlement.ledger.verify_plans import verify_plans
from metering.settlement.ledger.verify_rerates import verify_rerates
from metering.settlement.ledger.verify_usage import verify_usage

FINDINGS_MAX = 1_000
"""Findings that are told; of a ledger that was changed all over, the rest is a number."""

_EVENT, _POSTING, _TXN = tables.usage_event.c, tables.posting.c, tables.txn.c
_FETCH = 1_000


@dataclass(slots=True)
class Examination:
    """What was looked at, and what does not hold."""

    shards: int = 0
    archived: int = 0
    """Events whose payload is in a file."""
    events: int = 0
    transactions: int = 0
    findings: list[str] = field(default_factory=list)
    more: int = 0
    """Findings beyond FINDINGS_MAX."""

    def find(self, text: str) -> None:
        """Note what does not hold."""
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(text)
        else:
            self.more += 1


def verify(ledger: Ledger) -> list[str]:
    """What does not hold, in words; an empty list when all does."""
    examination = examine(ledger)
    more = [f"and {examination.more} more"] if examination.more else []
    return examination.findings + more


def examine(ledger: Ledger, archive: Path | None = None) -> Examination:
    """Look at everything, in one consistent view. Others may go on writing meanwhile.

    With the folder of its archives, at what is in them, too.
    """
    found = Examination()
    try:
        with ledger.read() as connection:
            for finding in _examine(connection, found, archive):
                found.find(finding)
    except LedgerDamagedError as error:
        found.find(f"the database itself is damaged: {error.how}")
    return found


def _examine(connection: Connection, found: Examination, archive: Path | None) -> Iterator[str]:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL statement_timeout = 0"))
    else:
        yield from _examine_file(connection)
    found.transactions = connection.execute(
        select(func.count()).select_from(tables.txn)
    ).scalar_one()
    moved = Moved.of(connection) if _has_archive(connection) else Moved({})
    found.archived = sum(
        each["last_seq"] - each["first_seq"] + 1
        for held in moved.segments.values()
        for each in held
    )
    yield from _verify_chains(connection, found, moved)
    yield from _verify_sums(connection)
    yield from _verify_postings(connection)
    yield from _verify_balances(connection)
    yield from verify_plans(connection)
    yield from verify_rerates(connection)
    yield from verify_invoices(connection)
    yield from verify_payments(connection)
    yield from verify_credits(connection)
    yield from verify_usage(connection)
    yield from verify_audits(connection)
    if _has_archive(connection):
        yield from verify_archive(connection, moved, archive)


def _examine_file(connection: Connection) -> Iterator[str]:
    """SQLite's own check: also finds damage in indexes, which the questions below may not read."""
    for (said,) in connection.execute(text("PRAGMA integrity_check(20)")):
        if said != "ok":
            yield f"the database itself is damaged: {said}"


def _has_archive(connection: Connection) -> bool:
    """A ledger from before there were archives is read without being brought up to date."""
    return inspect(connection).has_table("archive_segment")


def _kept_hash(connection: Connection) -> Any:
    """By event, the hash of what an erasure left of it."""
    if not _has_archive(connection):
        return literal(None).label("kept_hash")
    query = select(event_erasure.c.kept_hash).where(event_erasure.c.event_id == _EVENT.event_id)
    return query.scalar_subquery().label("kept_hash")


def _verify_chains(connection: Connection, found: Examination, moved: Moved) -> Iterator[str]:
    heads = {row.shard: row for row in connection.execute(select(tables.watermark))}
    query = (
        select(tables.usage_event, _kept_hash(connection))
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
        yield from _verify_event(row, moved)
        ends[row.shard] = (row.seq, row.hash)
        found.events += 1
    for shard, end in ends.items():
        if shard not in heads or end != (heads[shard].events, heads[shard].chain_hash):
            yield f"shard {shard}: the chain does not end where its watermark says"
    found.shards = len(ends)


def _verify_event(row: Row[Any], moved: Moved) -> Iterator[str]:
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
    payload = row.payload
    digest = hashlib.sha256(payload).hexdigest() if type(payload) is bytes else None
    if digest != row.payload_hash and moved.holds(row.shard, row.seq) and is_rest(payload):
        yield from _verify_amounts(row, where)
        return
    if digest is None or digest not in (row.payload_hash, row.kept_hash):
        yield f"{where} has another payload than was received"
        return
    try:
        event = decode(payload)
    except (ValueError, TypeError) as error:
        yield f"{where} cannot be read: {error}"
        return
    if copied(row) != copied(event):
        for name in COPIED:
            if getattr(row, name) != getattr(event, name):
                yield f"{where}: column {name} is not what the payload says"
    if row.user_scope not in (None, user_scope(event)):  # None: booked before there was a column
        yield f"{where}: column user_scope is not what the payload says"
    if row.ttft_ms not in (None, event.ttft_ms):  # as above
        yield f"{where}: column ttft_ms is not what the payload says"
    yield from _verify_amounts(row, where)


def _verify_amounts(row: Row[Any], where: str) -> Iterator[str]:
    try:
        amounts = decode_amounts(row.amounts).values()
        totals = sum(each[2] for each in amounts), sum(each[3] for each in amounts)
    except (ValueError, TypeError, IndexError, KeyError) as error:
        yield f"{where} cannot be read: {error}"
        return
    if (row.sell_nano, row.cost_nano) != totals:
        yield f"{where}: its totals are not the sums of its units"


def _verify_sums(connection: Connection) -> Iterator[str]:
    off = func.sum(_POSTING.amount_nano)
    query = (
        select(_POSTING.txn_id, _POSTING.currency, off.label("off"))
        .group_by(_POSTING.txn_id, _POSTING.currency)
        .having(off != 0)
        .execution_options(yield_per=_FETCH)
    )
    for row in connection.execute(query):
        yield f"transaction {row.txn_id} is off by {int(row.off)} nano-{row.currency}"


def _verify_postings(connection: Connection) -> Iterator[str]:
    """Each usage transaction posts exactly what its events were rated at."""
    rated = (
        select(
            _EVENT.txn_id,
            func.count().label("events"),
            func.sum(_EVENT.sell_nano).label("sell"),
            func.sum(_EVENT.cost_nano).label("cost"),
        )
        .group_by(_EVENT.txn_id)
        .subquery()
    )
    posted = (
        select(
            _POSTING.txn_id,
            *(
                func.sum(case((_POSTING.account == account, _POSTING.amount_nano), else_=0)).label(
                    name
                )
                for name, account in (("sell", Account.RECEIVABLE), ("cost", Account.COGS))
            ),
        )
        .group_by(_POSTING.txn_id)
        .subquery()
    )
    wrong = or_(
        func.coalesce(rated.c.events, 0) != _TXN.events,
        func.coalesce(rated.c.sell, 0) != func.coalesce(posted.c.sell, 0),
        func.coalesce(rated.c.cost, 0) != func.coalesce(posted.c.cost, 0),
    )
    query = (
        select(_TXN.id)
        .outerjoin(rated, rated.c.txn_id == _TXN.id)
        .outerjoin(posted, posted.c.txn_id == _TXN.id)
        .where(_TXN.kind == "usage", wrong)
        .order_by(_TXN.id)
        .execution_options(yield_per=_FETCH)
    )
    for txn_id in connection.execute(query).scalars():
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
