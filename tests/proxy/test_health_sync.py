"""Breakers between processes: through a real Redis."""

from __future__ import annotations

import asyncio
from typing import Any

from fixtures_cluster import Cluster
from fixtures_door import CollectingLog

from metering.clock import monotonic_s
from metering.redis_connect import open_runner
from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink
from proxy.health_sync import ASK_AHEAD_S, FORGOTTEN_MS, SYNC_EVERY_S, TRIAL_MS, HealthSync
from proxy.history_sync import HistorySync
from routing.fallback import Outcome
from routing.health import (
    FAILURES_IN_A_ROW,
    LEARNT_LATER_S,
    OPEN_FIRST_S,
    OPEN_MAX_S,
    Health,
    State,
)
from routing.history import History

LABELS = ("one/m", "two/m")


def two(link: RedisLink, keys: RedisKeys) -> list[tuple[Health, HealthSync]]:
    made = []
    for _ in range(2):
        health = Health()
        made.append((health, HealthSync(health, link, keys, labels=LABELS, log=CollectingLog())))
    return made


def break_it(health: Health, label: str = "one/m") -> None:
    for _ in range(FAILURES_IN_A_ROW):
        health.record(label, Outcome.TIMEOUT, monotonic_s(), retry_after_s=None)


async def test_an_open_upstream_is_told_and_a_whole_one_too(
    redis_link: RedisLink, redis_keys: RedisKeys
) -> None:
    """One finds it, both pass it over; the other finds it whole, both ask it again."""
    (here, sync_here), (there, sync_there) = two(redis_link, redis_keys)
    break_it(here)
    await sync_here.turn()
    await sync_there.turn()
    assert there.state("one/m", monotonic_s()) is State.OPEN
    assert there.state("two/m", monotonic_s()) is State.CLOSED
    assert here.changed == there.changed == {}

    there.record("one/m", Outcome.SERVED, monotonic_s() + OPEN_MAX_S, retry_after_s=None)
    await sync_there.turn()
    await sync_here.turn()
    assert here.state("one/m", monotonic_s()) is State.CLOSED
    assert await redis_link.call("HGETALL", redis_keys.health) == []


async def test_what_opens_while_others_listen_is_not_taken_back(
    redis_link: RedisLink, redis_keys: RedisKeys
) -> None:
    """News that has not gone out yet is missing in Redis, and stands all the same."""
    (here, sync_here), (there, sync_there) = two(redis_link, redis_keys)

    class BreaksBetween:
        """Opens a breaker between what is told and what is read."""

        generation = 0
        eval = redis_link.eval

        async def call(self, *args: str | bytes | int) -> Any:
            if args[0] == "HGETALL":
                break_it(here)
            return await redis_link.call(*args)

    late = HealthSync(here, BreaksBetween(), redis_keys, labels=LABELS, log=CollectingLog())
    await late.turn()

    assert here.state("one/m", monotonic_s()) is State.OPEN
    await sync_here.turn()
    await sync_there.turn()
    assert there.state("one/m", monotonic_s()) is State.OPEN


async def test_strangers_and_the_dead_are_not_learned(
    redis_link: RedisLink, redis_keys: RedisKeys
) -> None:
    """An upstream of another configuration is nobody's here; what is long past is put away."""
    (here, sync), _ = two(redis_link, redis_keys)
    now_ms = await sync._now_ms()
    await redis_link.call("HSET", redis_keys.health, "stranger/m", now_ms + 60_000)
    await redis_link.call("HSET", redis_keys.health, "two/m", now_ms - FORGOTTEN_MS - 1_000)
    await sync.turn()

    assert here.troubled == frozenset()
    assert await redis_link.call("HKEYS", redis_keys.health) == [b"stranger/m"]


async def test_a_cool_down_is_shared(redis_link: RedisLink, redis_keys: RedisKeys) -> None:
    """One is told 429 with a time, and both stay away for it; a longer time is learned as well."""
    (here, sync_here), (there, sync_there) = two(redis_link, redis_keys)
    for asked_s in (ASK_AHEAD_S + 1, 20.0):
        here.record("one/m", Outcome.RATE_LIMITED, monotonic_s(), retry_after_s=asked_s)
        await sync_here.turn()
        await sync_there.turn()

        left_s = there._breakers["one/m"].until_s - monotonic_s()
        assert asked_s < left_s <= asked_s + LEARNT_LATER_S
    assert there.changed == {}


async def test_one_asks_first(redis_link: RedisLink, redis_keys: RedisKeys) -> None:
    """Two found the same at once: who told it first may ask when it has cooled, the other waits and
    hears what became of that."""
    (here, sync_here), (there, sync_there) = two(redis_link, redis_keys)
    break_it(here)
    break_it(there)
    for _ in range(3):
        await sync_here.turn()
        await sync_there.turn()

    cooled_s = monotonic_s() + OPEN_FIRST_S
    assert not here.is_passed_over("one/m", cooled_s)
    assert there.is_passed_over("one/m", cooled_s)
    assert not there.is_passed_over("one/m", cooled_s + LEARNT_LATER_S)

    here.begin("one/m", cooled_s)
    here.record("one/m", Outcome.SERVED, cooled_s, retry_after_s=None)
    await sync_here.turn()
    await sync_there.turn()
    assert there.state("one/m", monotonic_s()) is State.CLOSED


async def test_one_probes_at_a_time(redis_link: RedisLink, redis_keys: RedisKeys) -> None:
    """Three know that it cools: one has the lease, and the others wait for as long as it has it,
    be its probe as long as it may."""
    made = [*two(redis_link, redis_keys), *two(redis_link, redis_keys)][:3]
    made[0][0].record("one/m", Outcome.RATE_LIMITED, monotonic_s(), retry_after_s=2.0)
    for _ in range(2):
        for _, sync in made:
            await sync.turn()
    cooled_s = monotonic_s() + 2.0

    free = [not health.is_passed_over("one/m", cooled_s + 2.5) for health, _ in made]
    assert free == [True, False, False]

    leader, leading = made[0]
    leader.begin("one/m", cooled_s)
    await redis_link.call("PEXPIRE", redis_keys.trial("one/m"), 1_000)
    for _, sync in made:
        await sync.turn()
    left_ms = await redis_link.call("PTTL", redis_keys.trial("one/m"))
    assert left_ms > TRIAL_MS - 500  # it is under way, and kept

    leader.record("one/m", Outcome.SERVED, cooled_s + 1, retry_after_s=None)
    await leading.turn()
    assert await redis_link.call("EXISTS", redis_keys.trial("one/m")) == 0
    for health, sync in made[1:]:
        await sync.turn()
        assert health.state("one/m", monotonic_s()) is State.CLOSED


async def test_who_has_no_request_leaves_the_probe_to_another(
    redis_link: RedisLink, redis_keys: RedisKeys
) -> None:
    """A lease that was not used goes round."""
    (here, sync_here), (there, sync_there) = two(redis_link, redis_keys)
    here.record("one/m", Outcome.RATE_LIMITED, monotonic_s(), retry_after_s=0.05)
    await sync_here.turn()
    await sync_there.turn()
    async with asyncio.timeout(5):
        while here.state("one/m", monotonic_s()) is not State.HALF_OPEN:
            await asyncio.sleep(0.01)
    assert there.is_passed_over("one/m", monotonic_s() + LEARNT_LATER_S + 1)

    await redis_link.call("DEL", redis_keys.trial("one/m"))  # as when its time is over
    sync_here._trials["one/m"] = monotonic_s()
    await sync_here.turn()
    await sync_there.turn()

    assert here.is_passed_over("one/m", monotonic_s())
    assert not there.is_passed_over("one/m", monotonic_s() + SYNC_EVERY_S)


async def test_a_failed_probe_is_everybodys(redis_link: RedisLink, redis_keys: RedisKeys) -> None:
    """It opens for all again, for longer, and its lease is free."""
    (here, sync_here), (there, sync_there) = two(redis_link, redis_keys)
    break_it(here)
    await sync_here.turn()
    await sync_there.turn()
    cooled_s = monotonic_s() + OPEN_FIRST_S
    here.begin("one/m", cooled_s)
    here.record("one/m", Outcome.TIMEOUT, monotonic_s(), retry_after_s=None)
    await sync_here.turn()
    await sync_there.turn()

    assert there.is_passed_over("one/m", cooled_s + OPEN_FIRST_S - 1)
    assert await redis_link.call("EXISTS", redis_keys.trial("one/m")) == 0


async def test_a_cluster_runs_the_scripts(redis_cluster: Cluster, redis_keys: RedisKeys) -> None:
    """Breakers, leases and notes are keys of their own there, on whichever server."""
    async with open_runner(redis_cluster.url, timeout_ms=5_000) as link:
        await link.wait_up(5)
        log = CollectingLog()
        made = [
            (health, HealthSync(health, link, redis_keys, labels=LABELS, log=log))
            for health in (Health(), Health())
        ]
        for label in LABELS:
            made[0][0].record(label, Outcome.RATE_LIMITED, monotonic_s(), retry_after_s=2.0)
        for _ in range(2):
            for _, sync in made:
                await sync.turn()
        cooled_s = monotonic_s() + 2.5
        for label in LABELS:
            free = [not health.is_passed_over(label, cooled_s) for health, _ in made]
            assert free == [True, False]

        history, other = History(), History()
        history.begin("one/m", monotonic_s())
        telling, hearing = (
            HistorySync(each, link, redis_keys, proxy_id="p", labels=LABELS, log=log)
            for each in (history, other)
        )
        for sync in (telling, telling, hearing):
            await sync.turn()
        assert sum(each.in_flight for each in other.seen("one/m")) == 1
