"""`weir ledger verify`: whether adjustments of rated-again events come to what they name.

Each names an event of the same tenant and time; their numbers have no gap; and the event with all
of them comes to what the versions that the last one names make of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, select

from metering.events import Reason, decode
from metering.prices import RatesByModel
from metering.settlement.ledger import tables
from metering.settlement.ledger.rerate_books import standings_of
from metering.settlement.rerating import Change, Era, Standing, adjustment_id, original_of, rerate

_EVENT, _BODY = tables.usage_event.c, tables.price_body.c
_COLUMNS = (_EVENT.event_id, _EVENT.payload, _EVENT.amounts, _EVENT.unpriced)


def verify_rerates(connection: Connection) -> Iterator[str]:
    """What does not hold, in words."""
    place = (_EVENT.tenant, _EVENT.occurred_at)
    moments = (
        select(*place)
        .where(_EVENT.reason_code == Reason.RERATED)
        .distinct()
        .order_by(*place)
        .execution_options(yield_per=1_000)
    )
    cards: dict[str, RatesByModel | None] = {}
    for tenant, occurred_at in list(connection.execute(moments)):
        at = (_EVENT.tenant == tenant, _EVENT.occurred_at == occurred_at)
        rows = connection.execute(select(*_COLUMNS).where(*at).order_by(_EVENT.seq)).all()
        try:
            yield from _verify_moment(connection, rows, cards)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            yield f"adjustments of {tenant} at {occurred_at} cannot be read: {error}"


def _verify_moment(
    connection: Connection, rows: Sequence[Any], cards: dict[str, RatesByModel | None]
) -> Iterator[str]:
    events = [decode(bytes(row.payload)) for row in rows]
    known = {event.event_id: event for event in events}
    ours = [event for event in events if original_of(event) is not None]
    for original, found in groupby(sorted(ours, key=_original), key=_original):
        ids = {event.event_id for event in found}
        if original not in known:
            yield f"adjustment {min(ids)} is of event {original}, which is not there"
            continue
        at = known[original].occurred_at
        wanted = {adjustment_id(original, at, n) for n in range(1, len(ids) + 1)}
        if ids != wanted:
            yield f"adjustments of event {original} are not numbered from 1 to {len(ids)}"
    for standing in standings_of(rows):
        if standing.adjusted:
            yield from _verify_standing(connection, standing, cards)


def _original(event: Any) -> str:
    return original_of(event) or ""


def _verify_standing(
    connection: Connection, standing: Standing, cards: dict[str, RatesByModel | None]
) -> Iterator[str]:
    event_id = standing.event.event_id
    # what is not billable names a price that nobody needed, so that it may not be kept
    versions = standing.cost_version, standing.sell_version if standing.event.billable else None
    for version in versions:
        if version is not None and version not in cards:
            body = connection.execute(select(_BODY.body).where(_BODY.version == version)).scalar()
            cards[version] = None if body is None else RatesByModel(bytes(body), version=version)
        if version is not None and cards[version] is None:
            yield f"event {event_id} is rated by prices {version}, which the ledger does not have"
            return
    sides = [None if version is None else cards[version] for version in versions]
    if isinstance(rerate(standing, Era(0, sides[0], sides[1])), Change):
        yield f"event {event_id} with its adjustments is not what its prices come to"
