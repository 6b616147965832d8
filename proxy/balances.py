"""What prepaid tenants may have spent, as the worker publishes it: learned beside the path.

Rules: the limit goes into the caps that reserve judges, so that a balance is refused in the same
round trip as any cap. While it was never told, nobody may spend it. It changes with grants alone,
so the last one stands while Redis is away, and a look a second is soon enough.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from metering.caps import CapsUnavailableError
from metering.redis_keys import RedisKeys
from metering.redis_wire import RedisReplyError
from metering.scripts import ScriptRunner
from metering.tenant_caps import with_balance
from metering.tenants import Tenant
from proxy.refusals import balance_unknown
from proxy.standing import Standing

if TYPE_CHECKING:
    from proxy.door import Door

LOOK_EVERY_S = 1.0
_NAMED_MAX = 500
_KEPT_MAX = 4_096


@dataclass(slots=True)
class Balances:
    """By tenant, nano-USD that it may have spent ever; standings are kept with these in."""

    limits: dict[str, int] = field(default_factory=dict)
    _made: dict[int, tuple[Standing, int, Standing]] = field(default_factory=dict)
    """By identity: a request whose standing is the same gets the same caps, see `Standings`."""

    def stand(self, tenant: Tenant, standing: Standing) -> Standing:
        """The standing with the balance as it is known; ApiError where it is not."""
        if not tenant.is_stopped_by_balance:
            return standing
        limit = self.limits.get(tenant.id)
        if limit is None:
            raise balance_unknown()
        found = self._made.get(id(standing))
        if found is None or found[0] is not standing or found[1] != limit:
            if len(self._made) >= _KEPT_MAX:
                self._made.clear()
            made = replace(standing, caps=with_balance(standing.caps, limit))
            found = self._made[id(standing)] = (standing, limit, made)
        return found[2]


async def follow_balances(
    current: Callable[[], Door], runner: ScriptRunner, keys: RedisKeys
) -> None:
    """Look again and again. Runs until cancelled."""
    is_warned = False
    while True:
        door = current()
        try:
            await look(door.balances, door.settings.tenants.values(), runner, keys)
        except CapsUnavailableError as error:
            door.log.debug("balances_unknown", cause=str(error))
        except (RedisReplyError, ValueError) as error:
            if not is_warned:
                door.log.error("balances_unknown", cause=str(error))
            is_warned = True
        await asyncio.sleep(LOOK_EVERY_S)


async def look(
    balances: Balances, tenants: Iterable[Tenant], runner: ScriptRunner, keys: RedisKeys
) -> None:
    """Learn what is published of these tenants. What Redis has lost stays as it was last told; of
    whoever is not stopped by it any more it is forgotten, for what it spends is not counted."""
    by_shard: dict[int, list[str]] = {}
    for tenant in tenants:
        if tenant.is_stopped_by_balance:
            by_shard.setdefault(keys.shard(tenant.id), []).append(tenant.id)
    stopped = {name for names in by_shard.values() for name in names}
    for name in balances.limits.keys() - stopped:
        del balances.limits[name]
    for shard, names in by_shard.items():
        for start in range(0, len(names), _NAMED_MAX):
            asked = names[start : start + _NAMED_MAX]
            told = await runner.call("HMGET", keys.balances(shard), *asked)
            balances.limits.update(
                {name: int(limit) for name, limit in zip(asked, told, strict=True) if limit}
            )
