"""Rating again by the real code, in batches so small that some are half done when somebody dies."""

from __future__ import annotations

from metering.prices import RatesByModel
from metering.redis_keys import RedisKeys
from metering.settlement.ledger import rerate_books
from metering.settlement.ledger.store import Ledger
from metering.settlement.rerating import Era
from simulation.rerates import Rerating

BATCH = 5
"""Changes in one transaction; otherwise 500, which no world here has."""


def perform(ledger: Ledger, keys: RedisKeys, asked: Rerating, *, now_ns: int) -> int:
    """Do it; done twice it is done once. How many events changed."""
    eras, bodies = [], {}
    for each in asked.books:
        sides = {}
        for side, version in (("cost", each.book.cost_version), ("sell", each.book.sell_version)):
            body = each.book.body(sell=side == "sell")
            bodies[version] = body
            if side in asked.sides:
                sides[side] = RatesByModel(body, version=version)
        eras.append(Era(each.since_ns, sides.get("cost"), sides.get("sell")))
    usual, rerate_books.BATCH = rerate_books.BATCH, BATCH
    try:
        return rerate_books.apply(
            ledger,
            keys,
            rerate_books.Asked(asked.since_ns, asked.until_ns, asked.tenant),
            eras,
            bodies=bodies,
            by="sim",
            reason="",
            now_ns=now_ns,
        ).changed
    finally:
        rerate_books.BATCH = usual
