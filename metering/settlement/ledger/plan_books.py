"""Plans in the ledger: their versions, what a month comes to by them, and its close.

Rules: a version that was stored is never another; a month that was closed is never written again.
Closing books one balanced transaction per (tenant, month, plan version, component), by which the
receivable comes to the statement's total; the events keep the price of their admission, and grants
that were drawn from at it are settled with the same transaction (`credit_closing`). What came
after the close is in the next statement. A month is read without a lock, and read again when
somebody booked to it before the lock was there.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
from sqlalchemy import Connection, func, select

from metering.plans import Assignment, Plan, Term, read_plan, terms_of_month
from metering.settlement.invoices import events_digest, line_kind, period_bounds_ns
from metering.settlement.journal import adjustment_transaction
from metering.settlement.lateness import Known, known_of, late_of, names_of, with_late
from metering.settlement.ledger import tables
from metering.settlement.ledger.credit_books import knows_credits
from metering.settlement.ledger.credit_closing import (
    Settling,
    book_settling,
    settling_of,
    undrawn_shards,
)
from metering.settlement.ledger.credit_draws import draw_credits
from metering.settlement.ledger.posted import post
from metering.settlement.ledger.rows import decode_amounts
from metering.settlement.ledger.store import Ledger, insert_rows
from metering.settlement.metered import Grain, Usage, grain_of
from metering.settlement.rating import SLA_CREDIT
from metering.settlement.statements import (
    Statement,
    entries_of,
    make_statement,
    new_usage,
    read_terms,
    sha256_of,
    statement_bytes,
)
from metering.settlement.utc import day_of, start_of_day_ns

GRACE_NS = 3_600_000_000_000
"""So long after the end of a month its last events are waited for."""

_FETCH = 1_000
_EVENT = tables.usage_event.c
READ = (
    _EVENT.occurred_at,
    _EVENT.kind,
    _EVENT.project,
    _EVENT.model_upstream,
    _EVENT.model_requested,
    _EVENT.model_version,
    _EVENT.provider,
    _EVENT.feature,
    _EVENT.api_key_id,
    _EVENT.status,
    _EVENT.sell_version,
    _EVENT.user_scope,
    _EVENT.session,
    _EVENT.run,
    _EVENT.request_id,
    _EVENT.amounts,
    _EVENT.payload_hash,
)


class PlanEditedError(Exception):
    """A plan has other terms now than were stored for the same day."""

    def __init__(self, plan: Plan, kept: str) -> None:
        super().__init__(
            f"plan {plan.id!r} from {plan.effective_from} is in the ledger with other terms "
            f"(version {kept}, now {plan.version}): give the new terms an effective_from of their "
            "own and keep the old ones"
        )


class MonthOpenError(Exception):
    """The month is not over, so it cannot be closed."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What is charged by: the plans of the file, and the tenant's assignments."""

    plans: Sequence[Plan] = ()
    assignments: Sequence[Assignment] = ()


@dataclass(frozen=True, slots=True)
class Closed:
    """A closed month's statement as it was stored; `is_new` when this closed it."""

    body: dict[str, Any]
    sha256: str
    closed_at: int
    is_new: bool


def knows_plans(ledger: Ledger) -> bool:
    """Whether the ledger has the tables of this module: the worker brings it up to date."""
    return (ledger.revision() or "") >= "0008"


def keep_plans(ledger: Ledger, plans: Iterable[Plan], now_ns: int) -> list[str]:
    """Store these terms for ever; the versions that are new. PlanEditedError for changed ones."""
    with ledger.write() as connection:
        return _keep(connection, plans, now_ns)


def _keep(connection: Connection, plans: Iterable[Plan], now_ns: int) -> list[str]:
    table = tables.plan_version
    kept = {
        (row.plan, row.effective_from): row.version for row in connection.execute(select(table))
    }
    fresh = []
    for plan in plans:
        found = kept.get((plan.id, plan.effective_from.isoformat()))
        if found is None:
            fresh.append(plan)
        elif found != plan.version:
            raise PlanEditedError(plan, found)
    rows = [
        {
            "version": plan.version,
            "plan": plan.id,
            "effective_from": plan.effective_from.isoformat(),
            "body": plan.body(),
            "stored_at": now_ns,
        }
        for plan in fresh
    ]
    insert_rows(connection, table, rows)
    return [plan.version for plan in fresh]


def kept_plans(connection: Connection) -> dict[str, Plan]:
    """Every version in the ledger, by its name."""
    rows = connection.execute(select(tables.plan_version)).all()
    return {row.version: read_plan(bytes(row.body), version=row.version) for row in rows}


def statement_of(ledger: Ledger, tenant: str, period: str, terms: Terms) -> Statement:
    """What an open month comes to so far, late events of closed ones included; nothing is written.

    LookupError when the plan has no version for a day of the month; ValueError for a malformed
    period.
    """
    with ledger.read() as connection:
        return _statement(connection, tenant, period, terms)


def closed_statement(ledger: Ledger, tenant: str, period: str) -> Closed | None:
    """The statement of a closed month, as it was stored."""
    with ledger.read() as connection:
        return _closed(connection, tenant, period)


def has_statements(ledger: Ledger, tenant: str) -> bool:
    """Whether some month of the tenant is closed."""
    query = select(tables.plan_statement.c.period).where(tables.plan_statement.c.tenant == tenant)
    with ledger.read() as connection:
        return connection.execute(query.limit(1)).first() is not None


def close_month(ledger: Ledger, tenant: str, period: str, terms: Terms, *, now_ns: int) -> Closed:
    """Close a tenant's month: store its statement and book its entries. A repeat changes nothing.

    MonthOpenError before the month and its grace are over, PlanEditedError, and the errors of
    `statement_of`.
    """
    _, end_ns = period_bounds_ns(period)
    if now_ns < end_ns + GRACE_NS:
        minutes = GRACE_NS // 60_000_000_000
        raise MonthOpenError(f"{period} can be closed {minutes} minutes after its end (UTC)")
    has_credits = knows_credits(ledger)
    while True:
        with ledger.read() as connection:
            if (found := _closed(connection, tenant, period)) is not None:
                return found
            statement = _statement(connection, tenant, period, terms)
            behind = undrawn_shards(connection, tenant) if has_credits else []
        draw_credits(ledger, behind, now_ns=now_ns)
        with ledger.write() as connection:
            _lock(connection)
            if (found := _closed(connection, tenant, period)) is not None:
                return found
            if _counts(connection, tenant, statement) != _said(connection, tenant, statement):
                continue
            if has_credits and undrawn_shards(connection, tenant):
                continue
            closed = _close(connection, statement, terms, now_ns)
            if has_credits:
                said = _said_before(connection, tenant, closed.body)
                book_settling(connection, closed.body, said, now_ns)
            return closed


def settling(ledger: Ledger, body: Mapping[str, Any]) -> Settling:
    """What closing an open month by this statement's body would do to the tenant's grants."""
    if not knows_credits(ledger):
        return Settling((), ())
    with ledger.read() as connection:
        return settling_of(connection, body, _said_before(connection, body["tenant"], body))


def _said_before(connection: Connection, tenant: str, body: Mapping[str, Any]) -> dict[str, int]:
    """What late months came to by the statements before this one."""
    bodies = [each for each in _bodies(connection, tenant) if each["period"] != body["period"]]
    said = {month: known_of(month, bodies) for month in body["late"]}
    return {month: each.list_nano + sum(each.entries.values()) for month, each in said.items()}


def _lock(connection: Connection) -> None:
    """Keep everybody else from booking, as `writer` does for the shards of a batch."""
    mark = tables.watermark
    connection.execute(select(mark.c.shard).order_by(mark.c.shard).with_for_update()).all()


def _close(connection: Connection, statement: Statement, terms: Terms, now_ns: int) -> Closed:
    _keep(connection, terms.plans, now_ns)
    body = statement.body()
    transactions = [
        adjustment_transaction(statement.tenant, amount, idem_key=key)
        for key, amount in entries_of(body).items()
    ]
    post(connection, transactions, now_ns)
    data = statement_bytes(body)
    sha256 = sha256_of(data)
    place = {"tenant": statement.tenant, "period": statement.period}
    row = {**place, "body": data, "sha256": sha256, "closed_at": now_ns}
    insert_rows(connection, tables.plan_statement, [row])
    return Closed(body, sha256, now_ns, is_new=True)


def _counts(connection: Connection, tenant: str, statement: Statement) -> dict[str, int]:
    """How many billable events the month and the closed ones before it have now."""
    months = [body["period"] for body in _bodies(connection, tenant)]
    closed = [month for month in months if month < statement.period]
    return {month: _count(connection, tenant, month) for month in (*closed, statement.period)}


def _said(connection: Connection, tenant: str, statement: Statement) -> dict[str, int]:
    """How many of them the statement and those before it speak of."""
    bodies = _bodies(connection, tenant)
    months = [body["period"] for body in bodies if body["period"] < statement.period]
    said = {month: known_of(month, bodies).event_count for month in months}
    for month, late in statement.late.items():
        said[month] += late["event_count"]
    return {**said, statement.period: statement.event_count}


def _statement(connection: Connection, tenant: str, period: str, terms: Terms) -> Statement:
    kept = kept_plans(connection)
    days = {(plan.id, plan.effective_from) for plan in terms.plans}
    others = [plan for plan in kept.values() if (plan.id, plan.effective_from) not in days]
    start_ns, end_ns = period_bounds_ns(period)
    cut = terms_of_month(
        day_of(start_ns), day_of(end_ns), terms.assignments, [*terms.plans, *others]
    )
    statement = _made(connection, tenant, period, cut)
    late, known = _late(connection, tenant, period, kept)
    return with_late(statement, late, known)


def _made(connection: Connection, tenant: str, period: str, terms: Sequence[Term]) -> Statement:
    usages, hashes = _usages(connection, tenant, period, terms)
    statement = make_statement(tenant, period, terms, usages)
    return replace(statement, event_count=len(hashes), event_digest=events_digest(hashes))


def _late(
    connection: Connection, tenant: str, period: str, plans: Mapping[str, Plan]
) -> tuple[dict[str, dict[str, Any]], dict[str, Known]]:
    """By closed month before this, what it comes to beyond what was said of it, and what that was.

    Later statements count among what was said: months may be closed in any order.
    """
    bodies = _bodies(connection, tenant)
    late: dict[str, dict[str, Any]] = {}
    known: dict[str, Known] = {}
    for body in bodies:
        if (month := body["period"]) >= period:
            continue
        known[month] = known_of(month, bodies)
        if _count(connection, tenant, month) == known[month].event_count:
            continue
        again = _made(connection, tenant, month, read_terms(body["terms"], plans))
        known[month].names = names_of(again.terms)
        found = late_of(known[month], again)
        if found is not None:
            late[month] = found
    return late, known


def late_counts(connection: Connection, tenant: str) -> dict[str, int]:
    """By closed month, how many billable events came that no statement speaks of yet."""
    bodies = _bodies(connection, tenant)
    months = [body["period"] for body in bodies]
    there = {month: _count(connection, tenant, month) for month in months}
    return {month: there[month] - known_of(month, bodies).event_count for month in months}


def _bodies(connection: Connection, tenant: str) -> list[dict[str, Any]]:
    """The tenant's statements, oldest month first."""
    table = tables.plan_statement.c
    query = select(table.body).where(table.tenant == tenant)
    found = connection.execute(query.order_by(table.period)).scalars()
    return [orjson.loads(bytes(body)) for body in found]


def _closed(connection: Connection, tenant: str, period: str) -> Closed | None:
    table = tables.plan_statement
    query = select(table).where(table.c.tenant == tenant, table.c.period == period)
    row = connection.execute(query).first()
    if row is None:
        return None
    return Closed(orjson.loads(bytes(row.body)), row.sha256, row.closed_at, is_new=False)


def _count(connection: Connection, tenant: str, period: str) -> int:
    query = select(func.count()).select_from(tables.usage_event).where(*in_month(tenant, period))
    return int(connection.execute(query).scalar_one())


def in_month(tenant: str, period: str) -> tuple[Any, ...]:
    """That an event is billable and of this tenant and month."""
    start_ns, end_ns = period_bounds_ns(period)
    when = (_EVENT.occurred_at >= start_ns, _EVENT.occurred_at < end_ns)
    return (_EVENT.tenant == tenant, _EVENT.billable.is_(True), *when)


def _usages(
    connection: Connection, tenant: str, period: str, terms: Sequence[Term]
) -> tuple[list[Usage], list[str]]:
    """The month's usage by term, and the hashes of its events."""
    usages = [new_usage(term) for term in terms]
    starts = [start_of_day_ns(term.start) for term in terms]
    query = select(*READ).where(*in_month(tenant, period)).execution_options(yield_per=_FETCH)
    hashes: list[str] = []
    grains: dict[tuple[Any, ...], Grain] = {}
    for row in connection.execute(query):
        occurred_at, *dimensions, user, session, run, request, amounts, payload_hash = row
        hashes.append(payload_hash)
        usage = usages[bisect_right(starts, occurred_at) - 1]
        names = {"user": user, "session": session, "run": run, "request": request}
        head = tuple(dimensions)
        for unit, (quantity, rate, sell, cost, *words) in decode_amounts(amounts).items():
            key = (*head, unit, rate, *words)
            if (grain := grains.get(key)) is None:
                grain = grains[key] = grain_of_row(row, unit, rate, *words)
            usage.add_amounts(grain, (quantity, sell, cost), names)
    return usages, hashes


def grain_of_row(row: Any, unit: str, rate_pico: int | None, variant: str = "") -> Grain:
    """The dimensions of a unit of an event; `variant` says which of the model's rates it is."""
    return grain_of(
        unit,
        {
            "kind": "credit" if unit == SLA_CREDIT else line_kind(row.kind),
            "project": row.project,
            "model": row.model_upstream,
            "model_requested": row.model_requested,
            "model_version": row.model_version or "",
            "provider": row.provider,
            "feature": row.feature or "",
            "api_key": row.api_key_id,
            "status": row.status,
            "price_version": row.sell_version or "",
            "rate_pico": "" if rate_pico is None else str(rate_pico),
            "variant": variant,
        },
    )
