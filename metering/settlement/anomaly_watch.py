"""Looks at each minute of spend once it is over, and carries out what the ladder says.

Shell around `velocity` and `anomalies`. Rules: everything is worked out from rows of the ledger, so
a worker that starts anew, or a second one, comes to the same; what is to be done is a row before it
is a flag, and what a crash left undone is done in the next turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial

from redis.asyncio import Redis

from metering.redis_keys import RedisKeys
from metering.settlement.anomalies import Alarm, flags_due, is_over, steps_due
from metering.settlement.ledger.reviews import (
    Item,
    accepted_levels,
    begin_item,
    open_items,
    take_steps,
)
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.velocities import (
    MINUTE_NS,
    Minutes,
    forget_minutes,
    history_of,
    minutes_of,
    sum_minutes,
)
from metering.settlement.review_flags import carry_out, lost_flags
from metering.settlement.velocity import (
    Cause,
    History,
    Judge,
    Track,
    Tracks,
    alarms,
    fold,
)
from metering.settlement.watch import Log, Watch
from metering.tolerances import Mode, Step, Tolerances

GRACE_NS = 10_000_000_000
"""From the end of a minute until it is looked at: what is settled by then is nearly all of it."""

REREAD_MIN = 15
"""Minutes that are looked at again each time: what came late counts where it belongs."""

Alarms = Mapping[tuple[str, str], Track]
"""By tenant and key (empty: the tenant)."""

Found = tuple[tuple[str, str], Track]


@dataclass(slots=True)
class _Shards:
    """What is known of some shards after the minute `at`; later minutes are read again."""

    at: int
    tracks: dict[str, Tracks] = field(default_factory=dict)
    looked: int = -1
    recent: dict[str, tuple[Minutes, Tracks]] = field(default_factory=dict)
    """What the minutes after `at` were when they were looked at last, and what they came to."""


class AnomalyWatch:
    """The worker's eye on spend. Lanes call it in turn, each for its own shards."""

    def __init__(
        self,
        ledger: Ledger,
        redis: Redis,
        keys: RedisKeys,
        *,
        tolerances: Tolerances,
        writing: asyncio.Lock,
        log: Log,
        told: Watch,
    ) -> None:
        self._ledger = ledger
        self._redis = redis
        self._keys = keys
        self._writing = writing
        self._log = log
        self._told = told
        self.adopt(tolerances)
        self._known: dict[tuple[int, ...], _Shards] = {}

    def adopt(self, tolerances: Tolerances) -> None:
        """Judge by these from the next turn on; what is open goes on under them."""
        self._tolerances = tolerances
        self._histories: dict[str, tuple[int, History]] = {}
        every = [tolerances.every, *tolerances.by_tenant.values()]
        self._is_on = any(each.mode is not Mode.OFF for each in every)
        self._memory_min = max(each.memory_min for each in every)

    async def turn(self, shards: tuple[int, ...], *, now_ns: int) -> None:
        """Finish what is to be done, and look at the minutes that are over since the last turn."""
        minute = (now_ns - GRACE_NS) // MINUTE_NS - 1
        known = self._known.setdefault(shards, _Shards(minute - self._memory_min))
        is_new = minute > known.looked
        if is_new:
            found = await self._look(shards, known, minute, now_ns) if self._is_on else {}
            known.looked = minute
            for item in await asyncio.to_thread(open_items, self._ledger, shards):
                await self._climb(item, found, minute, now_ns)
        for item in await asyncio.to_thread(open_items, self._ledger, shards):
            await self._carry_out(item, now_ns)

    async def _look(
        self, shards: tuple[int, ...], known: _Shards, minute: int, now_ns: int
    ) -> Alarms:
        """Who is in alarm; each has an item afterwards."""
        since_min = minute - self._memory_min
        async with self._writing:
            await asyncio.to_thread(sum_minutes, self._ledger, shards, since_min=since_min)
            await asyncio.to_thread(forget_minutes, self._ledger, shards, before_min=since_min)
        found = await asyncio.to_thread(self._judge, shards, known, minute, now_ns)
        for each in found.items():
            tenant, key = each[0]
            mode, shard = self._tolerances.of(tenant).mode, self._keys.shard(tenant)
            item = _new_item(each, shard=shard, mode=mode, now_ns=now_ns)
            async with self._writing:
                is_new = await asyncio.to_thread(begin_item, self._ledger, item)
            if is_new:
                self._log.info("review_item_added", tenant=tenant, api_key_id=key or None)
        return found

    def _judge(
        self, shards: tuple[int, ...], known: _Shards, minute: int, now_ns: int
    ) -> dict[tuple[str, str], Track]:
        accepted = accepted_levels(self._ledger, shards, now_ns=now_ns)
        settled = max(known.at, minute - REREAD_MIN)
        late = minutes_of(self._ledger, shards, after=known.at, through=settled)
        recent = minutes_of(self._ledger, shards, after=settled, through=minute)
        for tenant, minutes in late.items():
            judge = self._judge_of(tenant, accepted, minute)
            known.tracks[tenant] = fold(
                known.tracks.get(tenant, {}), minutes, judge, through=settled
            )
        known.at = settled
        self._forget(known, minute)
        watched = {tenant for tenant, tracks in known.tracks.items() if alarms(tracks)}
        found = {}
        for tenant in sorted(recent.keys() | watched):
            if self._tolerances.of(tenant).mode is Mode.OFF:
                continue
            judge = self._judge_of(tenant, accepted, minute)
            minutes = recent.get(tenant, ())
            tracks, new = _resume(known, tenant, minutes)
            tracks = fold(tracks, new, judge, through=minute)
            known.recent[tenant] = minutes, tracks
            found.update({(tenant, key): track for key, track in alarms(tracks).items()})
        return found

    def _judge_of(
        self, tenant: str, accepted: Mapping[str, Mapping[tuple[str, Cause], int]], minute: int
    ) -> Judge:
        def history() -> History:
            hour = minute // 60
            at, found = self._histories.get(tenant, (-1, History({})))
            if at != hour:
                found = history_of(self._ledger, tenant, now_min=minute)
                self._histories[tenant] = hour, found
            return found

        return Judge(self._tolerances.of(tenant), history, accepted.get(tenant, {}))

    def _forget(self, known: _Shards, minute: int) -> None:
        """Tenants that have been silent for longer than any baseline lasts."""
        known.recent = {
            tenant: kept
            for tenant, kept in known.recent.items()
            if kept[0][-1:] and kept[0][-1][0] > known.at
        }
        known.tracks = {
            tenant: tracks
            for tenant, tracks in known.tracks.items()
            if any(minute - track.at < self._memory_min for track in tracks.values())
        }
        hour = minute // 60
        self._histories = {
            tenant: kept for tenant, kept in self._histories.items() if kept[0] == hour
        }

    async def _climb(self, item: Item, found: Alarms, minute: int, now_ns: int) -> None:
        """Take the steps of the ladder that are due now."""
        tolerance = self._tolerances.of(item.tenant)
        track = found.get((item.tenant, item.api_key_id))
        alarm = Alarm.OVER
        if track is not None and item.mode is tolerance.mode:
            alarm = Alarm.LOUD if track.overs[-1] >= minute - 1 else Alarm.FADING

        def due(at: Item) -> list[Step]:
            return steps_due(at.case, tolerance, alarm, now_min=minute)

        if due(item):
            await self._take(item, due, now_ns)

    async def _carry_out(self, item: Item, now_ns: int) -> None:
        """Set and lift flags until they are as the item's rows say, then close what is over."""
        stage = self._tolerances.of(item.tenant).degrade_stage
        steps = settle_flags(
            self._ledger, self._redis, self._keys, item, stage=stage, now_ns=now_ns
        )
        async with aclosing(steps):  # without the lock: Redis may take its time
            taken = [step async for step in steps]
        self._tell(item, taken)
        if is_over(item.case) and not taken:
            await self._take(item, _close, now_ns)

    async def _take(
        self, item: Item, choose: Callable[[Item], Iterable[Step]], now_ns: int
    ) -> None:
        async with self._writing:
            taken = await asyncio.to_thread(
                take_steps, self._ledger, item.id, choose=choose, now_ns=now_ns
            )
        self._tell(item, taken)

    def _tell(self, item: Item, taken: Iterable[Step]) -> None:
        for step in taken:
            self._told.reviewed(step.value, item.mode.value)
            self._log.info(
                "review_step",
                item=item.id,
                tenant=item.tenant,
                step=step.value,
                mode=item.mode.value,
            )


async def settle_flags(
    ledger: Ledger, redis: Redis, keys: RedisKeys, item: Item, *, stage: int, now_ns: int
) -> AsyncGenerator[Step]:
    """Set and lift the flags of an item as its rows say; each step that was noted for it.

    The flag comes before the note that it is done, so what a crash leaves is done again. What
    Redis has lost together with its note is set again.
    """
    now_ms = now_ns // 1_000_000
    for step in [*flags_due(item.case), *await lost_flags(redis, keys, item)]:
        await carry_out(redis, keys, item, step, stage=stage, now_ms=now_ms)
        if step in item.steps:
            continue
        for taken in await asyncio.to_thread(
            take_steps, ledger, item.id, choose=partial(_unless_taken, step), now_ns=now_ns
        ):
            yield taken


def _close(item: Item) -> list[Step]:
    return [Step.CLOSED] if is_over(item.case) else []


def _resume(known: _Shards, tenant: str, minutes: Minutes) -> tuple[Tracks, Minutes]:
    """Where to fold from, and what: only the new minutes, unless something came late."""
    before, tracks = known.recent.get(tenant, ((), {}))
    old = [each for each in before if each[0] > known.at]
    seen = [each for each in minutes if each[0] <= known.looked]
    if not before or old != seen:
        return known.tracks.get(tenant, {}), minutes
    return tracks, minutes[len(seen) :]


def _unless_taken(step: Step, item: Item) -> list[Step]:
    return [] if step in item.steps else [step]


def _new_item(found: Found, *, shard: int, mode: Mode, now_ns: int) -> Item:
    (tenant, key), track = found
    assert track.since is not None
    assert track.finding is not None
    return Item(
        id=0,
        shard=shard,
        tenant=tenant,
        api_key_id=key,
        mode=mode,
        since_min=track.since,
        finding=track.finding,
        created_at=now_ns,
        steps={},
        decisions=(),
    )
