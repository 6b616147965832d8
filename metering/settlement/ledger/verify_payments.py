"""Payments against the books: a part of `weir ledger verify`.

Each step of a payment has its grant or its entry, of the same amount and for the same tenant, and
every grant that came of a payment has its step.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, inspect, select

from metering.settlement.ledger import tables
from metering.settlement.ledger.credit_tables import credit_grant, grant_entry
from metering.settlement.ledger.payment_tables import payment, payment_item
from metering.settlement.payments import GIVES, State, Step

_KEYS = {
    Step.REFUNDED: "take:refund:stripe:",
    Step.DISPUTED: "take:dispute:stripe:",
    Step.REFUND_FAILED: "again:stripe:",
    Step.DISPUTE_WON: "again:stripe:",
}
"""What the transaction of a step is called, before the id."""


def verify_payments(connection: Connection) -> Iterator[str]:
    """What does not hold, in words. A ledger from before there were payments has nothing to say."""
    if not inspect(connection).has_table(payment_item.name):
        return
    grants = {row.id: row for row in connection.execute(select(credit_grant))}
    entries = dict(_entries(connection))
    paid: set[str] = set()
    for row in connection.execute(select(payment_item).order_by(payment_item.c.id)):
        where = f"payment {row.payment_id}: step {row.step} of {row.id}"
        step = Step(row.step)
        if step is Step.PAID:
            paid.add(row.grant_id)
            grant = grants.get(row.grant_id)
            if grant is None or (grant.tenant, grant.amount_nano) != (row.tenant, row.amount_nano):
                yield f"{where} has no grant of {row.amount_nano} nano-USD for {row.tenant}"
            continue
        wanted = row.amount_nano if step in GIVES else -row.amount_nano
        if entries.pop(f"{_KEYS[step]}{row.id}", 0) != wanted:
            yield f"{where} is not booked with {row.amount_nano} nano-USD"
    for grant_id, grant in sorted(grants.items()):
        if grant.source == "stripe" and grant_id not in paid:
            yield f"grant {grant_id} says that it comes of a payment, and there is none"
    for key in sorted(entries):
        yield f"transaction {key} is of no payment"
    yield from _verify_states(connection)


def _entries(connection: Connection) -> Iterator[tuple[str, int]]:
    """What was taken from and given back to grants for payments, by the key of its transaction."""
    entry, txn = grant_entry.c, tables.txn.c
    query = (
        select(txn.idem_key, entry.amount_nano, entry.expired_nano, entry.owed_nano)
        .join(tables.txn, txn.id == entry.txn_id)
        .where(entry.kind.in_(["take", "again"]))
    )
    for row in connection.execute(query):
        if row.idem_key.startswith(tuple(_KEYS.values())):
            yield row.idem_key, int(row.amount_nano + row.expired_nano - row.owed_nano)


def _verify_states(connection: Connection) -> Iterator[str]:
    """A payment is booked when its first step is, to the same tenant and amount."""
    steps = payment_item.alias()
    is_step = (steps.c.payment_id == payment.c.id) & (steps.c.step == Step.PAID.value)
    query = select(
        payment.c.id,
        payment.c.state,
        payment.c.tenant,
        payment.c.credit_nano,
        steps.c.tenant.label("to"),
        steps.c.amount_nano,
    ).outerjoin(steps, is_step)
    for row in connection.execute(query.order_by(payment.c.id)):
        said = (row.tenant, row.credit_nano) if row.state == State.BOOKED else (None, None)
        if said != (row.to, row.amount_nano):
            yield f"payment {row.id} is {row.state}, and that is not what was booked for it"
