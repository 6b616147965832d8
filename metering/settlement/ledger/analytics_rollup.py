"""What keeps the tables of analytics: events into sums and histograms, each event once.

Kept up by a mark per shard, like the rollups: some seconds late, never wrong, and made again from
the events at any time. A turn takes so many events at most, so that a ledger with years in it is
summed bit by bit beside the settling. A request is an exchange; it counts where its last attempt
is, so what was counted at an earlier attempt is taken back when a later one comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import Connection, case, delete, func, select, text, update

from metering.events import Kind, Reason, Status
from metering.settlement.histograms import bucket_of
from metering.settlement.ledger import tables
from metering.settlement.ledger.analytics_tables import (
    DERIVED,
    DIMENSIONS,
    FULL,
    HISTOGRAMS,
    LEVELS,
    MEASURES,
    PERIODS,
    QUANTITIES,
    SUMS,
    TIMES,
    usage_mark,
    usage_series,
)
from metering.settlement.ledger.rollups import CHUNK, HOUR_NS, attempts_of
from metering.settlement.ledger.store import Ledger, add_rows, keep_rows

TURN = 50_000
"""Events summed at most before other work has its turn: about two seconds."""

ERRORS = frozenset({Status.ERROR, Status.TRUNCATED})
"""How an attempt ends that failed: the upstream's fault, or ours."""

_SERIES_MAX = 200_000
"""Numbers of series that are remembered: some 60 MB."""
_NAMED_MAX = 500
_HOURS = {"hour": 1, "day": 24}

_EVENT = tables.usage_event.c
_READ = (
    _EVENT.seq,
    _EVENT.kind,
    _EVENT.exchange_id,
    _EVENT.attempt,
    _EVENT.event_id,
    _EVENT.occurred_at,
    _EVENT.tenant,
    _EVENT.project,
    _EVENT.api_key_id,
    _EVENT.feature,
    _EVENT.provider,
    _EVENT.model_upstream,
    _EVENT.model_version,
    _EVENT.status,
    _EVENT.reason_code,
    _EVENT.cache_status,
    _EVENT.latency_ms,
    _EVENT.ttft_ms,
    _EVENT.sell_nano,
    _EVENT.cost_nano,
    *(_EVENT[name] for name in QUANTITIES),
    case((_EVENT.ttft_ms.is_(None), _EVENT.payload)).label("payload"),  # of old events, and failed
)
_COLUMNS = ", ".join(column.name for column in _READ[:-1])
_FIRST = len(MEASURES) - len(QUANTITIES)
_PLACES = {
    name: tuple(DIMENSIONS.index(each) for each in level.dimensions)
    for name, level in LEVELS.items()
}

_Dims = tuple[str, ...]
_Sums = dict[tuple[Any, ...], list[int]]


class Summing:
    """Sums what one ledger has; it remembers the numbers of series from turn to turn."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._known: dict[tuple[str, _Dims], int] = {}

    def update(self, events_max: int | None = TURN) -> int:
        """Sum what is in the ledger and not in the tables yet; how many events that were."""
        with self._ledger.read() as connection:
            shards = [shard for shard, _ in behind_by_shard(connection)]
        done = 0
        for shard in shards:
            while events_max is None or done < events_max:
                count = self._sum_up(shard)
                done += count
                if not count:
                    break
        return done

    def rebuild(self) -> int:
        """Empty the tables and sum the whole ledger again; how many events it holds."""
        with self._ledger.write() as connection:
            if connection.dialect.name == "postgresql":  # SQLite is locked as a whole already
                connection.execute(text("LOCK TABLE usage_mark IN EXCLUSIVE MODE"))
            for table in DERIVED:
                connection.execute(delete(table))
        return self.update(None)

    def _sum_up(self, shard: int) -> int:
        """A chunk of a shard, in one transaction."""
        learned: dict[tuple[str, _Dims], int] = {}
        with self._ledger.write() as connection:
            keep_rows(connection, usage_mark, [{"shard": shard, "seq": 0}])  # a row to lock
            mark = usage_mark.c
            query = select(mark.seq).where(mark.shard == shard).with_for_update()
            after = connection.execute(query).scalar_one()
            events = (
                select(*_READ)
                .where(_EVENT.shard == shard, _EVENT.seq > after)
                .order_by(_EVENT.seq)
                .limit(CHUNK)
            )
            rows = connection.execute(events).all()
            if not rows:
                return 0
            sums, times = _summed(rows)
            for dims, hour, sign, row in _requests(rows, _earlier(connection, rows, after)):
                _count_request(sums[dims, hour], row, sign)
            self._write(connection, sums, times, learned)
            moved = update(usage_mark).where(mark.shard == shard).values(seq=rows[-1].seq)
            connection.execute(moved)
        if len(self._known) + len(learned) > _SERIES_MAX:
            self._known.clear()
        self._known |= learned  # only what is committed
        return len(rows)

    def _write(
        self,
        connection: Connection,
        sums: _Sums,
        times: _Sums,
        learned: dict[tuple[str, _Dims], int],
    ) -> None:
        all_sums: dict[tuple[str, str], _Sums] = {}
        all_times: dict[tuple[str, str], _Sums] = {}
        for name, level in LEVELS.items():
            for period in PERIODS:
                all_sums[name, period] = _folded(sums, name, period)
                if period in level.times:
                    all_times[name, period] = _folded(times, name, period)
        series = {(name, dims) for (name, _), each in all_sums.items() for dims, *_ in each}
        numbers = self._numbers(connection, series, learned)
        for period in PERIODS:
            for tables_of, found, names in (
                (SUMS, all_sums, MEASURES),
                (HISTOGRAMS, all_times, TIMES),
            ):
                table = tables_of[period]
                keys = [column.name for column in table.primary_key]
                rows = sorted(
                    ((numbers[name, dims], *rest), amounts)
                    for (name, each), folded in found.items()
                    if each == period
                    for (dims, *rest), amounts in folded.items()
                )
                made = [
                    dict(zip((*keys, *names), (*key, *more), strict=True)) for key, more in rows
                ]
                add_rows(connection, table, made, measures=names)

    def _numbers(
        self,
        connection: Connection,
        series: Iterable[tuple[str, _Dims]],
        learned: dict[tuple[str, _Dims], int],
    ) -> Mapping[tuple[str, _Dims], int]:
        """The numbers of these series; those that are new get one."""
        missing = sorted(each for each in series if each not in self._known)
        if missing:
            rows = [{"level": name, **_spread(name, dims)} for name, dims in missing]
            keep_rows(connection, usage_series, rows)
            learned.update(_numbers_of(connection, {row["tenant"] for row in rows}))
        return {**self._known, **learned} if learned else self._known


def update_analytics(ledger: Ledger) -> int:
    """Sum everything that is not summed yet; how many events that were."""
    return Summing(ledger).update(None)


def rebuild_analytics(ledger: Ledger) -> int:
    """Make the tables again from the events; how many there are."""
    return Summing(ledger).rebuild()


def behind_by_shard(connection: Connection) -> list[tuple[int, int]]:
    """The shards with events that are not summed yet, and how many."""
    head, mark = tables.watermark.c, usage_mark.c
    lacking = head.events - func.coalesce(mark.seq, 0)
    query = (
        select(head.shard, lacking)
        .join_from(tables.watermark, usage_mark, mark.shard == head.shard, isouter=True)
        .where(lacking > 0)
        .order_by(head.shard)
    )
    return [(row[0], int(row[1])) for row in connection.execute(query)]


def _spread(level: str, dims: _Dims) -> dict[str, str]:
    found = dict.fromkeys(DIMENSIONS, "")
    found.update(zip(LEVELS[level].dimensions, dims, strict=True))
    return found


def _numbers_of(
    connection: Connection, tenants: Iterable[str]
) -> Iterable[tuple[tuple[str, _Dims], int]]:
    """All series of these tenants; the empty one has those of everybody."""
    names = sorted(tenants)
    for start in range(0, len(names), _NAMED_MAX):
        some = names[start : start + _NAMED_MAX]
        query = select(usage_series).where(
            usage_series.c.level.in_(list(LEVELS)), usage_series.c.tenant.in_(some)
        )
        for number, level, *dims in connection.execute(query):
            yield (level, tuple(dims[place] for place in _PLACES[level])), number


def _summed(rows: Sequence[Any]) -> tuple[_Sums, _Sums]:
    """By dimensions and hour, what the events come to, and their times by bucket."""
    sums: _Sums = {}
    times: _Sums = {}
    for row in rows:
        key = place_of(row)
        found = sums.get(key)
        if found is None:
            found = sums[key] = [0] * len(MEASURES)
        sign = attempts_of(row.kind)
        found[1] += sign
        if row.status in ERRORS:
            found[3] += sign
        found[5] += row.sell_nano
        found[6] += row.cost_nano
        for place, quantity in enumerate(row[20:-1], _FIRST):
            if quantity:
                found[place] += quantity
        if sign and (row.latency_ms or row.kind != Kind.CUSTOM):  # what is reported may have none
            _add(times, (*key, bucket_of(row.latency_ms)), 0, sign)
        if sign and (ttft_ms := _ttft_ms(row)) is not None:
            _add(times, (*key, bucket_of(ttft_ms)), 1, sign)
    return sums, times


def place_of(row: Any) -> tuple[_Dims, int]:
    """The dimensions and the hour of an event."""
    dims = (
        row.tenant,
        row.project,
        row.api_key_id,
        row.feature or "",
        row.provider,
        row.model_upstream,
        row.model_version or "",
        row.status,
        row.reason_code,
        row.cache_status or "",
    )
    return dims, row.occurred_at // HOUR_NS


def _ttft_ms(row: Any) -> int | None:
    if row.payload is None:
        return int(row.ttft_ms)
    found = orjson.loads(row.payload).get("ttft_ms")
    return found if type(found) is int else None


def _add(times: _Sums, key: tuple[Any, ...], place: int, count: int) -> None:
    found = times.get(key)
    if found is None:
        found = times[key] = [0] * len(TIMES)
    found[place] += count


def _count_request(found: list[int], row: Any, sign: int) -> None:
    found[0] += sign
    if row.status in ERRORS:
        found[2] += sign
    if row.reason_code == Reason.CACHE_HIT:
        found[4] += sign


def _requests(rows: Sequence[Any], earlier: Sequence[Any]) -> Iterable[tuple[_Dims, int, int, Any]]:
    """Where requests are to be counted, and where not any more."""
    before, last = _last_attempts(earlier), _last_attempts(rows)
    for exchange, row in last.items():
        known = before.get(exchange)
        if known is not None:
            if _rank(known) > _rank(row):
                continue
            yield (*place_of(known), -1, known)
        yield (*place_of(row), 1, row)


def _last_attempts(rows: Sequence[Any]) -> dict[tuple[str, str], Any]:
    found: dict[tuple[str, str], Any] = {}
    for row in rows:
        if row.kind == Kind.USAGE:
            key = (row.tenant, row.exchange_id)
            known = found.get(key)
            if known is None or _rank(row) > _rank(known):
                found[key] = row
    return found


def _rank(row: Any) -> tuple[int, str]:
    return row.attempt, row.event_id


def _earlier(connection: Connection, rows: Sequence[Any], after: int) -> Sequence[Any]:
    """Events of these exchanges that were summed before: mostly none."""
    if not after:
        return ()
    ids = sorted({row.exchange_id for row in rows if row.kind == Kind.USAGE})
    asked = f"SELECT {_COLUMNS} FROM usage_event WHERE seq <= "  # noqa: S608 - columns of ours
    if connection.dialect.name == "postgresql":
        query = text(f"{asked} :after AND exchange_id = ANY(:ids)")
        return connection.execute(query, {"after": after, "ids": ids}).all()
    marks = ", ".join("?" * len(ids))
    statement = f"{asked} ? AND exchange_id IN ({marks})"
    return connection.exec_driver_sql(statement, (after, *ids)).all()


def _folded(sums: _Sums, level: str, period: str) -> _Sums:
    """The same, with less told apart."""
    if level == FULL and period == "hour":
        return sums
    places, hours = _PLACES[level], _HOURS[period]
    folded: _Sums = {}
    for (dims, hour, *rest), amounts in sums.items():
        key = (tuple([dims[place] for place in places]), hour // hours, *rest)
        found = folded.get(key)
        if found is None:
            folded[key] = list(amounts)
        else:
            for place, amount in enumerate(amounts):
                found[place] += amount
    return folded
