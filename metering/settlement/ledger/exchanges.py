"""What the ledger has of an exchange: its true events, and what was recovered in their place.

Rule: of one exchange, true events and recovered ones never both count. Whichever is booked second,
the recovered ones are taken back in the same transaction, by the correction that Redis would have
appended: its id comes from the recovered event's, so the two are one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, literal_column, select, text

from metering.events import RECOVERED, Kind, UsageEvent, decode, encode, payload_hash
from metering.recovery import reversal
from metering.settlement.batches import Booking
from metering.settlement.entries import Arrival, Entry
from metering.settlement.ledger.rows import decode_amounts
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.tables import usage_event
from metering.settlement.rating import RatedEvent, UnitAmount

_EVENT = usage_event.c
_RECOVERED = """
SELECT event_id, exchange_id, kind, corrects, payload, amounts, unpriced
FROM usage_event WHERE usage_source = 'recovered' AND exchange_id """
"""The source is no parameter: SQLite would not know that its partial index holds all of them."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """What all events of an exchange share, and what they are found by."""

    tenant: str
    occurred_at: int
    exchange_id: str


def exchange_of(event: UsageEvent) -> Exchange:
    """The exchange of an event."""
    return Exchange(event.tenant, event.occurred_at, event.exchange_id)


def booked_exchanges(ledger: Ledger, exchanges: Iterable[Exchange]) -> set[str]:
    """The ids of those of which a true event is in the ledger."""
    with ledger.read() as connection:
        return {one.exchange_id for one in exchanges if true_events(connection, one)}


def true_events(connection: Connection, exchange: Exchange) -> set[str]:
    """The ids of the true events of an exchange; asked by the index of tenants and times."""
    query = select(_EVENT.event_id).where(
        _EVENT.tenant == exchange.tenant,
        _EVENT.occurred_at == exchange.occurred_at,
        _EVENT.exchange_id == exchange.exchange_id,
        _EVENT.kind == literal_column(f"'{Kind.USAGE}'"),
        _EVENT.usage_source != literal_column(f"'{RECOVERED}'"),
    )
    return set(connection.execute(query).scalars())


def reversals_due(connection: Connection, fresh: Sequence[Booking]) -> tuple[Booking, ...]:
    """What takes back the recovered events that stand beside true ones once `fresh` is booked.

    A recovered event and a true one of the same exchange may be in either place. Mostly there is
    nothing, and one question to a nearly empty index is all.
    """
    true: dict[str, Booking] = {}
    recovered: list[Booking] = []
    reversed_ids: set[str | None] = set()
    for booking in fresh:
        event = booking.rated.event
        if event.kind == Kind.CORRECTION:
            reversed_ids.add(event.corrects)
        elif event.usage_source == RECOVERED:
            recovered.append(booking)
        elif event.kind == Kind.USAGE:
            true[event.exchange_id] = booking
    asked = true.keys() | {booking.rated.event.exchange_id for booking in recovered}
    rows = _recovered_rows(connection, sorted(asked)) if asked else []
    reversed_ids |= {row.corrects for row in rows}
    due = [
        _reversed(true[row.exchange_id], bytes(row.payload), _rating_of(row))
        for row in rows
        if row.exchange_id in true
        and row.kind != Kind.CORRECTION
        and row.event_id not in reversed_ids
    ]
    for booking in recovered:
        event = booking.rated.event
        if booking.event_id not in reversed_ids and (
            event.exchange_id in true or true_events(connection, exchange_of(event))
        ):
            due.append(_reversed(booking, booking.arrival.body, booking.rated))
    return tuple(due)


def incomplete_exchanges(connection: Connection, bookings: Iterable[Booking]) -> set[str]:
    """The exchanges of these whose record in a spool has an event that is not in the ledger.

    Asked after `bookings` were written. Events of a commit come together, so mostly all are here.
    """
    here: dict[Exchange, set[str]] = {}
    wanted: dict[Exchange, int] = {}
    for booking in bookings:
        event = booking.rated.event
        if event.spool_seq is not None and (event.spool_events or 1) > 1:
            exchange = exchange_of(event)
            wanted[exchange] = event.spool_events or 1
            here.setdefault(exchange, set()).add(event.event_id)
    return {
        exchange.exchange_id
        for exchange, count in wanted.items()
        if len(here[exchange]) < count and len(true_events(connection, exchange)) < count
    }


def _recovered_rows(connection: Connection, exchange_ids: Sequence[str]) -> Sequence[Any]:
    if connection.dialect.name == "postgresql":
        query = text(f"{_RECOVERED} = ANY(:ids)")
        return connection.execute(query, {"ids": list(exchange_ids)}).all()
    marks = ", ".join("?" * len(exchange_ids))  # straight to the driver, as in `insert_rows`
    statement = f"{_RECOVERED} IN ({marks})"
    return connection.exec_driver_sql(statement, tuple(exchange_ids)).all()


def _rating_of(row: Any) -> RatedEvent:
    """The rating of a booked event, as it was booked."""
    amounts = {unit: UnitAmount(*each) for unit, each in decode_amounts(row.amounts).items()}
    return RatedEvent(
        event=decode(bytes(row.payload)),
        amounts=amounts,
        sell_nano=sum(each.sell_nano for each in amounts.values()),
        cost_nano=sum(each.cost_nano for each in amounts.values()),
        unpriced=tuple(sorted(amounts)) if row.unpriced else (),
    )


def _reversed(cause: Booking, body: bytes, rated: RatedEvent) -> Booking:
    """The correction of an event, at the place in the stream of what made it due."""
    event = reversal(decode(body))
    payload = encode(event)
    place = cause.arrival.entry
    entry = Entry(place.shard, place.stream_id, payload, payload_hash(payload))
    amounts = {
        unit: UnitAmount(
            -each.quantity, each.sell_rate_pico, -each.sell_nano, -each.cost_nano, each.variant
        )
        for unit, each in rated.amounts.items()
    }
    turned = RatedEvent(event, amounts, -rated.sell_nano, -rated.cost_nano, rated.unpriced)
    return Booking(Arrival(entry, event, payload), turned)
