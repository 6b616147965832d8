"""What is done to grants, by the real code; and how far was drawn when it was done."""

from __future__ import annotations

from sqlalchemy import func, select

from metering.settlement.credits import Grant
from metering.settlement.ledger import tables
from metering.settlement.ledger.credit_books import add_grant, give_again, take_back, void_rest
from metering.settlement.ledger.credit_draws import expire_credits
from metering.settlement.ledger.credit_tables import credit_grant, credit_watermark
from metering.settlement.ledger.store import Ledger
from simulation.grants import Act, Given


def perform(ledger: Ledger, act: Act, *, now_ns: int) -> None:
    """Do it; done twice it is done once."""
    if act.what == "expire":
        expire_credits(ledger, lambda _: True, settled_ns=act.settled_ns, now_ns=now_ns)
        return
    assert act.given is not None
    given = act.given
    if act.what == "grant":
        add_grant(ledger, _grant(given), now_ns)
    elif act.what == "void":
        void_rest(ledger, given.name, now_ns=now_ns)
    elif act.what == "take":
        take_back(
            ledger,
            given.name,
            given.part,
            idem_key=f"take {given.name}",
            reason="refund",
            now_ns=now_ns,
        )
    else:
        give_again(ledger, given.name, given.again, idem_key=f"give {given.name}", now_ns=now_ns)


def drawn_through(ledger: Ledger) -> dict[int, int]:
    """By shard, the place in the chain up to which nothing is drawn any more.

    The first grant of a ledger begins behind what is there; a shard that is missing begins at 0.
    """
    event = tables.usage_event.c
    with ledger.read() as connection:
        if connection.execute(select(credit_grant.c.id).limit(1)).first() is None:
            counts = select(event.shard, func.count()).group_by(event.shard)
            return dict(connection.execute(counts).all())
        done = select(credit_watermark.c.shard, credit_watermark.c.seq)
        return dict(connection.execute(done).all())


def _grant(given: Given) -> Grant:
    return Grant(
        given.name,
        given.tenant,
        "paid" if given.is_paid else "promo",
        given.priority,
        given.amount,
        given.since_ns,
        given.until_ns,
        "manual",
        "",
    )
