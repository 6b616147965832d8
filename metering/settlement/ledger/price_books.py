"""Published price books in the ledger: who put which prices in force, when, and why.

Rules: the configuration stays the source, and proxies use it from when they take it up on. To
publish is to write down that this is meant: the bodies are kept, so that everything can be rated
and compared by them; whoever goes back to an older book has to say so; and a rule that begins in
the past has to say what becomes of the events that were rated otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson
from sqlalchemy import Connection, select

from metering.prices import PriceBook
from metering.settlement.ledger import tables
from metering.settlement.ledger.outbox import put_alerts
from metering.settlement.ledger.price_tables import price_publication
from metering.settlement.ledger.store import Ledger, insert_into, keep_rows

_PUBLISHED = price_publication.c

Eras = tuple[tuple[int, str, str], ...]
"""(effective_from_ns, version of cost, version of sell), in the order of time."""


class PublishRefusedError(Exception):
    """Nothing was published; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Publication:
    """A book as it was published."""

    id: int
    cost_version: str
    sell_version: str
    eras: Eras
    by: str
    note: str
    published_at: int


def eras_named(book: PriceBook) -> Eras:
    """The versions of a book and of those before and after it."""
    return tuple(
        [(each.effective_from_ns, each.cost_version, each.sell_version) for each in book.eras]
    )


def publish(
    ledger: Ledger, book: PriceBook, *, by: str, note: str, goes_back: bool, now_ns: int
) -> Publication | None:
    """Publish the book in force; None when it is what was published last.

    PublishRefusedError for a book that was published before and then replaced, unless `goes_back`.
    """
    eras = eras_named(book)
    with ledger.write() as connection:
        before = _publications(connection)
        if before and before[-1].eras == eras:
            return None
        older = next((each for each in before if each.eras == eras), None)
        if older is not None and not goes_back:
            raise PublishRefusedError(
                f"this book was published as number {older.id} and replaced since by number "
                f"{before[-1].id}: if going back is meant, say --back"
            )
        bodies = [
            {"version": version, "body": body, "stored_at": now_ns}
            for version, body in sorted(book.bodies.items())
        ]
        keep_rows(connection, tables.price_body, bodies)
        row = {
            "cost_version": book.cost_version,
            "sell_version": book.sell_version,
            "eras": orjson.dumps(eras),
            "published_by": by,
            "note": note,
            "published_at": now_ns,
        }
        insert = insert_into(connection, price_publication).returning(_PUBLISHED.id)
        number = int(connection.execute(insert, [row]).scalar_one())
        told = {name: row[name] for name in ("cost_version", "sell_version", "published_by")}
        put_alerts(connection, [(f"prices_published:{number}", {**told, "note": note})], now_ns)
    return Publication(number, book.cost_version, book.sell_version, eras, by, note, now_ns)


def publications(ledger: Ledger) -> list[Publication]:
    """What was published, oldest first."""
    with ledger.read() as connection:
        return _publications(connection)


def begun_late(eras: Eras, before: Sequence[Publication], now_ns: int) -> int | None:
    """The earliest time in the past at which something begins that was not published so; None for
    a book without such. A first publication has nothing to be late for."""
    if not before:
        return None
    known = {each[0] for each in before[-1].eras}
    late = [since_ns for since_ns, _, _ in eras if 0 < since_ns <= now_ns and since_ns not in known]
    return min(late, default=None)


def _publications(connection: Connection) -> list[Publication]:
    rows = connection.execute(select(price_publication).order_by(_PUBLISHED.id)).all()
    return [
        Publication(
            row.id,
            row.cost_version,
            row.sell_version,
            tuple([(since, cost, sell) for since, cost, sell in orjson.loads(bytes(row.eras))]),
            row.published_by,
            row.note,
            row.published_at,
        )
        for row in rows
    ]
