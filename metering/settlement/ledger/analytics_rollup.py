"""What keeps the tables of analytics: events into sums and histograms, each event once.

Kept up by a mark per shard, like the rollups: some seconds late, never wrong, and made again from
the events at any time. A turn takes so many events at most, so that a ledger with years in it is
summed bit by bit beside the settling. A request is an exchange; it counts where its last attempt
is, so what was counted at an earlier attempt is taken back when a later one comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import add
from typing import Any

import orjson
from sqlalchemy import Connection, Table, case, delete, func, literal_column, select, text

from metering.events import Kind, Reason, Status
from metering.settlement.histograms import bucket_of
from metering.settlement.ledger import tables
from metering.settlement.ledger.analytics_tables import (
    DERIVED,
    DIMENSIONS,
    FEATURE_UPSTREAM,
    HISTOGRAMS,
    LEVELS,
    MEASURES,
    QUANTITIES,
    SUMS,
    usage_mark,
    usage_series,
)
from metering.settlement.ledger.rollups import (
    CHUNK,
    HOUR_NS,
    attempts_of,
    locked_mark,
    move_mark,
    roll_up_rows,
)
from metering.settlement.ledger.rollups import behind_by_shard as _behind_by_shard
from metering.settlement.ledger.store import Ledger, add_tuples, keep_rows

TURN = 50_000
"""Events summed at most before other work has its turn: about two seconds."""

ERRORS = frozenset({Status.ERROR, Status.TRUNCATED})
"""How an attempt ends that failed: the upstream's fault, or ours."""

_SERIES_MAX = 200_000
"""Numbers of series that are remembered: some 60 MB."""
_NAMED_MAX = 500

_EVENT = tables.usage_event.c
_NAMES = tuple("model_upstream" if name == "model" else name for name in DIMENSIONS)
_EVENT_QUANTITIES = tuple(_EVENT[name] for name in QUANTITIES)
_READ = (
    *(func.coalesce(_EVENT[name], literal_column("''")).label(name) for name in _NAMES),
    _EVENT.seq,
    _EVENT.kind,
    _EVENT.exchange_id,
    _EVENT.attempt,
    _EVENT.event_id,
    _EVENT.occurred_at,
    _EVENT.latency_ms,
    _EVENT.ttft_ms,
    case((_EVENT.ttft_ms.is_(None), _EVENT.payload)).label("payload"),  # of old events, and failed
    _EVENT.sell_nano,
    _EVENT.cost_nano,
    *_EVENT_QUANTITIES,
)
"""The dimensions first and the quantities last, so that either is a slice."""
_READ_FOR_BOTH = (*_READ[: -len(QUANTITIES)], _EVENT.billable, _EVENT.amounts, *_EVENT_QUANTITIES)
"""With what rollups need besides."""
_DIMS = slice(len(DIMENSIONS))
_QUANTITIES = slice(-len(QUANTITIES), None)
_FIRST = len(MEASURES) - len(QUANTITIES)
_HOURS = {"hour": 1, "day": 24}
_COARSE = list(LEVELS).index(FEATURE_UPSTREAM) + 1
"""So many levels come first, whose dimensions are all among those of the last of them."""
_PLACES = {
    name: tuple(DIMENSIONS.index(each) for each in level.dimensions)
    for name, level in LEVELS.items()
}

_Dims = tuple[str, ...]
_Numbers = tuple[int, ...]
"""The numbers of an event's series, one for each level."""
_Sums = dict[tuple[Any, ...], list[int]]
"""By numbers, hour and (of times) bucket."""
_Folded = dict[tuple[int, ...], list[int]]


class Summing:
    """Sums what one ledger has; it remembers the numbers of series from turn to turn."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._known: dict[_Dims, _Numbers] = {}

    def update(self, events_max: int | None = TURN) -> int:
        """Sum what is in the ledger and not in the tables yet; how many events that were."""
        return self._turn(events_max, beside_rollups=False)

    def update_beside_rollups(self, events_max: int = TURN) -> int:
        """The same together with the rollups: events that neither has are read once for both.

        Where one of them is behind the other, that one has to catch up by itself.
        """
        return self._turn(events_max, beside_rollups=True)

    def _turn(self, events_max: int | None, *, beside_rollups: bool) -> int:
        with self._ledger.read() as connection:
            shards = [shard for shard, _ in behind_by_shard(connection)]
        done = 0
        for shard in shards:
            while events_max is None or done < events_max:
                count = self._sum_up(shard, beside_rollups=beside_rollups)
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

    def _sum_up(self, shard: int, *, beside_rollups: bool) -> int:
        """A chunk of a shard, in one transaction."""
        learned: dict[_Dims, _Numbers] = {}
        with self._ledger.write() as connection:
            rolled_up = beside_rollups and locked_mark(connection, tables.rollup_watermark, shard)
            after = locked_mark(connection, usage_mark, shard)
            if beside_rollups and rolled_up != after:
                return 0
            events = (
                select(*(_READ_FOR_BOTH if beside_rollups else _READ))
                .where(_EVENT.shard == shard, _EVENT.seq > after)
                .order_by(_EVENT.seq)
                .limit(CHUNK // 2 if beside_rollups else CHUNK)
            )
            rows = connection.execute(events).all()
            if not rows:
                return 0
            numbers = self._numbers(connection, {row[_DIMS] for row in rows}, learned)
            earlier = _earlier(connection, rows, after)
            if earlier:
                numbers = {
                    **numbers,
                    **self._numbers(connection, [row[_DIMS] for row in earlier], learned),
                }
            if beside_rollups:
                roll_up_rows(connection, shard, rows)
            sums, times = _summed(rows, numbers)
            _count_requests(sums, rows, earlier, numbers)
            _write(connection, sums, times)
            move_mark(connection, usage_mark, shard, rows[-1].seq)
        if len(self._known) + len(learned) > _SERIES_MAX:
            self._known.clear()
        self._known |= learned  # only what is committed
        return len(rows)

    def _numbers(
        self, connection: Connection, series: Iterable[_Dims], learned: dict[_Dims, _Numbers]
    ) -> Mapping[_Dims, _Numbers]:
        """The numbers of these series at every level; those that are new get some."""
        wanted = set(series)
        missing = wanted - self._known.keys() - learned.keys()
        if missing:
            learned.update(_numbered(connection, missing))
        return {dims: self._known.get(dims) or learned[dims] for dims in wanted}


def update_analytics(ledger: Ledger) -> int:
    """Sum everything that is not summed yet; how many events that were."""
    return Summing(ledger).update(None)


def rebuild_analytics(ledger: Ledger) -> int:
    """Make the tables again from the events; how many there are."""
    return Summing(ledger).rebuild()


def behind_by_shard(connection: Connection) -> list[tuple[int, int]]:
    """The shards with events that are not summed yet, and how many."""
    return _behind_by_shard(connection, usage_mark)


def _numbered(connection: Connection, missing: Iterable[_Dims]) -> dict[_Dims, _Numbers]:
    """Their numbers at every level, which they may be the first to need."""
    keys = {dims: [_key_of(level, dims) for level in LEVELS] for dims in missing}
    wanted = sorted({key for each in keys.values() for key in each})
    names = ("level", *DIMENSIONS)
    keep_rows(connection, usage_series, [dict(zip(names, key, strict=True)) for key in wanted])
    numbers: dict[tuple[str, ...], int] = {}
    tenants = sorted({key[1] for key in wanted})
    for start in range(0, len(tenants), _NAMED_MAX):
        some = tenants[start : start + _NAMED_MAX]
        query = select(usage_series).where(
            usage_series.c.level.in_(list(LEVELS)), usage_series.c.tenant.in_(some)
        )
        for number, *key in connection.execute(query):
            numbers[tuple(key)] = number
    return {dims: tuple([numbers[key] for key in each]) for dims, each in keys.items()}


def _key_of(level: str, dims: _Dims) -> tuple[str, ...]:
    kept = _PLACES[level]
    return (level, *[each if place in kept else "" for place, each in enumerate(dims)])


def _summed(rows: Sequence[Any], numbers: Mapping[_Dims, _Numbers]) -> tuple[_Sums, _Sums]:
    """By series and hour, what the events come to, and their times by bucket."""
    sums: _Sums = {}
    times: _Sums = {}
    for row in rows:
        series, hour = numbers[row[_DIMS]], row.occurred_at // HOUR_NS
        found = sums.get((series, hour))
        if found is None:
            found = sums[series, hour] = [0] * len(MEASURES)
        sign = attempts_of(row.kind)
        found[1] += sign
        if row.status in ERRORS:
            found[3] += sign
        found[5] += row.sell_nano
        found[6] += row.cost_nano
        for place, quantity in enumerate(row[_QUANTITIES], _FIRST):
            if quantity:
                found[place] += quantity
        if sign and (row.latency_ms or row.kind != Kind.CUSTOM):  # what is reported may have none
            _add(times, (series, hour, bucket_of(row.latency_ms)), 0, sign)
        if sign and (ttft_ms := _ttft_ms(row)) is not None:
            _add(times, (series, hour, bucket_of(ttft_ms)), 1, sign)
    return sums, times


def _ttft_ms(row: Any) -> int | None:
    if row.payload is None:
        return int(row.ttft_ms)
    payload = bytes(row.payload)
    if payload.count(b'"ttft_ms":') == payload.count(b'"ttft_ms":null'):  # most have none at all
        return None
    found = orjson.loads(payload).get("ttft_ms")
    return found if type(found) is int else None


def _add(times: _Sums, key: tuple[Any, ...], place: int, count: int) -> None:
    found = times.get(key)
    if found is None:
        found = times[key] = [0, 0]
    found[place] += count


def _count_requests(
    sums: _Sums,
    rows: Sequence[Any],
    earlier: Sequence[Any],
    numbers: Mapping[_Dims, _Numbers],
) -> None:
    """Count requests where they ended, and take back where they had seemed to."""
    before = _last_attempts(earlier)
    for exchange, row in _last_attempts(rows).items():
        known = before.get(exchange)
        if known is not None and _rank(known) > _rank(row):
            continue
        for one, sign in ((known, -1), (row, 1)):
            if one is not None:
                place = (numbers[one[_DIMS]], one.occurred_at // HOUR_NS)
                found = sums.setdefault(place, [0] * len(MEASURES))
                found[0] += sign
                found[2] += sign * (one.status in ERRORS)
                found[4] += sign * (one.reason_code == Reason.CACHE_HIT)


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
    if connection.dialect.name == "postgresql":
        known = text("exchange_id = ANY(:ids)").bindparams(ids=ids)
    else:  # a list of so many takes SQLAlchemy longer than SQLite
        known = text("exchange_id IN (SELECT value FROM json_each(:ids))").bindparams(
            ids=orjson.dumps(ids).decode()
        )
    return connection.execute(select(*_READ).where(_EVENT.seq <= after, known)).all()


def _write(connection: Connection, sums: _Sums, times: _Sums) -> None:
    """Add what was summed to every table."""
    for found, tables_of, of in ((sums, SUMS, "sums"), (times, HISTOGRAMS, "times")):
        coarse: _Sums = {}  # the full level has almost as many rows as events: folded once
        for (series, *rest), amounts in found.items():
            _merge(coarse, (series[:_COARSE], *rest), amounts)
        for period, hours in _HOURS.items():
            folded: _Folded = {}
            for place, level in enumerate(LEVELS.values()):
                if period in getattr(level, of):
                    _fold(folded, coarse if place < _COARSE else found, place, hours)
            _add_rows(connection, tables_of[period], folded)


def _add_rows(connection: Connection, table: Table, folded: _Folded) -> None:
    rows = [(*key, *folded[key]) for key in sorted(folded)]
    names = table.c.keys()
    add_tuples(connection, table, names, rows, measures=names[len(table.primary_key) :])


def _fold(folded: _Folded, found: _Sums, level: int, hours: int) -> None:
    """By the number of a series at this level, and period of so many hours."""
    for (series, hour, *rest), amounts in found.items():
        _merge(folded, (series[level], hour // hours, *rest), amounts)


def _merge(
    merged: dict[tuple[Any, ...], list[int]], key: tuple[Any, ...], amounts: list[int]
) -> None:
    known = merged.get(key)
    merged[key] = amounts if known is None else list(map(add, known, amounts))
