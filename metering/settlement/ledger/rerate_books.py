"""Booked events rated again: what it would come to, and booking it.

Rules: adjustments go straight into the ledger, by the writer that books what comes from the
streams: chained, posted and rolled up like everything else, and without a trip through Redis,
whose windows they do not concern. Every one has an id that follows from its event and from how
many adjustments that has; whoever dies halfway is finished by a repeat, and a repeat of what is
done finds nothing to do. What was asked is written down before the first adjustment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Any

import orjson
from sqlalchemy import Connection, or_, select

from metering.events import Kind, decode
from metering.progress import EVERY, Tell, quiet
from metering.redis_keys import RedisKeys
from metering.settlement.batches import Batch
from metering.settlement.ledger import tables
from metering.settlement.ledger.price_tables import rerating
from metering.settlement.ledger.rows import decode_amounts
from metering.settlement.ledger.store import Ledger, insert_into
from metering.settlement.ledger.writer import write_batch
from metering.settlement.rating import UnitAmount
from metering.settlement.rerating import (
    Change,
    Era,
    Standing,
    Unpriced,
    booking,
    era_at,
    original_of,
    rerate,
    stand,
)

BATCH = 500
_FETCH = 1_000
_EVENT = tables.usage_event.c
_COLUMNS = (
    _EVENT.event_id,
    _EVENT.tenant,
    _EVENT.occurred_at,
    _EVENT.payload,
    _EVENT.amounts,
    _EVENT.unpriced,
)


class RerateConflictError(Exception):
    """Somebody else rated the same events again meanwhile; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which events are rated again: those admitted from `since_ns` on and before `until_ns`."""

    since_ns: int
    until_ns: int
    tenant: str | None = None
    model: str | None = None
    """The upstream model, or the public name."""


@dataclass(slots=True)
class Sums:
    """What a tenant's events of a model come to, before and after."""

    events: int = 0
    changed: int = 0
    unpriced: int = 0
    """Events that the other book has no price for; they stay as they are."""
    sell_nano: int = 0
    cost_nano: int = 0
    sell_change_nano: int = 0
    cost_change_nano: int = 0


@dataclass(slots=True)
class Outlook:
    """What rating again comes to, by tenant and upstream model."""

    by_model: dict[tuple[str, str], Sums] = field(default_factory=dict)

    @property
    def changed(self) -> int:
        """How many events would get an adjustment."""
        return sum(each.changed for each in self.by_model.values())

    def add(self, standing: Standing, found: Change | Unpriced | None) -> None:
        """Take an event in."""
        event = standing.event
        sums = self.by_model.setdefault((event.tenant, event.model_upstream), Sums())
        sums.events += 1
        sums.sell_nano += standing.sell_nano
        sums.cost_nano += standing.cost_nano
        if isinstance(found, Unpriced):
            sums.unpriced += 1
        elif found is not None:
            sums.changed += 1
            sums.sell_change_nano += found.sell_nano
            sums.cost_change_nano += found.cost_nano


def knows_reratings(ledger: Ledger) -> bool:
    """Whether the ledger has the tables of this module: the worker brings it up to date."""
    return (ledger.revision() or "") >= "0018"


def outlook(ledger: Ledger, asked: Asked, eras: Sequence[Era], *, tell: Tell = quiet) -> Outlook:
    """What it would come to. Nothing is written; the events so far are told."""
    found = Outlook()
    with ledger.read() as connection:
        for count, standing in enumerate(standings(connection, asked), start=1):
            if count % EVERY == 0:
                tell(count, None)
            found.add(standing, rerate(standing, era_at(eras, standing.event.occurred_at)))
    return found


def apply(
    ledger: Ledger,
    keys: RedisKeys,
    asked: Asked,
    eras: Sequence[Era],
    *,
    bodies: Mapping[str, bytes],
    by: str,
    reason: str,
    now_ns: int,
    tell: Tell = quiet,
) -> Outlook:
    """Book the adjustments; `bodies` are of the versions that they name. A repeat books nothing."""
    planned = outlook(ledger, asked, eras, tell=tell)
    if not planned.changed:
        return planned
    _note(ledger, asked, eras, planned, by=by, reason=reason, now_ns=now_ns)
    done = Outlook()
    waiting: list[Change] = []
    with ledger.read() as connection:
        for standing in standings(connection, asked):
            found = rerate(standing, era_at(eras, standing.event.occurred_at))
            done.add(standing, found)
            if isinstance(found, Change):
                waiting.append(found)
            if len(waiting) >= BATCH:
                _book(ledger, keys, waiting, bodies, now_ns)
                waiting = []
                tell(done.changed, planned.changed)
    if waiting:
        _book(ledger, keys, waiting, bodies, now_ns)
    return done


def standings(connection: Connection, asked: Asked) -> Iterator[Standing]:
    """Every event that was asked for, with its adjustments so far; in the order of tenants and
    times, so that no more than those of one moment are in memory."""
    query = (
        select(*_COLUMNS)
        .where(_EVENT.occurred_at >= asked.since_ns, _EVENT.occurred_at < asked.until_ns)
        .order_by(_EVENT.tenant, _EVENT.occurred_at, _EVENT.seq)
        .execution_options(yield_per=_FETCH)
    )
    if asked.tenant is not None:
        query = query.where(_EVENT.tenant == asked.tenant)
    if asked.model is not None:
        names = _EVENT.model_upstream == asked.model, _EVENT.model_requested == asked.model
        query = query.where(or_(*names))
    moment = attrgetter("tenant", "occurred_at")
    for _, rows in groupby(connection.execute(query), key=moment):
        yield from standings_of(rows)


def standings_of(rows: Iterable[Any]) -> Iterator[Standing]:
    """The events among these rows, which have all of their adjustments with them, in order."""
    originals = []
    adjustments: dict[str, list[Any]] = {}
    for row in rows:
        event = decode(bytes(row.payload))
        amounts = {unit: UnitAmount(*each) for unit, each in decode_amounts(row.amounts).items()}
        original = original_of(event)
        if original is not None:
            adjustments.setdefault(original, []).append((event, amounts))
        elif event.kind != Kind.ADJUSTMENT:
            originals.append((event, amounts, bool(row.unpriced)))
    for event, amounts, is_unpriced in originals:
        found = adjustments.get(event.event_id, ())
        yield stand(event, amounts, is_unpriced=is_unpriced, adjustments=found)


def list_reratings(ledger: Ledger, limit: int = 50) -> list[dict[str, Any]]:
    """What was rated again, newest first."""
    query = select(rerating).order_by(rerating.c.id.desc()).limit(limit)
    with ledger.read() as connection:
        return [
            {
                "id": row.id,
                "by": row.rated_by,
                "reason": row.reason,
                "begun_at": row.begun_at,
                **orjson.loads(bytes(row.body)),
            }
            for row in connection.execute(query)
        ]


def _book(
    ledger: Ledger,
    keys: RedisKeys,
    changes: Sequence[Change],
    bodies: Mapping[str, bytes],
    now_ns: int,
) -> None:
    made = [booking(each, keys.shard(each.standing.event.tenant)) for each in changes]
    report = write_batch(ledger, Batch(made, []), prices=bodies, now_ns=now_ns)
    if report.conflicts:
        raise RerateConflictError(
            f"{report.conflicts} of these events were rated again by somebody else meanwhile: what "
            "they booked stands. Run it again to see what is left to do"
        )


def _note(
    ledger: Ledger,
    asked: Asked,
    eras: Sequence[Era],
    planned: Outlook,
    *,
    by: str,
    reason: str,
    now_ns: int,
) -> None:
    sums = planned.by_model.values()
    body = {
        "since_ns": asked.since_ns,
        "until_ns": asked.until_ns,
        "tenant": asked.tenant,
        "model": asked.model,
        "versions": [
            [era.effective_from_ns, *(side and side.version for side in (era.cost, era.sell))]
            for era in eras
        ],
        "events": planned.changed,
        "sell_change_nano": sum(each.sell_change_nano for each in sums),
        "cost_change_nano": sum(each.cost_change_nano for each in sums),
    }
    row = {
        "body": orjson.dumps(body, option=orjson.OPT_SORT_KEYS),
        "rated_by": by,
        "reason": reason,
        "begun_at": now_ns,
    }
    with ledger.write() as connection:
        connection.execute(insert_into(connection, rerating), [row])
