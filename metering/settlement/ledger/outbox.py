"""The outbox: what a person should look at, written in the transaction that found it.

Rules: an alert is named by its key, and the same key is said once, whoever finds it again. Each
sink is sent it at least once, whatever becomes of it at the others: a sender takes a lease,
delivers, then marks what it sent; one that dies in between leaves it to the next. No prompt and no
secret ever enters a body.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, and_, func, or_, select, update

from metering.settlement.ledger.store import Ledger, keep_rows
from metering.settlement.ledger.tables import outbox, outbox_delivery

_DELIVERY = outbox_delivery.c

ALERT = "alert"
"""The topic of what a person should look at."""

LEASE_NS = 60_000_000_000
"""Whoever took an alert and has not said what became of it for so long has died."""

RETRY_MAX_NS = 600_000_000_000
"""A sink that fails is tried again after a second, then twice as long, up to ten minutes."""

_SENT_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert on its way to a sink; `attempts` of that sink alone."""

    id: int
    kind: str
    key: str
    body: Mapping[str, Any]
    attempts: int
    created_ns: int = 0


def put_alerts(
    connection: Connection, alerts: Iterable[tuple[str, Mapping[str, Any]]], now_ns: int
) -> None:
    """Add alerts, each a key `<kind>:<what it is about>` with its body; known keys are passed."""
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
    keep_rows(connection, outbox, rows)


def take_alerts(
    ledger: Ledger, sink: str, *, now_ns: int, kinds: Collection[str] | None = None
) -> list[Alert]:
    """The alerts that are due at a sink, oldest first; nobody else is given them until the lease is
    over. Those of other `kinds` (None wants all) are noted as passed."""
    due = (
        select(outbox, func.coalesce(_DELIVERY.attempts, 0).label("tries"))
        .outerjoin(
            outbox_delivery, and_(_DELIVERY.outbox_id == outbox.c.id, _DELIVERY.sink == sink)
        )
        .where(
            outbox.c.topic == ALERT,
            outbox.c.state == "new",
            or_(
                _DELIVERY.outbox_id.is_(None),
                and_(_DELIVERY.state == "new", _DELIVERY.next_at <= now_ns),
            ),
        )
        .order_by(outbox.c.id)
        .limit(_SENT_AT_ONCE)
    )
    with ledger.read() as connection:  # without the write lock: mostly there is nothing
        if connection.execute(due).first() is None:
            return []
    with ledger.write() as connection:
        rows = connection.execute(due.with_for_update(of=outbox, skip_locked=True)).all()
        alerts = [_alert(row) for row in rows]
        unwanted = {each.id for each in alerts if kinds is not None and each.kind not in kinds}
        keep_rows(connection, outbox_delivery, [_tried(each, sink, now_ns) for each in alerts])
        wanted = [each for each in alerts if each.id not in unwanted]
        _note(connection, unwanted, sink, state="passed")
        _note(connection, [each.id for each in wanted], sink, next_at=now_ns + LEASE_NS)
    return wanted


def note_sent(ledger: Ledger, alert: Alert, sink: str) -> None:
    """The sink has it."""
    with ledger.write() as connection:
        _note(connection, [alert.id], sink, state="sent", attempts=alert.attempts + 1)


def note_failed(ledger: Ledger, alert: Alert, sink: str, *, now_ns: int) -> None:
    """The sink did not take it: again later, and later each time."""
    delay_ns = min(1_000_000_000 * 2 ** min(alert.attempts, 16), RETRY_MAX_NS)
    with ledger.write() as connection:
        _note(connection, [alert.id], sink, attempts=alert.attempts + 1, next_at=now_ns + delay_ns)


def give_back(ledger: Ledger, alerts: Sequence[Alert], sink: str, *, now_ns: int) -> None:
    """They were taken and not tried: whoever comes next may have them at once."""
    with ledger.write() as connection:
        _note(connection, [each.id for each in alerts], sink, next_at=now_ns)


def close_alerts(ledger: Ledger, sinks: Collection[str]) -> None:
    """Mark as sent what every one of these sinks has: no sink that comes later is given it."""
    done = (
        select(_DELIVERY.outbox_id)
        .where(_DELIVERY.sink.in_(list(sinks)), _DELIVERY.state != "new")
        .group_by(_DELIVERY.outbox_id)
        .having(func.count() == len(sinks))
    )
    over = and_(outbox.c.topic == ALERT, outbox.c.state == "new", outbox.c.id.in_(done))
    with ledger.read() as connection:
        if connection.execute(select(outbox.c.id).where(over).limit(1)).first() is None:
            return
    with ledger.write() as connection:
        connection.execute(update(outbox).where(over).values(state="sent"))


def _note(connection: Connection, ids: Collection[int], sink: str, **values: Any) -> None:
    if ids:
        mine = and_(_DELIVERY.outbox_id.in_(list(ids)), _DELIVERY.sink == sink)
        connection.execute(update(outbox_delivery).where(mine).values(**values))


def _tried(alert: Alert, sink: str, now_ns: int) -> dict[str, Any]:
    return {
        "outbox_id": alert.id,
        "sink": sink,
        "state": "new",
        "attempts": 0,
        "next_at": now_ns,
    }


def _alert(row: Any) -> Alert:
    body = orjson.loads(row.body)
    return Alert(row.id, body["kind"], row.key, body, row.tries, row.created_at)
