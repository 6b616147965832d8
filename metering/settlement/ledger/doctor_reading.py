"""What `weir doctor` asks the ledger. Reads only; `doctor_books` and `doctor_tenant` judge.

Rules: no question takes longer than its time, and one that fails leaves the others. What would mean
reading the whole ledger is asked of the newest events of each shard only.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, case, event, func, make_url, or_, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from metering.clock import monotonic_s
from metering.settlement.doctor_facts import (
    Asked,
    Behind,
    Book,
    Clocks,
    Compared,
    Late,
    StripeHours,
    Undelivered,
    Unknown,
)
from metering.settlement.ledger import tables
from metering.settlement.ledger.faults import LedgerDamagedError, safe_url
from metering.settlement.ledger.outbox import ALERT
from metering.settlement.ledger.plan_books import late_counts
from metering.settlement.ledger.provider_books import Run, list_runs
from metering.settlement.ledger.store import Ledger, open_ledger
from metering.settlement.ledger.stripe_tables import stripe_hour

PART_S = 15.0
"""For each question; `weir ledger verify` has as long as it takes."""

NEWEST = 1_000
"""Events of each shard that are looked at, from the end of its chain."""

WRITE_MS = 2_000
"""A worker's batch takes milliseconds: a lock that is held for longer is somebody else's."""

CLOCK_NS = 2_000_000_000

_EVENT, _MARK, _ROLLED = tables.usage_event.c, tables.watermark.c, tables.rollup_watermark.c
_HOUR = stripe_hour.c
_T = TypeVar("_T")


class Reader:
    """A ledger that is asked in bounded time. `Unknown` stands for what could not be answered."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._until_s = 0.0
        self._is_bound = False

    def ask(self, question: Callable[[Ledger], _T], *, within_s: float = PART_S) -> _T | Unknown:
        """The answer, or why there is none."""
        self._until_s = monotonic_s() + within_s
        try:
            self._bind()
            return question(self._ledger)
        except LedgerDamagedError as error:
            return Unknown(f"the ledger is damaged: {error.how}")
        except DBAPIError as error:
            cause = str(error.orig).partition("\n")[0]
            if cause == "interrupted":
                cause = f"not answered within {within_s:.0f} s"
            return Unknown(f"the ledger: {cause}")
        except SQLAlchemyError as error:
            return Unknown(f"the ledger: {str(error).partition(chr(10))[0]}")

    def _bind(self) -> None:
        """Have SQLite end a statement whose time is over; PostgreSQL was told at the opening."""
        if self._is_bound:
            return
        with self._ledger.read() as connection:
            if connection.dialect.name == "sqlite":
                event.listen(connection.engine.pool, "checkout", self._set_handler)
        self._is_bound = True

    def _set_handler(self, connection: sqlite3.Connection, *_: Any) -> None:
        connection.set_progress_handler(self._is_over, 50_000)

    def _is_over(self) -> bool:
        return monotonic_s() > self._until_s


def open_bounded(url: str) -> Ledger:
    """`open_ledger`, for one whose questions are given up after PART_S, whatever the database."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ArgumentError("`ledger.url` is no SQLAlchemy URL") from None
    if parsed.get_backend_name() != "sqlite" and "options" not in parsed.query:
        bound = {"options": f"-c statement_timeout={int(PART_S * 1_000)}"}
        parsed = parsed.update_query_dict(bound)
        return open_ledger(parsed.render_as_string(hide_password=False))
    return open_ledger(url)


def read_book(ledger: Ledger, url: str) -> Book:
    """The ledger as such."""
    parsed = make_url(url)
    with ledger.read() as connection:
        is_sqlite = connection.dialect.name == "sqlite"
        refuses = "" if is_sqlite else _refuses_postgres(connection)
        identity = connection.execute(select(tables.ledger_identity.c.id)).scalar()
        events, last = connection.execute(
            select(func.sum(_MARK.events), func.max(_MARK.updated_at))
        ).one()
    if is_sqlite:
        refuses = _refuses_sqlite(parsed.database or "")
    return Book(
        where=safe_url(parsed),
        revision=ledger.revision() or "",
        head=tables.HEAD_REVISION,
        identity=identity,
        refuses=refuses,
        events=int(events or 0),
        last_booked_ns=last,
    )


def _refuses_sqlite(path: str) -> str:
    """Why nobody could write there now; takes the write lock and gives it back."""
    try:
        with closing(sqlite3.connect(Path(path).absolute().as_uri() + "?mode=rw", uri=True)) as at:
            at.isolation_level = None
            at.execute(f"PRAGMA busy_timeout = {WRITE_MS}")
            at.execute("BEGIN IMMEDIATE")
            at.execute("ROLLBACK")
    except sqlite3.Error as error:
        return str(error)
    return ""


def _refuses_postgres(connection: Connection) -> str:
    is_standby, may_insert = connection.execute(
        text("SELECT pg_is_in_recovery(), has_table_privilege('usage_event', 'INSERT')")
    ).one()
    if is_standby:
        return "the server is a standby"
    return "" if may_insert else "this role may not insert into usage_event"


def read_behind(ledger: Ledger, asked: Asked) -> Behind:
    """What comes after the books, and what did not get into them."""
    letter, resolution = tables.dead_letter, tables.dead_letter_resolution
    with ledger.read() as connection:
        unrolled, since_ns = _unrolled(connection)
        waiting = (
            select(letter)
            .outerjoin(resolution, resolution.c.dead_letter_id == letter.c.id)
            .where(resolution.c.dead_letter_id.is_(None))
        )
        found = waiting.subquery()
        count = select(func.count(), func.min(found.c.received_at)).select_from(found)
        dead, dead_since = connection.execute(count).one()
        newest = connection.execute(waiting.order_by(letter.c.id.desc()).limit(1)).first()
        conflict = tables.event_conflict
        conflicts = connection.execute(
            select(func.count())
            .select_from(conflict)
            .where(conflict.c.received_at >= asked.start_ns, conflict.c.received_at < asked.end_ns)
        ).scalar_one()
        return Behind(
            unrolled=unrolled,
            unrolled_since_ns=since_ns,
            dead=int(dead),
            dead_since_ns=dead_since,
            dead_reason="" if newest is None else str(newest.reason),
            conflicts=int(conflicts),
            missing_prices=_missing_prices(connection),
        )


def _unrolled(connection: Connection) -> tuple[int, int | None]:
    """How many events the rollups lack, and since when."""
    rolled = {row.shard: row.seq for row in connection.execute(select(tables.rollup_watermark))}
    count, since_ns = 0, []
    for row in connection.execute(select(_MARK.shard, _MARK.events)).all():
        lacking = row.events - rolled.get(row.shard, 0)
        if lacking <= 0:
            continue
        count += lacking
        first = select(_EVENT.received_at).where(
            _EVENT.shard == row.shard, _EVENT.seq == rolled.get(row.shard, 0) + 1
        )
        if (at := connection.execute(first).scalar()) is not None:
            since_ns.append(int(at))
    return count, min(since_ns, default=None)


def _newest(connection: Connection) -> Any:
    """Which events are the newest of their shards, as a condition."""
    ends = connection.execute(select(_MARK.shard, _MARK.events)).all()
    places = [
        (_EVENT.shard == row.shard) & (_EVENT.seq > row.events - NEWEST)
        for row in ends
        if row.events
    ]
    return or_(*places) if places else text("1 = 0")


def _missing_prices(connection: Connection) -> tuple[str, ...]:
    newest = _newest(connection)
    named: set[str] = set()
    for column in (_EVENT.cost_version, _EVENT.sell_version):
        found = connection.execute(select(column).where(newest).distinct()).scalars()
        named |= {version for version in found if version}
    price = tables.price_body.c.version
    kept = set(connection.execute(select(price).where(price.in_(sorted(named)))).scalars())
    return tuple(sorted(named - kept))


def read_clocks(ledger: Ledger, asked: Asked) -> Clocks:
    """The times in the newest events, beside those of Redis."""
    committed_ns = _EVENT.stream_ms * 1_000_000
    begun_late = _EVENT.occurred_at > committed_ns + CLOCK_NS
    query = select(
        func.count(),
        func.max(committed_ns - _EVENT.received_at),
        func.max(_EVENT.occurred_at - committed_ns),
        func.sum(case((begun_late, 1), else_=0)),
        func.sum(case((_EVENT.occurred_at > asked.now_ns + CLOCK_NS, 1), else_=0)),
    )
    with ledger.read() as connection:
        # what was booked by hand, like corrections of costs, was in no stream
        newest = (_newest(connection), _EVENT.stream_ms > 0)
        looked_at, early, late, late_count, future = connection.execute(query.where(*newest)).one()
        who = select(_EVENT.tenant).where(*newest, begun_late).distinct().limit(10)
        tenants = sorted(connection.execute(who).scalars()) if late_count else []
    return Clocks(
        looked_at=int(looked_at),
        received_early_ms=max(0, int(early or 0) // 10**6),
        begun_late_ms=max(0, int(late or 0) // 10**6),
        begun_late=int(late_count or 0),
        begun_late_tenants=tuple(tenants),
        in_future=int(future or 0),
    )


def read_alerts(ledger: Ledger, sinks: Sequence[str]) -> tuple[Undelivered, ...]:
    """What each of the sinks has not taken."""
    outbox, delivery = tables.outbox.c, tables.outbox_delivery
    found = []
    with ledger.read() as connection:
        for sink in sinks:
            query = (
                select(
                    func.count(),
                    func.min(outbox.created_at),
                    func.max(func.coalesce(delivery.c.attempts, 0)),
                )
                .select_from(tables.outbox)
                .outerjoin(
                    delivery, (delivery.c.outbox_id == outbox.id) & (delivery.c.sink == sink)
                )
                .where(outbox.topic == ALERT, outbox.state == "new")
                .where(or_(delivery.c.state.is_(None), delivery.c.state == "new"))
            )
            count, since_ns, attempts = connection.execute(query).one()
            if count:
                found.append(Undelivered(sink, int(count), int(since_ns), int(attempts)))
    return tuple(found)


def read_stripe(
    ledger: Ledger, asked: Asked, customers: Mapping[str, str], since_ns: int
) -> StripeHours:
    """How the hours that Stripe should know stand. `customers` by tenant, empty where none is
    configured."""
    of = [] if asked.tenant is None else [_HOUR.tenant == asked.tenant]
    waits = (_HOUR.wanted != _HOUR.acked) & (_HOUR.state != "held")
    with ledger.read() as connection:
        waiting, since = connection.execute(
            select(func.count(), func.min(_HOUR.hour)).where(waits, *of)
        ).one()
        held = connection.execute(
            select(_HOUR.reason, func.count())
            .where(_HOUR.state == "held", *of)
            .group_by(_HOUR.reason)
        ).all()
        off = (_HOUR.seen.is_not(None), _HOUR.seen != _HOUR.acked, _HOUR.state == "idle")
        differing = connection.execute(select(func.count()).where(*off, *of)).scalar_one()
        taken = connection.execute(select(func.count()).where(_HOUR.acked != 0, *of)).scalar_one()
        lacking = [] if not customers else _unsent(connection, asked, customers, since_ns)
    return StripeHours(
        waiting=int(waiting),
        waiting_since_ns=since,
        held={str(reason): int(count) for reason, count in held},
        differing=int(differing),
        taken=int(taken),
        unsent_tenants=tuple(lacking),
    )


def _unsent(
    connection: Connection, asked: Asked, customers: Mapping[str, str], since_ns: int
) -> list[str]:
    """Tenants with billable usage in the month that Stripe is not told of."""
    rollup = tables.rollup.c
    query = select(rollup.tenant).where(
        rollup.hour >= max(asked.start_ns, since_ns),
        rollup.hour < asked.end_ns,
        rollup.billable.is_(True),
    )
    if asked.tenant is not None:
        query = query.where(rollup.tenant == asked.tenant)
    found = connection.execute(query.distinct()).scalars()
    return sorted(name for name in found if name not in customers)


def read_comparisons(ledger: Ledger, providers: Sequence[str]) -> tuple[Compared, ...]:
    """The newest comparison with each provider: those named, and whichever were made."""
    newest: dict[str, Run] = {}
    for run in list_runs(ledger, limit=20):
        newest.setdefault(run.provider, run)
    for name in providers:
        if name not in newest:
            newest |= {run.provider: run for run in list_runs(ledger, name, limit=1)}
    return tuple(
        Compared(
            provider=run.provider,
            number=run.id,
            since=run.since,
            until=run.until,
            ran_at=run.ran_at,
            over=tuple(run.body["over_alert"]),
            gaps=run.body["gaps"],
            corrections=len(run.body["corrections"]),
            applied=run.applied is not None,
        )
        for _, run in sorted(newest.items())
    )


def read_late(ledger: Ledger, tenant: str | None) -> tuple[Late, ...]:
    """Events of closed months that no statement speaks of yet."""
    with ledger.read() as connection:
        return tuple(_late(connection, tenant))


def _late(connection: Connection, tenant: str | None) -> Iterator[Late]:
    statement = tables.plan_statement.c
    query = select(statement.tenant).distinct().order_by(statement.tenant)
    if tenant is not None:
        query = query.where(statement.tenant == tenant)
    for name in connection.execute(query).scalars().all():
        for month, events in late_counts(connection, name).items():
            if events > 0:
                yield Late(name, month, events)
