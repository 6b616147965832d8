"""Messages to other systems on their way: taken, sent, put off, dead, sent again. SQL only.

Rules: of one subject the oldest message goes first, and the next when that one was taken or is
dead. Whoever takes a message has it for a while; one that dies leaves it to the next.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, and_, func, select, update

from metering.settlement.ledger import tables
from metering.settlement.ledger import webhook_tables as hooks
from metering.settlement.ledger.outbox import put_alerts
from metering.settlement.ledger.store import Ledger
from metering.settlement.webhooks import (
    Message,
    pause_ns,
)
from metering.webhook_settings import WebhookEndpoint

LEASE_NS = 120_000_000_000
"""Whoever sends a message and has not said what became of it for so long has died."""

_SENT_AT_ONCE = 20

_MESSAGE = hooks.webhook_message.c


def knows_webhooks(ledger: Ledger) -> bool:
    """Whether the ledger has the tables of this module."""
    return (ledger.revision() or "") >= "0014"


def source_of(ledger: Ledger) -> str:
    """What receivers know this ledger by."""
    with ledger.read() as connection:
        found = connection.execute(select(tables.ledger_identity.c.id)).scalar()
    return f"urn:tokenweir:{found or 'new'}"


def take_messages(ledger: Ledger, endpoint: str, now_ns: int) -> list[Message]:
    """Of each subject the message that is next, where it is due; leased to whoever asks."""
    waiting = and_(_MESSAGE.endpoint == endpoint, _MESSAGE.state == "new")
    heads = select(func.min(_MESSAGE.id)).where(waiting).group_by(_MESSAGE.subject)
    due = (
        select(hooks.webhook_message)
        .where(_MESSAGE.id.in_(heads), _MESSAGE.state == "new", _MESSAGE.next_at <= now_ns)
        .order_by(_MESSAGE.id)
        .limit(_SENT_AT_ONCE)
    )
    with ledger.read() as connection:  # without the write lock: mostly there is nothing
        if connection.execute(due).first() is None:
            return []
    with ledger.write() as connection:
        rows = connection.execute(due.with_for_update(skip_locked=True)).all()
        _change(connection, [row.id for row in rows], next_at=now_ns + LEASE_NS)
    return [
        Message(
            row.id,
            row.message_id,
            row.type,
            row.subject,
            row.data,
            row.attempts,
            row.created_at,
            row.tried_since,
        )
        for row in rows
    ]


def note_sent(ledger: Ledger, message: Message, now_ns: int) -> None:
    """The endpoint has it."""
    with ledger.write() as connection:
        values = {"state": "sent", "attempts": message.attempts + 1, "sent_at": now_ns}
        _change(connection, [message.id], reason=None, **values)


def note_failed(
    ledger: Ledger, endpoint: WebhookEndpoint, message: Message, reason: str, now_ns: int
) -> bool:
    """It was not taken: again later, or never, which is told; whether it is dead."""
    values: dict[str, Any] = {"attempts": message.attempts + 1, "reason": reason}
    is_dead = now_ns - message.tried_since >= endpoint.dead_after_s * 1_000_000_000
    values |= {"state": "dead"} if is_dead else {"next_at": now_ns + pause_ns(message.attempts)}
    with ledger.write() as connection:
        _change(connection, [message.id], **values)
        if is_dead:
            body = {
                "endpoint": endpoint.name,
                "message_id": message.message_id,
                "type": message.type,
                "subject": message.subject,
                "reason": reason,
            }
            key = f"webhook_dead:{endpoint.name}:{message.message_id}:{message.tried_since}"
            put_alerts(connection, [(key, body)], now_ns)
    return is_dead


def _change(connection: Connection, ids: list[int], **values: Any) -> None:
    if ids:
        these = update(hooks.webhook_message).where(_MESSAGE.id.in_(ids))
        connection.execute(these.values(**values))


# what a person asks and does


def retry(ledger: Ledger, endpoint: str | None, message_id: str | None, now_ns: int) -> int:
    """Send again, from now on: what is dead or waits, or one message whatever became of it."""
    these = (
        [_MESSAGE.state != "sent"] if message_id is None else [_MESSAGE.message_id == message_id]
    )
    if endpoint is not None:
        these.append(_MESSAGE.endpoint == endpoint)
    again = {"state": "new", "attempts": 0, "next_at": now_ns, "tried_since": now_ns}
    with ledger.write() as connection:
        done = connection.execute(update(hooks.webhook_message).where(*these).values(**again))
        return done.rowcount


def standing(connection: Connection) -> list[dict[str, Any]]:
    """By endpoint: how many messages were sent, wait and are dead, and the last failure."""
    states = ("sent", "new", "dead")
    counts = [func.count().filter(_MESSAGE.state == name).label(name) for name in states]
    query = (
        select(_MESSAGE.endpoint, *counts, func.max(_MESSAGE.sent_at).label("sent_at"))
        .group_by(_MESSAGE.endpoint)
        .order_by(_MESSAGE.endpoint)
    )
    return [dict(row) for row in connection.execute(query).mappings()]


def unsent(connection: Connection, limit: int) -> list[dict[str, Any]]:
    """Messages that wait after a failure, or are dead; the oldest first."""
    query = (
        select(
            *(_MESSAGE[name] for name in ("endpoint", "message_id", "type", "subject", "about")),
            *(_MESSAGE[name] for name in ("state", "attempts", "reason", "created_at")),
        )
        .where(_MESSAGE.state != "sent", _MESSAGE.reason.is_not(None))
        .order_by(_MESSAGE.id)
        .limit(limit)
    )
    return [dict(row) for row in connection.execute(query).mappings()]
