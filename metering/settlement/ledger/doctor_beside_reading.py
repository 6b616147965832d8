"""What `weir doctor` asks the ledger of what goes on beside the books. Reads only; `doctor_beside`
judges."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, func, select

from metering.settlement.doctor_facts import JobStanding, MoneyIn, Undrawn, Untold
from metering.settlement.ledger import payment_tables, tables
from metering.settlement.ledger.credit_books import has_grants
from metering.settlement.ledger.credit_tables import credit_grant, credit_watermark
from metering.settlement.ledger.job_books import runs_of
from metering.settlement.ledger.job_tables import job_schedule
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.webhook_tables import webhook_message

_EVENT, _MESSAGE = tables.usage_event.c, webhook_message.c
_PAYMENT, _CALLBACK = payment_tables.payment.c, payment_tables.payment_callback.c


def read_jobs(ledger: Ledger, names: Sequence[str]) -> dict[str, JobStanding]:
    """How each of these jobs stands, as far as it was ever taken up."""
    with ledger.read() as connection:
        found = {name: _job(connection, name) for name in names}
    return {name: at for name, at in found.items() if at is not None}


def _job(connection: Connection, name: str) -> JobStanding | None:
    query = select(job_schedule.c.through).where(job_schedule.c.job == name)
    through = connection.execute(query).scalar()
    newest = runs_of(connection, name, 1)
    if not newest:
        return None if through is None else JobStanding(through)
    [run] = newest
    return JobStanding(through, run.scheduled_for, run.state, run.attempts, run.waits, run.message)


def read_webhooks(ledger: Ledger) -> tuple[Untold, ...]:
    """What each endpoint has not taken: those that have something only."""
    waits, dead = _MESSAGE.state == "new", _MESSAGE.state == "dead"
    query = (
        select(
            _MESSAGE.endpoint,
            func.count().filter(waits).label("waiting"),
            func.min(_MESSAGE.tried_since).filter(waits).label("since"),
            func.count().filter(dead).label("dead"),
        )
        .where(_MESSAGE.state != "sent")
        .group_by(_MESSAGE.endpoint)
        .order_by(_MESSAGE.endpoint)
    )
    with ledger.read() as connection:
        return tuple(
            Untold(row.endpoint, row.waiting, row.since, row.dead, _why(connection, row.endpoint))
            for row in connection.execute(query).all()
        )


def _why(connection: Connection, endpoint: str) -> str:
    """Why the newest attempt failed that did."""
    query = (
        select(_MESSAGE.reason)
        .where(_MESSAGE.endpoint == endpoint, _MESSAGE.state != "sent")
        .where(_MESSAGE.reason.is_not(None))
        .order_by(_MESSAGE.id.desc())
    )
    return connection.execute(query.limit(1)).scalar() or ""


def read_payments(ledger: Ledger) -> MoneyIn:
    """Payments and callbacks that wait for somebody."""
    states = select(_PAYMENT.state, func.count()).group_by(_PAYMENT.state)
    calls = select(_CALLBACK.state, func.count(), func.min(_CALLBACK.received_at))
    with ledger.read() as connection:
        paid = {state: int(count) for state, count in connection.execute(states).all()}
        called = {
            state: (int(count), since)
            for state, count, since in connection.execute(calls.group_by(_CALLBACK.state)).all()
        }
    waiting, since_ns = called.get("new", (0, None))
    return MoneyIn(
        unassigned=paid.get("unassigned", 0),
        in_review=paid.get("review", 0),
        callbacks_in_review=called.get("review", (0, None))[0],
        callbacks=waiting,
        callbacks_since_ns=since_ns,
    )


def read_credits(ledger: Ledger) -> Undrawn:
    """Events of tenants with grants beyond the places up to which is drawn."""
    if not has_grants(ledger):
        return Undrawn()
    mark = tables.watermark.c
    count, oldest = 0, []
    with ledger.read() as connection:
        done = {row.shard: row.seq for row in connection.execute(select(credit_watermark))}
        for shard, head in connection.execute(select(mark.shard, mark.events)).all():
            if head <= done.get(shard, 0):
                continue
            query = select(func.count(), func.min(_EVENT.received_at)).where(
                _EVENT.shard == shard,
                _EVENT.seq > done.get(shard, 0),
                _EVENT.tenant.in_(select(credit_grant.c.tenant)),
            )
            events, since_ns = connection.execute(query).one()
            count += int(events)
            oldest += [] if since_ns is None else [int(since_ns)]
    return Undrawn(count, min(oldest, default=None))
