"""The rows of what other systems are told: found, kept, sent in order. SQL only.

Rules: what has to be told is found by places in what the ledger has already, moved in the
transaction that writes the messages; so nothing is told twice as new, and nothing is passed over.
Of one subject the oldest message goes first, and the next when that one was taken or is dead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import orjson
from sqlalchemy import Connection, and_, delete, func, select, update

from metering.settlement.ledger import tables
from metering.settlement.ledger import webhook_tables as hooks
from metering.settlement.ledger.outbox import ALERT as ALERT_TOPIC
from metering.settlement.ledger.outbox import put_alerts
from metering.settlement.ledger.store import Ledger, insert_rows, keep_rows
from metering.settlement.webhooks import (
    GRACE_NS,
    HOUR_NS,
    Message,
    digest_of,
    message_id,
    pause_ns,
    statement_data,
    usage_data,
)
from metering.webhook_settings import ALERT, INVOICE_CLOSED, USAGE_HOURLY, WebhookEndpoint

LEASE_NS = 120_000_000_000
"""Whoever sends a message and has not said what became of it for so long has died."""

CHUNK = 5_000
"""Events looked at in one transaction."""
_HOURS_AT_ONCE = 200
_SENT_AT_ONCE = 20

_ROLLUP, _EVENT, _OUTBOX = tables.rollup.c, tables.usage_event.c, tables.outbox.c
_PLACE, _CHANGE, _MESSAGE = hooks.webhook_place.c, hooks.webhook_change.c, hooks.webhook_message.c
_DIMENSIONS: Mapping[str, Any] = {
    "model": _ROLLUP.model,
    "provider": _ROLLUP.provider,
    "project": _ROLLUP.project,
    "feature": _ROLLUP.feature,
    "api_key": _ROLLUP.api_key_id,
    "type": _ROLLUP.unit,
}
_STATEMENTS, _ALERTS = "statements", "outbox"


def knows_webhooks(ledger: Ledger) -> bool:
    """Whether the ledger has the tables of this module."""
    return (ledger.revision() or "") >= "0014"


def source_of(ledger: Ledger) -> str:
    """What receivers know this ledger by."""
    with ledger.read() as connection:
        found = connection.execute(select(tables.ledger_identity.c.id)).scalar()
    return f"urn:tokenweir:{found or 'new'}"


def fill(ledger: Ledger, endpoint: WebhookEndpoint, now_ns: int) -> bool:
    """Write down what this endpoint has to be told; whether there may be more at once."""
    with ledger.write() as connection:
        places = _places(connection, endpoint, now_ns)
        more = _follow_usage(connection, endpoint, places)
        _tell_statements(connection, endpoint, places[_STATEMENTS], now_ns)
        _tell_alerts(connection, endpoint, places[_ALERTS], now_ns)
        return _tell_hours(connection, endpoint, now_ns) or more


def _places(connection: Connection, endpoint: WebhookEndpoint, now_ns: int) -> dict[str, int]:
    """Up to where the endpoint was told; locked. One that is new begins here, or at `since`."""
    query = (
        select(_PLACE.source, _PLACE.position)
        .where(_PLACE.endpoint == endpoint.name)
        .order_by(_PLACE.source)
        .with_for_update()
    )
    ends = _rolled_up(connection)
    if connection.execute(query).first() is None:
        last = connection.execute(select(func.max(_OUTBOX.id))).scalar() or 0
        since_ns = now_ns if endpoint.since_ns is None else endpoint.since_ns
        begins = {**ends, _STATEMENTS: since_ns, _ALERTS: int(last)}
        _keep_places(connection, endpoint, begins)
        if endpoint.since_ns is not None:
            _survey(connection, endpoint, endpoint.since_ns)
    _keep_places(connection, endpoint, dict.fromkeys(ends, 0))
    return {row.source: int(row.position) for row in connection.execute(query)}


def _rolled_up(connection: Connection) -> dict[str, int]:
    rolled = connection.execute(select(tables.rollup_watermark))
    return {f"usage:{row.shard}": int(row.seq) for row in rolled}


def _keep_places(
    connection: Connection, endpoint: WebhookEndpoint, places: Mapping[str, int]
) -> None:
    rows = [
        {"endpoint": endpoint.name, "source": source, "position": position}
        for source, position in sorted(places.items())
    ]
    keep_rows(connection, hooks.webhook_place, rows)


def _survey(connection: Connection, endpoint: WebhookEndpoint, since_ns: int) -> None:
    query = select(_ROLLUP.tenant, _ROLLUP.hour).where(_ROLLUP.hour >= since_ns).distinct()
    _note_changes(connection, endpoint, connection.execute(query).all())


def _note_changes(connection: Connection, endpoint: WebhookEndpoint, found: Iterable[Any]) -> None:
    rows = [
        {"endpoint": endpoint.name, "tenant": row.tenant, "hour": int(row.hour)} for row in found
    ]
    keep_rows(connection, hooks.webhook_change, rows)


def _follow_usage(
    connection: Connection, endpoint: WebhookEndpoint, places: Mapping[str, int]
) -> bool:
    """Note the hours with new events; whether there are more events."""
    more = False
    for source, end in _rolled_up(connection).items():
        after = places[source]
        until = end
        if USAGE_HOURLY in endpoint.events:
            until = min(end, after + CHUNK)
            more = more or until < end
            hour = (_EVENT.occurred_at - _EVENT.occurred_at % HOUR_NS).label("hour")
            changed = (
                select(_EVENT.tenant, hour)
                .where(_EVENT.shard == int(source.partition(":")[2]))
                .where(_EVENT.seq > after, _EVENT.seq <= until)
                .where(_EVENT.occurred_at >= (endpoint.since_ns or 0))
                .distinct()
            )
            if until > after:
                _note_changes(connection, endpoint, connection.execute(changed).all())
        if until > after:
            _move(connection, endpoint, source, until)
    return more


def _move(connection: Connection, endpoint: WebhookEndpoint, source: str, position: int) -> None:
    here = and_(_PLACE.endpoint == endpoint.name, _PLACE.source == source)
    connection.execute(update(hooks.webhook_place).where(here).values(position=position))


def _tell_hours(connection: Connection, endpoint: WebhookEndpoint, now_ns: int) -> bool:
    """Messages for the hours that are over and have changed; whether more wait."""
    ours = _CHANGE.endpoint == endpoint.name
    due = (
        select(_CHANGE.tenant, _CHANGE.hour)
        .where(ours, _CHANGE.hour <= now_ns - HOUR_NS - GRACE_NS)
        .order_by(_CHANGE.hour, _CHANGE.tenant)
        .limit(_HOURS_AT_ONCE)
    )
    found = connection.execute(due).all()
    for tenant, hour in found:
        lines = _lines(connection, tenant, hour)
        _add(
            connection,
            endpoint,
            (USAGE_HOURLY, tenant, str(hour)),
            partial(usage_data, tenant, hour, lines),
            now_ns,
        )
        told = and_(ours, _CHANGE.tenant == tenant, _CHANGE.hour == hour)
        connection.execute(delete(hooks.webhook_change).where(told))
    return len(found) == _HOURS_AT_ONCE


def _lines(connection: Connection, tenant: str, hour: int) -> list[dict[str, Any]]:
    """What was used in an hour, by what it is told apart by; only what is billable."""
    columns = [column.label(name) for name, column in _DIMENSIONS.items()]
    query = (
        select(
            *columns,
            func.sum(_ROLLUP.quantity).label("quantity"),
            func.sum(_ROLLUP.sell_nano).label("sell_nano"),
        )
        .where(_ROLLUP.tenant == tenant, _ROLLUP.hour == hour, _ROLLUP.billable.is_(True))
        .group_by(*_DIMENSIONS.values())
    )
    rows = [dict(row) for row in connection.execute(query).mappings()]
    for row in rows:
        row.update(quantity=int(row["quantity"]), sell_nano=int(row["sell_nano"]))
    return [row for row in rows if row["quantity"] or row["sell_nano"]]


def _tell_statements(
    connection: Connection, endpoint: WebhookEndpoint, since_ns: int, now_ns: int
) -> None:
    if INVOICE_CLOSED not in endpoint.events:
        return
    closed, told = tables.plan_statement.c, hooks.webhook_message.alias()
    is_told = and_(
        told.c.endpoint == endpoint.name,
        told.c.type == INVOICE_CLOSED,
        told.c.subject == closed.tenant,
        told.c.about == closed.period,
    )
    query = (
        select(closed.tenant, closed.period, closed.body, closed.sha256)
        .outerjoin(told, is_told)
        .where(closed.closed_at >= since_ns, told.c.id.is_(None))
        .order_by(closed.closed_at, closed.tenant)
        .limit(_HOURS_AT_ONCE)
    )
    for row in connection.execute(query).all():
        data = statement_data(orjson.loads(bytes(row.body)), sha256=row.sha256)
        place = INVOICE_CLOSED, row.tenant, row.period
        _add(connection, endpoint, place, partial(_as_it_is, data), now_ns)


def _tell_alerts(
    connection: Connection, endpoint: WebhookEndpoint, after: int, now_ns: int
) -> None:
    query = (
        select(_OUTBOX.id, _OUTBOX.key, _OUTBOX.body)
        .where(_OUTBOX.topic == ALERT_TOPIC, _OUTBOX.id > after)
        .order_by(_OUTBOX.id)
        .limit(_HOURS_AT_ONCE)
    )
    rows = connection.execute(query).all()
    for row in rows:
        body = orjson.loads(row.body)
        kind = f"{ALERT}{body.pop('kind')}"
        if kind in endpoint.events and body.get("endpoint") != endpoint.name:  # not of itself
            place = kind, str(body.get("tenant") or ""), row.key
            data = {**body, "key": row.key, "revision": 1}
            _add(connection, endpoint, place, partial(_as_it_is, data), now_ns)
    if rows:
        _move(connection, endpoint, _ALERTS, rows[-1].id)


def _add(
    connection: Connection,
    endpoint: WebhookEndpoint,
    place: tuple[str, str, str],
    make: Callable[..., dict[str, Any]],
    now_ns: int,
) -> None:
    """A message of what `make` says, unless the last one about it said the very same.

    `place` is its type, its subject, and what of that it is about.
    """
    kind, subject, about = place
    query = (
        select(_MESSAGE.revision, _MESSAGE.digest)
        .where(_MESSAGE.endpoint == endpoint.name, _MESSAGE.type == kind)
        .where(_MESSAGE.subject == subject, _MESSAGE.about == about)
        .order_by(_MESSAGE.revision.desc())
        .limit(1)
    )
    last = connection.execute(query).first()
    revision = 1 if last is None else int(last.revision) + 1
    data = make(revision=revision)
    digest = digest_of(data)
    if last is not None and last.digest == digest:
        return
    name = message_id(kind, subject, about, revision=revision, digest=digest)
    row = {
        "endpoint": endpoint.name,
        "message_id": name,
        "type": kind,
        "subject": subject,
        "about": about,
        "revision": revision,
        "digest": digest,
        "data": orjson.dumps(data).decode(),
        "state": "new",
        "attempts": 0,
        "next_at": now_ns,
        "created_at": now_ns,
        "tried_since": now_ns,
    }
    insert_rows(connection, hooks.webhook_message, [row])


def _as_it_is(data: dict[str, Any], *, revision: int) -> dict[str, Any]:
    """What is told once."""
    assert revision == 1, "its name stands for it"
    return data


# sending


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
