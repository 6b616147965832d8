"""The worker's turn for credit: draw, expire, tell of low balances, and publish what may be spent.

Rules: what a tenant may have spent ever is published beside its windows once these are whole, so
that a proxy never compares it with a window that lacks the past. It changes with grants, not with
spending: so it may be some seconds late and no exchange passes it for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from redis.asyncio import Redis

from metering.caps import BALANCE, ScopeKind
from metering.clock import now_ns
from metering.redis_keys import RedisKeys
from metering.settlement.counting import Rules, Series
from metering.settlement.ledger.credit_books import has_grants, left_of_all
from metering.settlement.ledger.credit_draws import draw_credits, expire_credits, limits_of
from metering.settlement.ledger.credit_levels import tell_levels
from metering.settlement.ledger.store import Ledger
from metering.settlement.redis_stream import StreamReader
from metering.settlement.redis_windows import built_series
from metering.settlement.watch import Log, Unwatched, Watch

_SERIES = Series(ScopeKind.TENANT, BALANCE)


class CreditWatch:
    """Keeps grants, and the limits that proxies go by, up with the ledger."""

    def __init__(
        self,
        ledger: Ledger,
        redis: Redis,
        keys: RedisKeys,
        *,
        rules: Rules,
        writing: asyncio.Lock,
        log: Log,
        told: Watch | None = None,
    ) -> None:
        self._ledger = ledger
        self._redis = redis
        self._keys = keys
        self._rules = rules
        self._levels: Mapping[str, tuple[int, ...]] = {}
        self._writing = writing
        self._log = log
        self._told = told or Unwatched()
        self._pruned: set[int] = set()

    def adopt(self, rules: Rules, levels: Mapping[str, tuple[int, ...]]) -> None:
        """Go by these from the next turn on."""
        self._rules, self._levels = rules, levels
        self._pruned.clear()

    async def turn(self, reader: StreamReader) -> None:
        """For the shards of this reader; nothing is written while nobody has a grant."""
        if await asyncio.to_thread(has_grants, self._ledger):
            settled = {shard: await self._settled_ns(reader, shard) for shard in reader.shards}
            async with self._writing:
                expired = await asyncio.to_thread(self._keep, settled)
            self._told.credited(await asyncio.to_thread(left_of_all, self._ledger, now_ns()))
            if expired:
                self._log.info("grants_expired", grants=expired)
        await self._publish(reader.shards)

    def _keep(self, settled: Mapping[int, int]) -> int:
        """Draw first: what is settled by now is drawn for when it expires."""
        at_ns = now_ns()
        draw_credits(self._ledger, settled, now_ns=at_ns)
        expired = 0
        for shard, settled_ns in settled.items():
            is_mine = partial(self._is_in, shard)
            expired += expire_credits(self._ledger, is_mine, settled_ns=settled_ns, now_ns=at_ns)
        tell_levels(self._ledger, self._levels, now_ns=at_ns)
        return expired

    def _is_in(self, shard: int, tenant: str) -> bool:
        return self._keys.shard(tenant) == shard

    async def _settled_ns(self, reader: StreamReader, shard: int) -> int:
        at_ns = now_ns()  # before the look: what comes later is not settled by it
        before_ms = await reader.settled_before_ms(shard)
        return at_ns if before_ms is None else min(before_ms * 1_000_000, at_ns)

    async def _forget(self, shard: int, prepaid: Sequence[str]) -> None:
        """Once for each configuration: whoever is stopped no more is not counted, so that what was
        told of it must not be there when it is prepaid again."""
        if shard in self._pruned:
            return
        name = self._keys.balances(shard)
        told: Any = await self._redis.hkeys(name)
        gone = [each for each in told if each.decode() not in prepaid]
        if gone:
            await self._redis.hdel(name, *gone)
        self._pruned.add(shard)

    async def _publish(self, shards: Sequence[int]) -> None:
        """Tell what each prepaid tenant may have spent, where its window is whole."""
        prepaid = self._rules.series(self._rules.by_tenant).get(_SERIES, [])
        for shard in shards:
            mine = [tenant for tenant in prepaid if self._keys.shard(tenant) == shard]
            await self._forget(shard, mine)
            if not mine or not await self._redis.exists(self._keys.epoch(shard)):
                continue
            built = await built_series(self._redis, self._keys, self._rules, shard)
            whole = [tenant for tenant in mine if tenant in built.get(_SERIES, [])]
            if not whole:
                continue
            limits = await asyncio.to_thread(limits_of, self._ledger, shard, whole, now_ns())
            name = self._keys.balances(shard)
            there: Any = await self._redis.hmget(name, whole)
            told = dict(zip(whole, there, strict=True))
            fresh: dict[Any, Any] = {
                tenant: str(limit)
                for tenant, limit in limits.items()
                if told[tenant] != str(limit).encode()
            }
            if fresh:
                await self._redis.hset(name, mapping=fresh)
                self._log.info("balances_published", shard=shard, tenants=len(fresh))
