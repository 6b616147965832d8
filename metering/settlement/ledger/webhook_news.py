"""What other systems have to be told, found in the ledger: hours, closed months, alerts. SQL only.

Rules: what is new is found by places in what the ledger has already, moved in the transaction that
writes the messages; so nothing is told twice as new, and nothing is passed over. An hour is read as
a whole from the rollups, and told when it is over.
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
from metering.settlement.ledger.store import Ledger, insert_rows, keep_rows
from metering.settlement.webhooks import (
    GRACE_NS,
    HOUR_NS,
    digest_of,
    message_id,
    statement_data,
    usage_data,
)
from metering.webhook_settings import INVOICE_CLOSED, USAGE_HOURLY, WebhookEndpoint, event_of

CHUNK = 5_000
"""Events looked at in one transaction."""
_AT_ONCE = 200

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
        .limit(_AT_ONCE)
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
    return len(found) == _AT_ONCE


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
        .limit(_AT_ONCE)
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
        .limit(_AT_ONCE)
    )
    rows = connection.execute(query).all()
    for row in rows:
        body = orjson.loads(row.body)
        kind = event_of(body.pop("kind"))
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
