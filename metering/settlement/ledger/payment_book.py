"""The rows of payments: callbacks that wait, payments, and what was booked. SQL only.

Rules: a callback is kept before it is taken out of Redis, and closed after what it was about is
booked; so it is looked into at least once. Each step of a payment, a refund or a dispute is a row
of its own, made in the transaction that books it: a second one fails, whoever tries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, func, or_, select, update

from metering.callbacks import Callback
from metering.settlement.ledger import payment_tables as tables
from metering.settlement.ledger.store import Ledger, insert_rows, keep_rows
from metering.settlement.payments import Booked, Decided, Payment, Standing, State, Step

STRIPE = "stripe"

LEASE_NS = 120_000_000_000
"""Whoever looks into a callback and has not said what became of it for so long has died."""
RETRY_MAX_NS = 3_600_000_000_000
_FIRST_RETRY_NS = 2_000_000_000
_AT_ONCE = 50

_CALLBACK, _PAYMENT = tables.payment_callback.c, tables.payment.c
_ITEM, _DECISION = tables.payment_item.c, tables.payment_decision.c
_OURS = _CALLBACK.provider == STRIPE


@dataclass(frozen=True, slots=True)
class Waiting:
    """A callback that was taken to be looked into."""

    id: str
    type: str
    attempts: int


def knows_payments(ledger: Ledger) -> bool:
    """Whether the ledger has the tables of this module."""
    return (ledger.revision() or "") >= "0013"


def keep_callbacks(ledger: Ledger, callbacks: Sequence[Callback], now_ns: int) -> None:
    """Write down what came; what is known is passed."""
    rows = [
        {
            "provider": STRIPE,
            "event_id": each.id,
            "type": each.type,
            "created_s": each.created_s,
            "received_at": now_ns,
            "state": "new",
            "attempts": 0,
            "next_at": now_ns,
        }
        for each in callbacks
    ]
    with ledger.write() as connection:
        keep_rows(connection, tables.payment_callback, rows)


def take_callbacks(ledger: Ledger, now_ns: int) -> list[Waiting]:
    """Those that are due, oldest first; nobody else is given them until the lease is over."""
    due = (
        select(tables.payment_callback)
        .where(_OURS, _CALLBACK.state == "new", _CALLBACK.next_at <= now_ns)
        .order_by(_CALLBACK.created_s, _CALLBACK.event_id)
        .limit(_AT_ONCE)
    )
    with ledger.read() as connection:  # without the write lock: mostly there is nothing
        if connection.execute(due).first() is None:
            return []
    with ledger.write() as connection:
        rows = connection.execute(due.with_for_update(skip_locked=True)).all()
        names = [row.event_id for row in rows]
        _change(connection, names, next_at=now_ns + LEASE_NS)
    return [Waiting(row.event_id, row.type, row.attempts) for row in rows]


def close_callback(
    connection: Connection, event_id: str, state: str, reason: str | None = None
) -> None:
    """It has been looked into: `done`, `ignored` or for `review`."""
    _change(connection, [event_id], state=state, reason=reason)


def put_off(ledger: Ledger, waiting: Waiting, reason: str, now_ns: int) -> None:
    """It could not be looked into: again later, and later each time, for as long as it takes."""
    next_at = now_ns + _pause_ns(waiting.attempts)
    with ledger.write() as connection:
        values = {"attempts": waiting.attempts + 1, "reason": reason, "next_at": next_at}
        _change(connection, [waiting.id], **values)


def give_back(ledger: Ledger, waiting: Sequence[Waiting], now_ns: int) -> None:
    """They were taken and not looked into."""
    with ledger.write() as connection:
        _change(connection, [each.id for each in waiting], next_at=now_ns)


def _pause_ns(attempts: int) -> int:
    return int(min(_FIRST_RETRY_NS * 2 ** min(attempts, 16), RETRY_MAX_NS))


def _change(connection: Connection, names: Sequence[str], **values: Any) -> None:
    if names:
        these = and_(_OURS, _CALLBACK.event_id.in_(names))
        connection.execute(update(tables.payment_callback).where(these).values(**values))


# payments


def lock_payment(connection: Connection, payment: Payment, now_ns: int) -> None:
    """Make sure of the row, and keep others from it until the transaction ends."""
    row = {
        "provider": STRIPE,
        "id": payment.id,
        "state": State.OPEN.value,
        "currency": payment.currency,
        "received_minor": payment.received_minor,
        "tax_minor": payment.tax_minor,
        "credit_nano": 0,
        "paid_s": payment.paid_s,
        "looked_at": now_ns,
        "attempts": 0,
    }
    keep_rows(connection, tables.payment, [row])
    query = select(_PAYMENT.id).where(_is(payment.id)).with_for_update()
    connection.execute(query).one()


def tenant_of(connection: Connection, payment_id: str) -> tuple[str, int] | None:
    """Whose credit it was booked as, and how much; None while it is not."""
    query = select(_PAYMENT.tenant, _PAYMENT.credit_nano).where(
        _is(payment_id), _PAYMENT.state == State.BOOKED.value
    )
    row = connection.execute(query).first()
    return None if row is None else (str(row.tenant), int(row.credit_nano))


def waits_for_owner(connection: Connection, payment_id: str) -> bool:
    """Whether it was looked into as a payment that is to be booked once somebody owns it."""
    query = select(_PAYMENT.state).where(_is(payment_id))
    return bool(connection.execute(query).scalar() == State.UNASSIGNED.value)


def first_told_s(connection: Connection) -> int | None:
    """When the first event was made that we ever heard of, Unix s."""
    return connection.execute(select(func.min(_CALLBACK.created_s)).where(_OURS)).scalar()


def decided(connection: Connection, payment_id: str) -> Decided:
    """What a person said of it."""
    query = select(_DECISION.tenant, _DECISION.credit_nano).where(
        _DECISION.provider == STRIPE, _DECISION.payment_id == payment_id
    )
    row = connection.execute(query).first()
    return Decided() if row is None else Decided(row.tenant, row.credit_nano)


def booked(connection: Connection, payment_id: str) -> list[Booked]:
    """The steps that were booked, in that order."""
    query = (
        select(_ITEM.step, _ITEM.id, _ITEM.amount_nano)
        .where(_ITEM.provider == STRIPE, _ITEM.payment_id == payment_id)
        .order_by(_ITEM.booked_at, _ITEM.step, _ITEM.id)
    )
    return [
        Booked(Step(row.step), row.id, int(row.amount_nano)) for row in connection.execute(query)
    ]


def note_payment(connection: Connection, payment: Payment, standing: Standing, now_ns: int) -> None:
    """Where it stands, as Stripe and we have it now."""
    values = {
        "state": standing.state.value,
        "reason": standing.reason,
        "tenant": standing.tenant,
        "customer": payment.customer,
        "currency": payment.currency,
        "received_minor": payment.received_minor,
        "tax_minor": payment.tax_minor,
        "credit_nano": standing.credit_nano if standing.state is State.BOOKED else 0,
        "paid_s": payment.paid_s,
        "looked_at": now_ns,
        "due_at": None,
        "attempts": 0,
    }
    connection.execute(update(tables.payment).where(_is(payment.id)).values(**values))


def note_step(
    connection: Connection,
    payment_id: str,
    step: Booked,
    *,
    tenant: str,
    grant_id: str,
    now_ns: int,
) -> None:
    """It is booked in this transaction; IntegrityError where it was before."""
    row = {
        "provider": STRIPE,
        "id": step.id,
        "step": step.step.value,
        "payment_id": payment_id,
        "tenant": tenant,
        "grant_id": grant_id,
        "amount_nano": step.amount_nano,
        "booked_at": now_ns,
    }
    insert_rows(connection, tables.payment_item, [row])


def take_due_payments(ledger: Ledger, now_ns: int) -> list[tuple[str, int]]:
    """Payments that somebody wants to be looked at again, and how often that has failed."""
    due = (
        select(_PAYMENT.id, _PAYMENT.attempts)
        .where(_PAYMENT.provider == STRIPE, _PAYMENT.due_at <= now_ns)
        .order_by(_PAYMENT.due_at)
        .limit(_AT_ONCE)
    )
    with ledger.read() as connection:
        if connection.execute(due).first() is None:
            return []
    with ledger.write() as connection:
        rows = connection.execute(due.with_for_update(skip_locked=True)).all()
        these = and_(_PAYMENT.provider == STRIPE, _PAYMENT.id.in_([row.id for row in rows]))
        leased = update(tables.payment).where(these).values(due_at=now_ns + LEASE_NS)
        connection.execute(leased)
    return [(row.id, row.attempts) for row in rows]


def put_off_payment(ledger: Ledger, payment_id: str, attempts: int, now_ns: int) -> None:
    """It could not be looked at."""
    with ledger.write() as connection:
        values = {"attempts": attempts + 1, "due_at": now_ns + _pause_ns(attempts)}
        connection.execute(update(tables.payment).where(_is(payment_id)).values(**values))


def _is(payment_id: str) -> Any:
    return and_(_PAYMENT.provider == STRIPE, _PAYMENT.id == payment_id)


# what a person does


class NoPaymentError(LookupError):
    """There is no such payment, or it is past deciding; the message says which."""


def retry(ledger: Ledger, name: str | None, now_ns: int) -> int:
    """Look into it again, now: a payment, a callback, or with None all that waits or is reviewed.

    How many there were.
    """
    callbacks = and_(_OURS, _CALLBACK.state.in_(["new", "review"]))
    payments = and_(
        _PAYMENT.provider == STRIPE,
        _PAYMENT.state.in_([State.UNASSIGNED, State.REVIEW, State.OPEN]),
    )
    if name is not None:
        callbacks = and_(_OURS, _CALLBACK.event_id == name)
        payments = _is(name)
    again = {"state": "new", "next_at": now_ns, "attempts": 0}
    with ledger.write() as connection:
        done = connection.execute(update(tables.payment_callback).where(callbacks).values(**again))
        looked = update(tables.payment).where(payments).values(due_at=now_ns, attempts=0)
        return done.rowcount + connection.execute(looked).rowcount


def dismiss(ledger: Ledger, event_id: str, *, by: str) -> bool:
    """Close a callback that nobody can make sense of; False where none of that name is reviewed."""
    reviewed = and_(_OURS, _CALLBACK.event_id == event_id, _CALLBACK.state == "review")
    values = {"state": "ignored", "reason": f"dismissed by {by}"}
    with ledger.write() as connection:
        closed = update(tables.payment_callback).where(reviewed).values(**values)
        return bool(connection.execute(closed).rowcount)


def assign(
    ledger: Ledger, payment_id: str, tenant: str, *, credit_nano: int | None, by: str, now_ns: int
) -> None:
    """Say whose it is; the worker books it. NoPaymentError where there is nothing to be said."""
    with ledger.write() as connection:
        query = select(_PAYMENT.state).where(_is(payment_id)).with_for_update()
        state = connection.execute(query).scalar()
        if state is None:
            raise NoPaymentError(f"no payment {payment_id}")
        if state == State.BOOKED:
            raise NoPaymentError(f"payment {payment_id} is booked already")
        row = {
            "provider": STRIPE,
            "payment_id": payment_id,
            "tenant": tenant,
            "credit_nano": credit_nano,
            "decided_by": by,
            "decided_at": now_ns,
        }
        known = decided(connection, payment_id)
        if known.tenant is not None:
            raise NoPaymentError(f"payment {payment_id} was assigned to {known.tenant} already")
        insert_rows(connection, tables.payment_decision, [row])
        due = update(tables.payment).where(_is(payment_id)).values(due_at=now_ns, attempts=0)
        connection.execute(due)


def list_payments(
    connection: Connection, *, tenant: str | None, state: str | None, limit: int
) -> list[dict[str, Any]]:
    """Payments, the newest first."""
    query = select(tables.payment).where(_PAYMENT.provider == STRIPE)
    if tenant is not None:
        query = query.where(_PAYMENT.tenant == tenant)
    if state is not None:
        query = query.where(_PAYMENT.state == state)
    ordered = query.order_by(_PAYMENT.paid_s.desc(), _PAYMENT.id).limit(limit)
    return [dict(row) for row in connection.execute(ordered).mappings()]


def unsettled_callbacks(connection: Connection, limit: int = 100) -> list[dict[str, Any]]:
    """Callbacks that wait, or that nobody can make sense of; the oldest first."""
    query = (
        select(tables.payment_callback)
        .where(_OURS, _CALLBACK.state.in_(["new", "review"]))
        .order_by(_CALLBACK.created_s, _CALLBACK.event_id)
        .limit(limit)
    )
    return [dict(row) for row in connection.execute(query).mappings()]


def show(connection: Connection, payment_id: str) -> dict[str, Any] | None:
    """A payment with its steps and what was decided; None where there is none."""
    row = connection.execute(select(tables.payment).where(_is(payment_id))).mappings().first()
    if row is None:
        return None
    items = select(tables.payment_item).where(
        _ITEM.provider == STRIPE, _ITEM.payment_id == payment_id
    )
    decision = select(tables.payment_decision).where(
        _DECISION.provider == STRIPE, _DECISION.payment_id == payment_id
    )
    found = connection.execute(items.order_by(_ITEM.booked_at, _ITEM.step)).mappings()
    said = connection.execute(decision).mappings().first()
    return {
        **row,
        "items": [dict(item) for item in found],
        "decision": None if said is None else dict(said),
    }


# events that never came


def last_look(ledger: Ledger) -> int | None:
    """When Stripe was asked last for events that never came; None for never."""
    with ledger.read() as connection:
        return connection.execute(select(tables.payment_look.c.looked_at)).scalar()


def note_look(ledger: Ledger, now_ns: int) -> None:
    """It was asked."""
    look = tables.payment_look
    with ledger.write() as connection:
        keep_rows(connection, look, [{"provider": STRIPE, "looked_at": now_ns}])
        later = or_(look.c.looked_at < now_ns, look.c.looked_at.is_(None))
        connection.execute(update(look).where(later).values(looked_at=now_ns))


def waiting_count(connection: Connection) -> int:
    """How many callbacks wait."""
    query = select(func.count()).where(_OURS, _CALLBACK.state == "new")
    return int(connection.execute(query).scalar_one())
