"""The outbox: what a person should look at, written in the transaction that found it.

Rules: an alert is named by its key, and the same key is said once, whoever finds it again. It is
sent at least once: a sender takes a lease, delivers, then marks the row; one that dies in between
leaves it to the next. No prompt and no secret ever enters a body.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, select, update

from metering.settlement.ledger.store import Ledger, keep_rows
from metering.settlement.ledger.tables import outbox

ALERT = "alert"
"""The topic of what a person should look at."""

LEASE_NS = 60_000_000_000
"""Whoever took an alert and has not said what became of it for so long has died."""

RETRY_MAX_NS = 600_000_000_000
"""A sink that fails is tried again after a second, then twice as long, up to ten minutes."""

_SENT_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert on its way to a sink."""

    id: int
    kind: str
    key: str
    body: Mapping[str, Any]
    attempts: int


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


def take_alerts(ledger: Ledger, *, now_ns: int) -> list[Alert]:
    """The alerts that are due, oldest first; nobody else is given them until the lease is over."""
    column = outbox.c
    due = (
        select(outbox)
        .where(column.topic == ALERT, column.state == "new", column.next_at <= now_ns)
        .order_by(column.id)
        .limit(_SENT_AT_ONCE)
    )
    with ledger.read() as connection:  # without the write lock: mostly there is nothing
        if connection.execute(due).first() is None:
            return []
    with ledger.write() as connection:
        rows = connection.execute(due.with_for_update(skip_locked=True)).all()
        leased = update(outbox).where(column.id.in_([row.id for row in rows]))
        connection.execute(leased.values(next_at=now_ns + LEASE_NS))
    return [_alert(row) for row in rows]


def note_sent(ledger: Ledger, alert: Alert) -> None:
    """The sink has it."""
    with ledger.write() as connection:
        connection.execute(
            update(outbox)
            .where(outbox.c.id == alert.id)
            .values(state="sent", attempts=alert.attempts + 1)
        )


def note_failed(ledger: Ledger, alert: Alert, *, now_ns: int) -> None:
    """The sink did not take it: again later, and later each time."""
    delay_ns = min(1_000_000_000 * 2 ** min(alert.attempts, 16), RETRY_MAX_NS)
    with ledger.write() as connection:
        connection.execute(
            update(outbox)
            .where(outbox.c.id == alert.id)
            .values(attempts=alert.attempts + 1, next_at=now_ns + delay_ns)
        )


def _alert(row: Any) -> Alert:
    body = orjson.loads(row.body)
    return Alert(row.id, body["kind"], row.key, body, row.attempts)
