"""What the ledger says of the hours that Stripe is told of, from the rollups.

Rules: a total is read as a whole and never added up from what changed, so that a look too many
changes nothing. Only billable usage counts. What changed is found by a watermark over the events,
which follows that of the rollups: an hour is never taken for done before its rollup has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, update

from metering.settlement.ledger import tables
from metering.settlement.ledger.rollups import HOUR_NS
from metering.settlement.ledger.store import insert_into, keep_rows
from metering.settlement.ledger.stripe_tables import stripe_carry, stripe_hour, stripe_watermark
from metering.settlement.metered import Usage, grain_of
from metering.settlement.stripe_moves import OLDEST_NS
from metering.stripe_settings import StripeSettings

CHUNK = 5_000
"""Events looked at in one transaction."""

_ROLLUP, _EVENT = tables.rollup.c, tables.usage_event.c
_DIMENSIONS: Mapping[str, Any] = {
    "model": _ROLLUP.model,
    "model_version": _ROLLUP.model_version,
    "provider": _ROLLUP.provider,
    "project": _ROLLUP.project,
    "feature": _ROLLUP.feature,
    "api_key": _ROLLUP.api_key_id,
    "status": _ROLLUP.status,
}
DIMENSIONS = (*_DIMENSIONS, "type")
"""What a meter may look at here: a rollup knows no more."""

Totals = Mapping[tuple[str, str, int], int]
"""By tenant, event name and hour."""


def survey(connection: Connection, settings: StripeSettings, now_ns: int) -> int:
    """Write down what the ledger says of every hour that Stripe still takes; how many there are.

    For a new configuration, and from time to time: it finds whatever a watermark had missed.
    """
    _begin_watermarks(connection)
    first = max(settings.since_ns, (now_ns - OLDEST_NS) // HOUR_NS * HOUR_NS)
    where = (_ROLLUP.tenant.in_(list(settings.customers)), _ROLLUP.hour >= first)
    return _write(connection, settings, totals_of(connection, settings, where))


def follow(connection: Connection, settings: StripeSettings) -> bool:
    """Write down what the ledger says of hours with new events; False when there are none."""
    mark, rolled = stripe_watermark, tables.rollup_watermark
    query = select(mark.c.shard, mark.c.seq).order_by(mark.c.shard).with_for_update()
    ends = {row.shard: row.seq for row in connection.execute(select(rolled))}
    keep_rows(connection, mark, [{"shard": shard, "seq": 0} for shard in sorted(ends)])
    found = False
    for shard, after in connection.execute(query).all():
        until = min(ends.get(shard, 0), after + CHUNK)
        if until <= after:
            continue
        found = True
        _write_changed(connection, settings, shard, after, until)
        moved = update(mark).where(mark.c.shard == shard).values(seq=until)
        connection.execute(moved)
    return found


def _write_changed(
    connection: Connection, settings: StripeSettings, shard: int, after: int, until: int
) -> None:
    hour = (_EVENT.occurred_at - _EVENT.occurred_at % HOUR_NS).label("hour")
    changed = (
        select(_EVENT.tenant, hour)
        .where(_EVENT.shard == shard, _EVENT.seq > after, _EVENT.seq <= until)
        .where(_EVENT.tenant.in_(list(settings.customers)))
        .where(_EVENT.occurred_at >= settings.since_ns)
        .distinct()
    )
    hours: dict[str, list[int]] = {}
    for row in connection.execute(changed):
        hours.setdefault(row.tenant, []).append(row.hour)
    for tenant, which in sorted(hours.items()):
        where = (_ROLLUP.tenant == tenant, _ROLLUP.hour.in_(which))
        _write(connection, settings, totals_of(connection, settings, where))


def is_behind(connection: Connection) -> bool:
    """Whether there is something to follow: asked without the write lock."""
    ends = {row.shard: row.seq for row in connection.execute(select(tables.rollup_watermark))}
    marks = {row.shard: row.seq for row in connection.execute(select(stripe_watermark))}
    return any(ends[shard] > marks.get(shard, 0) for shard in ends)


def totals_of(
    connection: Connection, settings: StripeSettings, where: Iterable[Any]
) -> dict[tuple[str, str, int], int]:
    """What the meters show by tenant and hour. Zero where other things were used."""
    columns = [column.label(name) for name, column in _DIMENSIONS.items()]
    keys = [_ROLLUP.tenant, _ROLLUP.hour, _ROLLUP.unit]
    sums = [func.sum(_ROLLUP[name]).label(name) for name in ("quantity", "sell_nano", "cost_nano")]
    query = (
        select(*keys, *columns, *sums)
        .where(_ROLLUP.billable.is_(True), *where)
        .group_by(*keys, *_DIMENSIONS.values())
    )
    usages: dict[tuple[str, int], Usage] = {}
    for row in connection.execute(query):
        grain = grain_of(row.unit, {name: getattr(row, name) for name in _DIMENSIONS})
        amounts = int(row.quantity), int(row.sell_nano), int(row.cost_nano)
        usages.setdefault((row.tenant, row.hour), Usage()).add_amounts(grain, amounts, {})
    return {
        (tenant, each.event_name, hour): sum(row.quantity for row in usage.rows(each.meter))
        for (tenant, hour), usage in usages.items()
        for each in settings.meters
    }


def wanted_of(
    connection: Connection, settings: StripeSettings, where: Iterable[Any]
) -> dict[tuple[str, str, int], int]:
    """What Stripe should show by now: the meters, with what a person carried to other hours."""
    totals = totals_of(connection, settings, where)
    carried = _carried(connection, {key[0] for key in totals})
    return {key: total + carried.get(key, 0) for key, total in totals.items()}


def _begin_watermarks(connection: Connection) -> None:
    """A shard that was never looked at begins where its rollups are: the survey has the rest."""
    rows = [
        {"shard": row.shard, "seq": row.seq}
        for row in connection.execute(
            select(tables.rollup_watermark).order_by(tables.rollup_watermark.c.shard)
        )
    ]
    keep_rows(connection, stripe_watermark, rows)


def _write(connection: Connection, settings: StripeSettings, totals: Totals) -> int:
    carried = _carried(connection, {key[0] for key in totals})
    rows = [
        {
            "tenant": tenant,
            "event_name": event_name,
            "hour": hour,
            "customer": settings.customers[tenant],
            "mode": str(settings.mode),
            "wanted": total + carried.get((tenant, event_name, hour), 0),
            "acked": 0,
            "state": "idle",
            "rev": 0,
            "tries": 0,
            "answers": 0,
            "next_at": 0,
            "repairs": 0,
        }
        for (tenant, event_name, hour), total in sorted(totals.items())
    ]
    _write_nothing(connection, [row for row in rows if not row["wanted"]])
    rows = [row for row in rows if row["wanted"]]
    if rows:
        insert = insert_into(connection, stripe_hour)
        keys = [column.name for column in stripe_hour.primary_key]
        wanted = {"wanted": insert.excluded.wanted}
        connection.execute(insert.on_conflict_do_update(index_elements=keys, set_=wanted), rows)
    return len(rows)


def _write_nothing(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """What was taken back again; an hour in which a meter never counted needs no row."""
    if not rows:
        return
    keys = [column.name for column in stripe_hour.primary_key]
    these = [stripe_hour.c[name] == bindparam(f"of_{name}") for name in keys]
    query = update(stripe_hour).where(*these, stripe_hour.c.wanted != 0).values(wanted=0)
    connection.execute(query, [{f"of_{name}": row[name] for name in keys} for row in rows])


def _carried(connection: Connection, tenants: set[str]) -> dict[tuple[str, str, int], int]:
    """What was carried into an hour, less what was carried out of it."""
    found: dict[tuple[str, str, int], int] = {}
    query = select(stripe_carry).where(stripe_carry.c.tenant.in_(sorted(tenants)))
    for row in connection.execute(query):
        out = (row.tenant, row.event_name, row.from_hour)
        found[out] = found.get(out, 0) - row.quantity
        if row.into_hour is not None:
            into = (row.tenant, row.event_name, row.into_hour)
            found[into] = found.get(into, 0) + row.quantity
    return found
