"""Which tenants are nearest to a cap: those that spend are looked at, the others by and by.

A look reads every bucket of a tenant's windows, so it is rationed: however many tenants there are,
the Redis of the request path answers the same few looks in a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from metering.caps import BALANCE, Candidate, CapMode, CapState, Hold, Vector
from metering.money import PPM, format_usd
from metering.redis_connect import RedisRunner
from metering.redis_keys import RedisKeys
from metering.redis_look import look_in_redis
from metering.tenant_caps import caps_under, with_balance
from metering.tenants import Tenant
from proxy.limit_words import rfc3339_ms, window_text

ACTIVE_MAX = 24
SWEEP = 16
SHOWN = 10
NEAR_PPM = 800_000

_NOTHING = Candidate("none", Vector(0, 0, 0))


@dataclass(slots=True)
class CapsSweep:
    """Goes round the tenants, and keeps the fullest cap of each that it has seen."""

    link: RedisRunner
    keys: RedisKeys
    _rows: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    _next: int = 0

    async def turn(self, tenants: Mapping[str, Tenant], active: Iterable[str]) -> dict[str, Any]:
        """Look at some, and tell of the fullest that are known."""
        for gone in self._rows.keys() - tenants.keys():
            del self._rows[gone]
        wanted = self._wanted(tenants, active)
        looks = await asyncio.gather(*(self._look(tenants[each]) for each in wanted))
        for tenant, found in zip(wanted, looks, strict=True):
            if found is None:
                self._rows.pop(tenant, None)
            else:
                self._rows[tenant] = found
        ranked = sorted(self._rows.values(), key=lambda each: (-each[0], each[1]["tenant"]))
        return {
            "tenants": [row for _, row in ranked[:SHOWN]],
            "known": len(self._rows),
            "total": len(tenants),
            "near": sum(share >= NEAR_PPM for share, _ in ranked),
        }

    def _wanted(self, tenants: Mapping[str, Tenant], active: Iterable[str]) -> list[str]:
        wanted = dict.fromkeys([each for each in active if each in tenants][:ACTIVE_MAX])
        top = sorted(self._rows, key=lambda each: -self._rows[each][0])[:SHOWN]
        wanted |= dict.fromkeys(top)
        everybody = list(tenants)
        for step in range(min(SWEEP, len(everybody))):
            wanted[everybody[(self._next + step) % len(everybody)]] = None
        self._next = (self._next + SWEEP) % max(1, len(everybody))
        return list(wanted)

    async def _look(self, tenant: Tenant) -> tuple[int, dict[str, Any]] | None:
        caps = caps_under(tenant, ())
        if any(cap.window == BALANCE for cap in caps):
            told = await self.link.call(
                "HGET", self.keys.balances(self.keys.shard(tenant.id)), tenant.id
            )
            caps = with_balance(caps, int(told)) if told is not None else caps
        looked = await look_in_redis(
            self.link, self.keys, Hold(tenant.id, "look", caps), [_NOTHING], None
        )
        return fullest(tenant, looked.states)


def fullest(tenant: Tenant, states: Iterable[CapState]) -> tuple[int, dict[str, Any]] | None:
    """Share in ppm and row of the money cap that is nearest to its limit; None where none is."""
    best: tuple[int, CapState] | None = None
    for state in states:
        limit = state.cap.limit.nano
        if limit is None or state.cap.mode is not CapMode.ENFORCE:
            continue
        used = state.spent.nano + state.held.nano
        share = PPM if limit <= 0 else used * PPM // limit
        if best is None or share > best[0]:
            best = share, state
    if best is None:
        return None
    share, state = best
    limit = state.cap.limit.nano or 0
    spent, held = state.spent.nano, state.held.nano
    return share, {
        "tenant": tenant.id,
        "name": tenant.name,
        "window": window_text(state.cap.window),
        "cap_usd": format_usd(limit, places=9),
        "spent_usd": format_usd(spent, places=9),
        "held_usd": format_usd(held, places=9),
        "remaining_usd": format_usd(max(0, limit - spent - held), places=9),
        "cap_nano": limit,
        "spent_nano": spent,
        "held_nano": held,
        "share": share / PPM,
        "frees_at": None if state.reset_ms is None else rfc3339_ms(state.reset_ms),
    }
