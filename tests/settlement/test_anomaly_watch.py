"""The watch over spend beside a real Redis and a real ledger; the clock is the test's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from fixtures_ledger import KEYS, book, make_event
from fixtures_redis import RedisServer
from fixtures_worker import CollectingLog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import select

from metering.clock import now_ns
from metering.redis_keys import RedisKeys
from metering.settlement.anomalies import Verdict
from metering.settlement.anomaly_watch import REREAD_MIN, AnomalyWatch
from metering.settlement.ledger import tables
from metering.settlement.ledger.reviews import Decision, Item, all_items, decide
from metering.settlement.ledger.rollups import update_rollups
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.velocities import MINUTE_NS
from metering.settlement.redis_client import connect
from metering.settlement.watch import Unwatched
from metering.tolerances import Mode, Step, Tolerance, Tolerances

USD = 1_000_000_000
START = 29_891_520
"""A minute of 2026-11, at which the day begins."""
ENFORCE = Tolerance(
    mode=Mode.ENFORCE, samples_min=20, degrade_after_min=5, pause_after_min=8, degrade_stage=2
)


class Counting(Unwatched):
    """A watch that remembers steps."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, str]] = []

    def synced(self, outcomes, *, waiting: int, held: int) -> None: ...

    def reviewed(self, step: str, mode: str) -> None:
        self.steps.append((step, mode))


@dataclass
class Town:
    """A ledger that fills by the minute, a Redis with flags, and workers that look."""

    ledger: Ledger
    redis: Redis
    keys: RedisKeys
    tolerances: Tolerances
    minute: int = START
    told: Counting = field(default_factory=Counting)
    watch: AnomalyWatch = field(init=False)

    def __post_init__(self) -> None:
        self.watch = self.new_watch()

    def new_watch(self) -> AnomalyWatch:
        return AnomalyWatch(
            self.ledger,
            self.redis,
            self.keys,
            tolerances=self.tolerances,
            writing=asyncio.Lock(),
            log=CollectingLog(),
            told=self.told,
        )

    def spend(self, usd: int, *, key: str = "k1", minute: int | None = None) -> None:
        """Book so much for a minute, in one event: a million tokens cost 5 USD."""
        at = (self.minute if minute is None else minute) * MINUTE_NS
        event = make_event(
            api_key_id=key,
            units={"input_uncached": usd * 200_000},
            occurred_at=at,
            completed_at=at + 1,
        )
        book(self.ledger, [event])

    @property
    def shards(self) -> tuple[int, ...]:
        return (KEYS.shard("acme"),)

    async def look(self, watch: AnomalyWatch | None = None) -> None:
        """The minute is over, and some seconds more."""
        now = (self.minute + 1) * MINUTE_NS + 11 * 10**9
        await (watch or self.watch).turn(self.shards, now_ns=now)

    async def live(self, *usd: int, key: str = "k1") -> None:
        """Minutes that are spent and looked at, one after the other."""
        for amount in usd:
            self.minute += 1
            if amount:
                self.spend(amount, key=key)
            await self.look()

    def usual(self, minutes: int = 30) -> None:
        """Two dollars in each of so many minutes, all booked at once."""
        for _ in range(minutes):
            self.minute += 1
            self.spend(2)

    @property
    def item(self) -> Item:
        [found] = all_items(self.ledger)
        return found

    def alerts(self) -> list[tuple[str, Any]]:
        with self.ledger.read() as connection:
            rows = connection.execute(select(tables.outbox).order_by(tables.outbox.c.id)).all()
        return [(row.key, orjson.loads(row.body)) for row in rows]

    async def flag(self, name: str) -> Any:
        return await self.redis.hget(self.keys.state("acme"), name)

    def decide(self, verdict: Verdict, level_nano: int | None = None) -> None:
        at = (self.minute + 1) * MINUTE_NS
        decide(self.ledger, self.item.id, Decision(verdict, level_nano, "ann", "seen", at))


@pytest.fixture
async def town(
    redis_server: RedisServer, redis_keys: RedisKeys, ledger: Ledger
) -> AsyncIterator[Town]:
    client = connect(f"unix://{redis_server.path}")
    yield Town(ledger, client, redis_keys, Tolerances(ENFORCE))
    await client.aclose()


async def test_the_ladder_is_climbed_a_step_at_a_time(town: Town) -> None:
    """Three minutes: told. Five: degraded. Eight: paused. Each is said once."""
    town.usual()
    await town.live(20, 20)
    assert all_items(town.ledger) == []

    await town.live(20)
    assert set(town.item.steps) == {Step.ALERT}
    await town.live(20, 20)
    assert await town.flag("stage_min") == b"2"
    assert await town.flag("paused") is None
    await town.live(20, 20, 20)

    paused = orjson.loads(await town.flag("paused"))
    assert (paused["by"], paused["why"]) == ("anomaly", f"review item {town.item.id}")
    assert [key for key, _ in town.alerts()] == [
        f"{kind}:{town.item.id}" for kind in ("spend_velocity", "spend_degraded", "spend_paused")
    ]
    _, body = town.alerts()[0]
    assert (body["tenant"], body["api_key_id"], body["seen_nano"]) == ("acme", None, 20 * USD)
    assert 2 * USD <= body["usual_nano"] < 3 * USD


async def test_one_noisy_minute_is_nobodys_business(town: Town) -> None:
    """However noisy."""
    town.usual()
    await town.live(5_000, 2, 2, 2, 2)

    assert all_items(town.ledger) == []


async def test_a_degradation_ends_by_itself_and_a_pause_does_not(town: Town) -> None:
    """What is paused waits for a person, whatever it spends."""
    town.usual()
    await town.live(*[20] * 6, *[2] * 10)
    assert await town.flag("stage_min") is None
    assert Step.CLOSED in town.item.steps

    town.minute += 60
    await town.live(*[40] * 8, *[0] * 20)
    assert await town.flag("stage_min") is None
    assert await town.flag("paused") is not None
    assert [Step.CLOSED in item.steps for item in all_items(town.ledger)] == [True, False]


@pytest.mark.parametrize("verdict", [Verdict.APPROVE, Verdict.REBASE])
async def test_a_decision_that_was_only_written_is_carried_out(
    town: Town, verdict: Verdict
) -> None:
    """As by a command that was killed between the row and the flag."""
    town.usual()
    await town.live(*[20] * 8)
    town.decide(verdict, 20 * USD if verdict is Verdict.REBASE else None)

    await town.look(town.new_watch())
    assert await town.flag("paused") is None
    assert await town.flag("stage_min") is None
    assert {Step.PAUSE_LIFTED, Step.DEGRADE_LIFTED} <= town.item.steps.keys()


async def test_what_was_rebased_is_usual_and_what_was_approved_is_not(town: Town) -> None:
    """The same spend an hour later: with `approve` it is a new item, with `rebase` it is none."""
    town.usual()
    await town.live(*[20] * 8)
    town.decide(Verdict.REBASE, 20 * USD)
    await town.live(*[0] * 60, *[20] * 8)
    assert len(all_items(town.ledger)) == 1
    await town.live(*[60] * 3)

    assert len(all_items(town.ledger)) == 2


async def test_what_goes_on_after_its_approval_is_not_stopped_again(town: Town) -> None:
    """Until it was calm; what comes then is new."""
    town.usual()
    await town.live(*[20] * 4)
    town.decide(Verdict.APPROVE)
    await town.live(*[20] * 10)
    assert await town.flag("paused") is None
    assert len(all_items(town.ledger)) == 1

    await town.live(*[2] * 10, *[40] * 3)
    assert len(all_items(town.ledger)) == 2


async def test_keep_leaves_it_paused_until_somebody_lets_it_go(town: Town) -> None:
    """Worker after worker."""
    town.usual()
    await town.live(*[20] * 8)
    town.decide(Verdict.KEEP)
    await town.live(*[0] * 30)
    assert await town.flag("paused") is not None

    town.decide(Verdict.APPROVE)
    await town.live(0, 0)
    assert await town.flag("paused") is None
    assert Step.CLOSED in town.item.steps


async def test_another_worker_comes_to_the_same(town: Town) -> None:
    """One that has just started, and one that looks at the same time: one item, one alert each."""
    town.usual()
    await town.live(20, 20)
    for _ in range(6):
        town.minute += 1
        town.spend(20)
        await town.look()
        await town.look(town.new_watch())

    assert len(all_items(town.ledger)) == 1
    assert len(town.alerts()) == 3
    assert [step for step, _ in town.told.steps if step == "pause"] == ["pause"]


async def test_what_comes_late_or_twice_counts_once_where_it_belongs(town: Town) -> None:
    """Events of minutes that were looked at already; a repeat of one is no spend."""
    town.usual()
    loud = [make_event(units={"input_uncached": 4_000_000}) for _ in range(3)]
    for _ in range(3):
        await town.live(0)
    for at, event in enumerate(loud):
        moved = make_event(
            units=event.units, completed_at=(town.minute - at) * MINUTE_NS, event_id=event.event_id
        )
        book(town.ledger, [moved])
        book(town.ledger, [moved])
    await town.live(2)

    assert town.item.since_min == town.minute - 3
    assert town.item.finding.seen_nano == 20 * USD


async def test_what_is_later_than_that_is_left_to_history(town: Town) -> None:
    """An outage of an hour is no runaway when its spool comes."""
    town.usual()
    await town.live(*[0] * (REREAD_MIN + 5))
    for at in range(3):
        town.spend(20, minute=town.minute - REREAD_MIN - 2 - at)
    await town.live(2)

    assert all_items(town.ledger) == []


async def test_only_the_key_that_runs_away_is_paused(town: Town) -> None:
    """The tenant's other keys go on."""
    for _ in range(30):
        town.minute += 1
        town.spend(2, key="good")
        town.spend(2, key="bad")
    for _ in range(8):
        town.minute += 1
        town.spend(2, key="good")
        town.spend(50, key="bad")
        await town.look()

    assert await town.flag("paused:key/bad") is not None
    assert await town.flag("paused") is None
    assert await town.flag("stage_min") is None
    assert town.item.api_key_id == "bad"


@pytest.mark.parametrize("mode", [Mode.SHADOW, Mode.ALERT, Mode.OFF])
async def test_other_modes_touch_nobody(town: Town, mode: Mode) -> None:
    """In shadow the whole ladder is noted and counted, and nobody is told."""
    town.tolerances = Tolerances(ENFORCE, {"acme": Tolerance(mode=mode, samples_min=20)})
    town.watch = town.new_watch()
    town.usual()
    await town.live(*[20] * 25)

    assert await town.redis.exists(town.keys.state("acme")) == 0
    steps = [step for step, _ in town.told.steps]
    assert (
        steps
        == {
            Mode.SHADOW: ["alert", "degrade", "pause"],
            Mode.ALERT: ["alert"],
            Mode.OFF: [],
        }[mode]
    )
    assert len(town.alerts()) == (mode is Mode.ALERT)


async def test_what_a_redis_lost_is_set_again_and_what_a_person_took_away_is_not(
    town: Town,
) -> None:
    """An emptied Redis knows neither the flag nor that it was ever set."""
    town.usual()
    await town.live(*[20] * 8)
    state = town.keys.state("acme")
    await town.redis.delete(state)
    await town.live(0)
    assert await town.flag("paused") is not None

    await town.redis.hdel(state, "paused")
    await town.live(0)
    assert await town.flag("paused") is None


async def test_a_pause_of_somebody_else_is_left_alone(town: Town) -> None:
    """It was there before, and stays when ours is lifted."""
    theirs = b'{"by":"ops","why":"unpaid","at_ms":1}'
    await town.redis.hset(town.keys.state("acme"), "paused", theirs)
    town.usual()
    await town.live(*[20] * 8)
    town.decide(Verdict.APPROVE)
    await town.live(0)

    assert await town.flag("paused") == theirs


class Broken:
    """A Redis that is away."""

    async def hexists(self, *_: Any) -> Any:
        raise RedisError("away")

    def __getattr__(self, name: str) -> Any:
        return self.hexists


async def test_what_redis_could_not_take_is_set_later(town: Town) -> None:
    """The row is there; the next turn with a Redis sets the flag."""
    town.usual()
    await town.live(*[20] * 4)
    redis, town.redis = town.redis, Broken()  # type: ignore[assignment]
    away = town.new_watch()
    town.minute += 1
    town.spend(20)
    with pytest.raises(RedisError):
        await town.look(away)
    town.redis = redis
    assert Step.DEGRADE in town.item.steps
    assert await town.flag("stage_min") is None

    await town.look()
    assert await town.flag("stage_min") == b"2"


async def test_the_same_hour_of_the_days_before_is_asked(town: Town) -> None:
    """A nightly job that was there every night is no anomaly, once the history is known."""
    for day in range(1, 7):
        town.spend(60 * 25, minute=START + 60 - day * 24 * 60)
    update_rollups(town.ledger)
    town.minute = START + 30
    town.usual(30)
    await town.live(*[20] * 10)

    assert all_items(town.ledger) == []


async def test_a_clock_that_goes_on_is_all_it_needs(town: Town) -> None:
    """The real time of day: nothing was booked, nothing is found."""
    await town.watch.turn(town.shards, now_ns=now_ns())

    assert all_items(town.ledger) == []
