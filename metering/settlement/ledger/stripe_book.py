"""The rows of what Stripe was told: read, changed, leased. SQL only; `stripe_moves` decides.

Rules: a row is changed only from what it was read as (`state`, `rev`, `tries`), in the transaction
that finds the lease still held; so whoever lost the lease changes nothing, and at worst repeats a
request that Stripe knows. A tenant that changes its customer keeps the old one for old hours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import Connection, and_, case, func, or_, select, update

from metering.settlement.ledger.leases import Lease
from metering.settlement.ledger.store import Ledger, insert_rows, keep_rows
from metering.settlement.ledger.stripe_tables import stripe_carry, stripe_hour, stripe_lease
from metering.settlement.stripe_moves import HOUR_NS, TOO_OLD, Hour, State

LEASE_NS = 120_000_000_000
"""Far above the time of one call: whoever says nothing for so long has died."""

_HOUR = stripe_hour.c
_KEY = ("tenant", "event_name", "hour")
_FIELDS = tuple(each.name for each in fields(Hour))
_MOVING = tuple(name for name in _FIELDS if name not in (*_KEY, "customer", "mode", "wanted"))
"""What a move changes: `wanted` is the ledger's to say."""


class RowMovedError(Exception):
    """The row is not what it was read as."""


def knows_stripe(ledger: Ledger) -> bool:
    """Whether the ledger has the tables of this module."""
    return (ledger.revision() or "") >= "0011"


_LEASE = Lease(stripe_lease, {"one": 1}, LEASE_NS, {"verified_at": 0}, by_own_clock=True)
take_lease, give_lease = _LEASE.take, _LEASE.give


def keep_lease(connection: Connection, holder: str, now_ns: int) -> None:
    """Part of a transaction of whoever holds it; LeaseLostError, and the transaction is over."""
    _LEASE.keep(connection, holder, now_ns)


def last_verified(ledger: Ledger) -> int:
    """When all hours were compared last; 0 for never."""
    with ledger.read() as connection:
        return int(connection.execute(select(stripe_lease.c.verified_at)).scalar() or 0)


def note_verified(ledger: Ledger, now_ns: int) -> None:
    """All hours were compared."""
    with ledger.write() as connection:
        connection.execute(update(stripe_lease).values(verified_at=now_ns))


def move(connection: Connection, before: Hour, after: Hour) -> None:
    """Store what became of a row; RowMovedError when it has changed meanwhile."""
    same = [_HOUR[name] == getattr(before, name) for name in (*_KEY, "rev", "tries", "acked")]
    same.append(_HOUR.state == State(before.state).value)
    values = {name: getattr(after, name) for name in _MOVING}
    values["state"] = State(after.state).value
    if connection.execute(update(stripe_hour).where(*same).values(values)).rowcount != 1:
        raise RowMovedError


def unsettled(connection: Connection) -> list[Hour]:
    """What is under way or has to be sent, the oldest hour first."""
    wants = or_(
        _HOUR.state == State.SENDING.value,
        and_(_HOUR.state == State.IDLE.value, _HOUR.wanted != _HOUR.acked),
    )
    return _hours(connection, wants)


def hours_since(connection: Connection, first: int, *, tenant: str | None = None) -> list[Hour]:
    """Every hour from `first` on, the oldest first."""
    of = [] if tenant is None else [_HOUR.tenant == tenant]
    return _hours(connection, _HOUR.hour >= first, *of)


def held(connection: Connection) -> list[Hour]:
    """What waits for a person."""
    return _hours(connection, _HOUR.state == State.HELD.value)


def the_hour(connection: Connection, key: tuple[str, str, int]) -> Hour | None:
    """One row."""
    found = _hours(connection, *(_HOUR[name] == at for name, at in zip(_KEY, key, strict=True)))
    return found[0] if found else None


def _hours(connection: Connection, *where: Any) -> list[Hour]:
    columns = [_HOUR[name] for name in _FIELDS]
    query = select(*columns).where(*where).order_by(_HOUR.hour, _HOUR.tenant, _HOUR.event_name)
    return [Hour(*row) for row in connection.execute(query)]


def standing(connection: Connection) -> list[dict[str, Any]]:
    """By tenant and meter: what the ledger says, what Stripe has, and how many hours wait."""
    differs = func.sum(func.abs(_HOUR.wanted - _HOUR.acked)).label("difference")
    query = select(
        _HOUR.tenant,
        _HOUR.event_name,
        _HOUR.customer,
        func.count().label("hours"),
        func.sum(_HOUR.wanted).label("ledger"),
        func.sum(_HOUR.acked).label("stripe"),
        differs,
        *(_count(_HOUR.state == state.value, state.value) for state in (State.SENDING, State.HELD)),
        _count(_HOUR.wanted != _HOUR.acked, "waiting"),
        _count(_HOUR.verified_at.is_not(None), "verified"),
        func.max(_HOUR.acked_at).label("acked_at"),
    ).group_by(_HOUR.tenant, _HOUR.event_name, _HOUR.customer)
    ordered = query.order_by(_HOUR.tenant, _HOUR.event_name, _HOUR.customer)
    found = [dict(row) for row in connection.execute(ordered).mappings()]
    return [
        {name: int(value) if name in _NUMBERS else value for name, value in row.items()}
        for row in found
    ]


_NUMBERS = frozenset(
    {"hours", "ledger", "stripe", "difference", "sending", "held", "waiting", "verified"}
)


def _count(condition: Any, name: str) -> Any:
    return func.sum(case((condition, 1), else_=0)).label(name)


def carry(
    connection: Connection, hours: Sequence[Hour], *, into_hour: int | None, by: str, now_ns: int
) -> int:
    """Note that what Stripe no longer takes of these hours counts in another, or in none.

    The quantity they lack; how many there were. The hour it goes into gets a row by the next
    survey of its own.
    """
    done = 0
    for each in hours:
        if each.reason != TOO_OLD or each.wanted == each.acked:
            continue
        numbers = (
            select(func.count())
            .select_from(stripe_carry)
            .where(
                stripe_carry.c.tenant == each.tenant,
                stripe_carry.c.event_name == each.event_name,
                stripe_carry.c.from_hour == each.hour,
            )
        )
        number = int(connection.execute(numbers).scalar_one())
        row = {
            "tenant": each.tenant,
            "event_name": each.event_name,
            "from_hour": each.hour,
            "number": number,
            "into_hour": None if into_hour is None else into_hour // HOUR_NS * HOUR_NS,
            "quantity": each.wanted - each.acked,
            "decided_by": by,
            "decided_at": now_ns,
        }
        insert_rows(connection, stripe_carry, [row])
        _settle_carried(connection, each, into_hour)
        done += 1
    return done


def _settle_carried(connection: Connection, hour: Hour, into_hour: int | None) -> None:
    lacking = hour.wanted - hour.acked
    at = [_HOUR[name] == getattr(hour, name) for name in _KEY]
    rest = {"wanted": hour.acked, "state": State.IDLE.value, "reason": None}
    connection.execute(update(stripe_hour).where(*at).values(rest))
    if into_hour is None:
        return
    into = asdict(
        Hour(hour.tenant, hour.event_name, into_hour // HOUR_NS * HOUR_NS, hour.customer, hour.mode)
    )
    keep_rows(connection, stripe_hour, [{**into, "state": State.IDLE.value}])
    there = [_HOUR[name] == into[name] for name in _KEY]
    added = update(stripe_hour).where(*there).values(wanted=_HOUR.wanted + lacking)
    connection.execute(added)
