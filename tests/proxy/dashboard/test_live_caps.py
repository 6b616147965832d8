"""Which tenants are nearest to a cap, on a real Redis."""

from __future__ import annotations

from metering.caps import ROLLING_DAY, Cap, CapMode, CapState, Limit, Scope, ScopeKind, Vector
from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink
from metering.tenants import SpendLimits, Tenant
from proxy.dashboard.live_caps import SHOWN, SWEEP, CapsSweep, fullest

ACME = Tenant("acme", "Acme", SpendLimits(daily_cap_nano=10_000))


def state(limit: int | None, spent: int, held: int, mode: CapMode = CapMode.ENFORCE) -> CapState:
    cap = Cap(Scope(ScopeKind.TENANT), ROLLING_DAY, Limit(nano=limit), mode)
    return CapState(cap, Vector(spent, 0, 0), Vector(held, 0, 0), 1_793_491_200_000)


def test_the_fullest_cap_that_refuses_is_shown() -> None:
    """What is held fills it too; caps that only watch, or know no money, do not stand here."""
    states = [
        state(None, 9_999, 0),
        state(100, 100, 0, CapMode.ALERT),
        state(10_000, 4_000, 2_000),
        state(1_000, 100, 0),
    ]

    found = fullest(ACME, states)

    assert found is not None
    share_ppm, row = found
    assert share_ppm == 600_000
    assert (row["cap_nano"], row["spent_nano"], row["held_nano"]) == (10_000, 4_000, 2_000)
    assert row["remaining_usd"] == "0.000004000"
    assert fullest(ACME, states[:2]) is None


async def test_all_tenants_are_seen_by_and_by(redis_link: RedisLink, redis_keys: RedisKeys) -> None:
    """Few at a time, however many there are; who spends now is looked at before its turn."""
    for shard in range(redis_keys.shards):
        await redis_link.call("SET", redis_keys.epoch(shard), 1)
    names = [f"t{number:03}" for number in range(SWEEP * 3)]
    tenants = {name: Tenant(name, name, SpendLimits(daily_cap_nano=10**9)) for name in names}
    sweep = CapsSweep(redis_link, redis_keys)

    first = await sweep.turn(tenants, [names[-1], "unknown"])
    await sweep.turn(tenants, [])
    last = await sweep.turn(tenants, [])
    fewer = await sweep.turn({names[0]: tenants[names[0]]}, [])

    assert (first["known"], first["total"]) == (SWEEP + 1, SWEEP * 3)
    assert last["known"] == SWEEP * 3
    assert len(last["tenants"]) == SHOWN
    assert (fewer["known"], fewer["total"]) == (1, 1)
