"""Exports of providers and comparisons with them, in the ledger; and how a correction is booked.

Rules: the newest export that covers a day speaks for it. A comparison is stored as it was made and
never changed. A correction is an event of kind `adjustment` with a cost and no quantity, billed to
nobody, whose id follows from the comparison: booked once, however often it is asked for. It is
booked only while the ledger says of its days what it said when they were compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, select

from metering.events import Kind, Reason, UsageEvent, encode, payload_hash
from metering.ids import uuid7
from metering.redis_keys import RedisKeys
from metering.settlement.batches import Batch, Booking
from metering.settlement.entries import Arrival, Entry
from metering.settlement.exports.rows import (
    COST,
    USAGE,
    CostRow,
    Export,
    UsageRow,
    next_day,
)
from metering.settlement.ledger import tables
from metering.settlement.ledger.outbox import put_alerts
from metering.settlement.ledger.provider_tables import (
    provider_export,
    reconciliation,
    reconciliation_apply,
)
from metering.settlement.ledger.provider_usage import own_usage, start_ns
from metering.settlement.ledger.store import Ledger, insert_into
from metering.settlement.ledger.writer import write_batch
from metering.settlement.rating import RatedEvent, UnitAmount
from metering.settlement.reconcile import ALERT_PPM, EVERYTHING, TRUE_UP, Account, OwnUsage, Terms
from metering.settlement.reconcile_money import MARGIN_PPM, report

FINAL_NS = 48 * 3_600 * 10**9
"""So long after its end the provider's numbers of a day still change."""

_EVENT = tables.usage_event.c


class ApplyRefusedError(Exception):
    """Nothing was booked; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What is compared with which account of a provider."""

    provider: str
    since: str
    until: str
    account: Account = EVERYTHING
    alert_ppm: int = ALERT_PPM
    margin_ppm: int = MARGIN_PPM


@dataclass(frozen=True, slots=True)
class Run:
    """A comparison as it was stored."""

    id: int
    provider: str
    since: str
    until: str
    ran_by: str
    ran_at: int
    body: Mapping[str, Any]
    applied: Mapping[str, Any] | None


def knows_exports(ledger: Ledger) -> bool:
    """Whether the ledger has the tables of this module: the worker brings it up to date."""
    return (ledger.revision() or "") >= "0010"


def keep_export(
    ledger: Ledger, provider: str, export: Export, *, source: str, sha256: str, fetched_at: int
) -> None:
    """Store what a provider said at a time; `sha256` is of the bytes that came."""
    with ledger.write() as connection:
        row = {
            "provider": provider,
            "kind": export.kind,
            "since": export.since,
            "until": export.until,
            "source": source,
            "sha256": sha256,
            "body": export.encode(),
            "fetched_at": fetched_at,
        }
        connection.execute(insert_into(connection, provider_export), [row])


def run(ledger: Ledger, asked: Compared, *, by: str, now_ns: int) -> Run:
    """Compare, store, and raise an alert for every model that is too far off."""
    with ledger.read() as connection:
        usage_days, usage = _told(connection, asked, USAGE)
        cost_days, costs = _told(connection, asked, COST)
        own = own_usage(connection, asked.provider, asked.since, asked.until)
    terms = Terms(usage_days, cost_days, asked.account, asked.alert_ppm)
    body = report(own, usage, costs, terms, margin_ppm=asked.margin_ppm)
    body["own_sha256"] = _digest(own, _days(body))
    data = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    with ledger.write() as connection:
        row = {
            "provider": asked.provider,
            "since": asked.since,
            "until": asked.until,
            "body": data,
            "sha256": hashlib.sha256(data).hexdigest(),
            "ran_by": by,
            "ran_at": now_ns,
        }
        insert = insert_into(connection, reconciliation).returning(reconciliation.c.id)
        run_id = int(connection.execute(insert, [row]).scalar_one())
        put_alerts(connection, _alerts(asked, run_id, body), now_ns)
    found = find_run(ledger, run_id)
    assert found is not None
    return found


def find_run(ledger: Ledger, run_id: int) -> Run | None:
    """A stored comparison."""
    with ledger.read() as connection:
        return next(_runs(connection, run_id), None)


def list_runs(ledger: Ledger, provider: str | None = None, *, limit: int = 50) -> list[Run]:
    """The newest comparisons, newest first."""
    with ledger.read() as connection:
        return list(_runs(connection, None, provider=provider, limit=limit))


def apply_run(
    ledger: Ledger, keys: RedisKeys, run_id: int, *, by: str, reason: str, now_ns: int
) -> int:
    """Book the corrections of a comparison; how many were new. A repeat books nothing.

    ApplyRefusedError where the ledger says something else of those days by now.
    """
    found = find_run(ledger, run_id)
    if found is None:
        raise ApplyRefusedError(f"there is no comparison {run_id}: see `weir reconcile show`")
    if not found.body["corrections"]:
        raise ApplyRefusedError(f"comparison {run_id} proposes no corrections")
    if found.applied is None:
        _claim(ledger, found, by=by, reason=reason, now_ns=now_ns)
        found = find_run(ledger, run_id)
        assert found is not None
        assert found.applied is not None
    bookings = [_booking(found, n, keys) for n in range(len(found.body["corrections"]))]
    assert found.applied is not None
    written = write_batch(
        ledger, Batch(bookings, []), prices={}, now_ns=found.applied["applied_at"]
    )
    return written.settled


def _told(connection: Connection, asked: Compared, kind: str) -> tuple[dict[str, bool], list[Any]]:
    """The days that are covered, each with whether it is final, and their rows."""
    table = provider_export
    query = (
        select(table.c.since, table.c.until, table.c.body, table.c.fetched_at)
        .where(table.c.provider == asked.provider, table.c.kind == kind)
        .where(table.c.until > asked.since, table.c.since < asked.until)
        .order_by(table.c.fetched_at.desc(), table.c.id.desc())
    )
    days: dict[str, bool] = {}
    rows: list[UsageRow | CostRow] = []
    for row in connection.execute(query):
        new = set()
        day = max(row.since, asked.since)
        while day < min(row.until, asked.until):
            if day not in days:
                new.add(day)
                days[day] = row.fetched_at >= start_ns(next_day(day)) + FINAL_NS
            day = next_day(day)
        if new:
            export = Export.decode(bytes(row.body))
            rows += [each for each in export.usage if each.day in new]
            rows += [each for each in export.costs if each.day in new]
    return days, rows


def _runs(
    connection: Connection, run_id: int | None, *, provider: str | None = None, limit: int = 1
) -> Iterator[Run]:
    table, applied = reconciliation, reconciliation_apply
    query = (
        select(table, applied.c.applied_by, applied.c.reason, applied.c.applied_at)
        .outerjoin(applied, applied.c.reconciliation_id == table.c.id)
        .order_by(table.c.id.desc())
        .limit(limit)
    )
    if run_id is not None:
        query = query.where(table.c.id == run_id)
    if provider is not None:
        query = query.where(table.c.provider == provider)
    names = ("applied_by", "reason", "applied_at")
    for row in connection.execute(query):
        done = {name: getattr(row, name) for name in names} if row.applied_at else None
        said = orjson.loads(bytes(row.body))
        yield Run(row.id, row.provider, row.since, row.until, row.ran_by, row.ran_at, said, done)


def _claim(ledger: Ledger, found: Run, *, by: str, reason: str, now_ns: int) -> None:
    """Note that the corrections are booked, while nobody else books: then only this run may.

    The days are read without a lock, and again when somebody booked to them before it was there.
    """
    days = _days(found.body)
    since, until = min(days), next_day(max(days))
    mark = tables.watermark.c
    while True:
        with ledger.read() as connection:
            heads = connection.execute(select(mark.shard, mark.events)).all()
            own = own_usage(connection, found.provider, since, until)
        with ledger.write() as connection:
            query = select(mark.shard).order_by(mark.shard).with_for_update()
            shards = connection.execute(query).scalars().all()
            read = {row.shard: row.events for row in heads}
            period = (_EVENT.occurred_at >= start_ns(since), _EVENT.occurred_at < start_ns(until))
            newer = (
                select(_EVENT.seq)
                .where(_EVENT.shard == shard, _EVENT.seq > read.get(shard, 0), *period)
                .where(_EVENT.provider == found.provider)
                .limit(1)
                for shard in shards
            )
            if any(connection.execute(each).first() for each in newer):
                continue
            _refuse_unfinished(connection, found.provider)
            if _digest(own, days) != found.body["own_sha256"]:
                raise ApplyRefusedError(
                    "the ledger says something else of these days by now (late events, or "
                    "corrections that were booked): compare again with `weir reconcile run`"
                )
            note = {"applied_by": by, "reason": reason, "applied_at": now_ns}
            row = {"reconciliation_id": found.id, **note}
            connection.execute(insert_into(connection, reconciliation_apply), [row])
            return


def _refuse_unfinished(connection: Connection, provider: str) -> None:
    """One that died between its note and its events has to be ended first."""
    query = select(reconciliation.c.id, reconciliation.c.body).join(
        reconciliation_apply, reconciliation_apply.c.reconciliation_id == reconciliation.c.id
    )
    for run_id, body in connection.execute(query.where(reconciliation.c.provider == provider)):
        corrections = orjson.loads(bytes(body))["corrections"]
        last = _event_id(run_id, len(corrections) - 1, corrections[-1]["day"])
        if connection.execute(select(_EVENT.seq).where(_EVENT.event_id == last)).first() is None:
            raise ApplyRefusedError(
                f"comparison {run_id} was not booked to its end: apply that one first"
            )


def _booking(found: Run, number: int, keys: RedisKeys) -> Booking:
    correction = found.body["corrections"][number]
    assert found.applied is not None
    event_id = _event_id(found.id, number, correction["day"])
    at_ns = start_ns(next_day(correction["day"])) - 1
    event = UsageEvent(
        event_id=event_id,
        exchange_id=event_id,
        tenant=correction["tenant"],
        project=correction["project"],
        api_key_id=correction["key"],
        request_id=f"reconciliation-{found.id}",
        occurred_at=at_ns,
        completed_at=at_ns,
        emitted_at=found.applied["applied_at"],
        kind=Kind.ADJUSTMENT,
        attempt=0,
        correction_reason=f"{correction['gap']}: {found.applied['reason']}",
        provider=found.provider,
        model_requested=correction["upstream"],
        model_upstream=correction["upstream"],
        model_answered=correction["model"] or None,
        usage_source="provider",
        cost_nano=correction["cost_nano"],
        billable=False,
        reason_code=Reason.RECONCILED,
    )
    body = encode(event)
    entry = Entry(keys.shard(event.tenant), "0-0", body, payload_hash(body))
    amounts = {TRUE_UP: UnitAmount(0, None, 0, event.cost_nano)}
    return Booking(Arrival(entry, event, body), RatedEvent(event, amounts, 0, event.cost_nano, ()))


def _event_id(run_id: int, number: int, day: str) -> str:
    random = hashlib.sha256(f"reconciliation {run_id} {number}".encode()).digest()[:10]
    return uuid7(start_ns(day) // 10**6, random)


def _alerts(
    asked: Compared, run_id: int, body: Mapping[str, Any]
) -> list[tuple[str, dict[str, Any]]]:
    names = ("model", "booked_nano", "provider_nano", "drift_ppm", "true_margin_ppm")
    return [
        (
            f"provider_drift:{run_id}:{row['model']}",
            {
                "reconciliation": run_id,
                "provider": asked.provider,
                "since": asked.since,
                "until": asked.until,
                **{name: row[name] for name in names},
            },
        )
        for row in body["models"]
        if row["is_over"]
    ]


def _days(body: Mapping[str, Any]) -> set[str]:
    return {one["day"] for one in body["corrections"]}


def _digest(own: Iterable[OwnUsage], days: set[str]) -> str:
    rows = [astuple(one) for one in own if one.day in days]
    return hashlib.sha256(orjson.dumps(rows)).hexdigest()
