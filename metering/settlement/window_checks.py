"""I2 for windows: what every scope's windows hold in Redis, beside the sums of the ledger.

Reads only. Compared are the windows that the configuration names, for the scopes that Redis or the
ledger knows; one that is not whole yet is left to the worker that builds it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from redis.asyncio import Redis

from metering.caps import Scope, ScopeKind, Window
from metering.redis_keys import RedisKeys
from metering.scope_names import scope_text
from metering.settlement import invariants
from metering.settlement.counting import DAILY, Rules, Series, oldest_bucket
from metering.settlement.ledger.spending import spent_by_bucket
from metering.settlement.ledger.store import Ledger
from metering.settlement.recount import Place
from metering.settlement.redis_windows import built_series
from metering.window import is_rate

Amounts = tuple[int, int, int]

_KINDS = frozenset(ScopeKind)


async def whole_windows(
    redis: Redis, keys: RedisKeys, rules: Rules
) -> dict[Series, frozenset[str]]:
    """The windows that hold what the ledger knows, and the tenants for whom they do. Rates are
    among them: they are whole within the hour."""
    found: dict[Series, set[str]] = {}
    for shard in range(keys.shards):
        tenants = [tenant for tenant in rules.by_tenant if keys.shard(tenant) == shard]
        rates = {series: names for series, names in rules.series(tenants).items() if series.is_rate}
        built = await built_series(redis, keys, rules, shard)
        for series, names in [*built.items(), *rates.items()]:
            found.setdefault(series, set()).update(names)
    return {series: frozenset(names) for series, names in found.items()}


def ledger_windows(
    ledger: Ledger,
    keys: RedisKeys,
    rules: Rules,
    *,
    whole: Mapping[Series, frozenset[str]],
    now_ms: int,
) -> dict[Place, dict[int, Amounts]]:
    """The ledger's sums of all of these, and of the rolling day of every tenant."""
    found: dict[Place, dict[int, list[int]]] = {}
    with ledger.read() as connection:
        for shard in range(keys.shards):
            for series, tenants in [(DAILY, None), *whole.items()]:
                names = None if tenants is None else [t for t in tenants if keys.shard(t) == shard]
                if names == []:
                    continue
                for row in spent_by_bucket(connection, shard, series, names, now_ms=now_ms):
                    scope = Scope(series.kind, row.scope_id)
                    is_wanted = tenants is None or row.tenant in tenants
                    if is_wanted and rules.counts(row.tenant, scope, series.window):
                        place = Place(row.tenant, scope, series.window)
                        sums = found.setdefault(place, {}).setdefault(row.bucket, [0, 0, 0])
                        for at, amount in enumerate(row.amounts):
                            sums[at] += amount
    return {
        place: {number: (sums[0], sums[1], sums[2]) for number, sums in buckets.items()}
        for place, buckets in found.items()
    }


def pair_windows(
    scopes: Sequence[invariants.Scope],
    spent: Mapping[Place, Mapping[int, Amounts]],
    keys: RedisKeys,
    rules: Rules,
    *,
    whole: Mapping[Series, frozenset[str]],
    still: Sequence[bool],
    now_ms: int,
) -> Iterator[invariants.WindowPair]:
    """Each window of each scope that one of the two knows. `still` says of each shard that all of
    its stream was settled and nothing came in between: a commit puts its event into the stream as
    it moves the window. The oldest bucket of a window is leaving it and is not compared."""
    in_redis: dict[Place, Mapping[int, Amounts]] = {}
    for found in scopes:
        if found.kind not in _KINDS:
            continue
        scope = Scope(ScopeKind(found.kind), found.id)
        for window in rules.windows(found.tenant, scope):
            series = Series(scope.kind, window)
            if series == DAILY or found.tenant in whole.get(series, ()):
                buckets = found.buckets.get(window.label, {})
                in_redis[Place(found.tenant, scope, window)] = buckets
    for place in sorted(in_redis.keys() | spent.keys(), key=_order):
        yield invariants.WindowPair(
            _name(place),
            in_redis.get(place, {}),
            spent.get(place, {}),
            oldest=oldest_bucket(place.window, now_ms) + isinstance(place.window, Window),
            is_settled=still[keys.shard(place.tenant)],
            is_rate=is_rate(place.window),
        )


def _order(place: Place) -> tuple[str, str, str, str]:
    return place.tenant, place.scope.kind, place.scope.id, place.window.label


def _name(place: Place) -> str:
    if Series(place.scope.kind, place.window) == DAILY:
        return f"tenant {place.tenant}"
    scope = scope_text(place.scope, place.tenant)
    return f"tenant {place.tenant}, {scope} in {place.window.label}"
