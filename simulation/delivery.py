"""The course of one world: entries come, workers settle them, die and come back, months close.

The workers are the real ones below the level of the loop: `Booker`, `StreamReader`, the writer, the
rollups, trimming, the close of months. What the loop decides by the clock is drawn by chance here,
so every order of its steps may come, and those of two workers are interleaved.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, cast

from redis.asyncio import Redis

from metering.events import UsageEvent, encode, payload_hash
from metering.redis_keys import GROUP, RedisKeys
from metering.settlement.ledger.analytics_rollup import update_analytics
from metering.settlement.ledger.credit_draws import draw_credits
from metering.settlement.ledger.plan_books import Terms, close_month
from metering.settlement.ledger.rollups import update_rollups
from metering.settlement.ledger.standing import settled_positions
from metering.settlement.ledger.store import Ledger
from metering.settlement.redis_stream import StreamReader
from metering.settlement.timing import Timing
from metering.settlement.worker_booking import Booker
from metering.settlement.worker_lane import Lane
from simulation.credit_acts import drawn_through, perform
from simulation.fate import Fate, Killed, MortalLedger
from simulation.grants import Act, make_acts
from simulation.memory_redis import Client, MemoryRedis, waiting
from simulation.world import DAY_NS, START_NS, World

KEYS = RedisKeys(prefix="sim", shards=4)
CLOSED = ("2026-11", "2026-12")
PATIENT, SUSPICIOUS = Timing(tries_alone=9, tries_max=10**6), Timing(tries_max=10**6)
"""Here it is never the entry that kills the worker. Some courses try each by itself all the same,
after two deaths, as production does: that takes many times as long."""
IDLE_MS = 60_000
WORKERS = ("w1", "w2")
LATER_NS = START_NS + 100 * DAY_NS
"""When months are closed and credit is booked: after all that happens."""


@dataclass
class Quiet:
    """A log that keeps the names of what was said."""

    said: list[str] = field(default_factory=list)

    def info(self, event: str, **_: Any) -> None:
        self.said.append(event)

    warning = info


class Worker:
    """One worker's life, from its start to its death."""

    def __init__(self, course: Course, name: str) -> None:
        ledger = MortalLedger(course.ledger, course.fate)
        client = Client(course.redis, course.fate.reach, course.is_next_turn)
        redis = cast("Redis", client)
        self.ledger, self.redis = ledger, redis
        self.reader = StreamReader(redis, KEYS, consumer=name, shards=range(KEYS.shards))
        timing = SUSPICIOUS if course.world.seed % 8 == 0 else PATIENT
        self.lane = Lane(timing)
        self.booker = Booker(
            ledger, redis, KEYS, timing=timing, writing=course.writing, log=course.log
        )
        self.is_recovered = False

    async def recover(self) -> None:
        """What `Settlement._recover` does, but for Redis' windows."""
        self.ledger.migrate()
        await self.reader.ensure_groups()
        await self.settle_own()
        await self.booker.confirming.confirm(self.reader)
        self.is_recovered = True

    async def settle_own(self) -> None:
        self.lane.waiting.clear()
        after: dict[int, str] = {}
        while entries := await self.reader.read_own(after):
            after.update({entry.shard: entry.stream_id for entry in entries})
            await self.booker.settle_again(self.reader, self.lane, entries)

    async def settle_new(self) -> None:
        entries = await self.reader.read_new(block_ms=1)
        await self.booker.settle(self.reader, self.lane, entries)

    async def claim(self) -> None:
        async for entries in self.reader.claim_idle(idle_ms=IDLE_MS):
            await self.booker.settle_again(self.reader, self.lane, entries)

    async def keep_up(self) -> None:
        update_rollups(self.ledger)
        update_analytics(self.ledger)
        draw_credits(self.ledger, self.reader.shards, now_ns=LATER_NS)
        await self.reader.trim(settled_positions(self.ledger), keep_ms=IDLE_MS)

    async def drain(self) -> None:
        """Everything that is left, one's own and others'."""
        await self.settle_own()
        await self.claim()
        await self.settle_new()


@dataclass
class Course:
    """One run of a world; `order` draws everything that the world leaves open."""

    world: World
    ledger: Ledger
    fate: Fate
    order: random.Random
    log: Quiet = field(default_factory=Quiet)
    redis: MemoryRedis = field(default_factory=lambda: MemoryRedis(START_NS // 10**6))
    added: int = 0
    lives: int = 0
    trace: deque[str] = field(default_factory=lambda: deque(maxlen=60))
    """The last steps, for whoever has to find out what went wrong."""

    def __post_init__(self) -> None:
        self.writing = asyncio.Lock()
        self.workers: dict[str, Worker] = {}
        self.places: dict[str, set[str]] = {}
        """The ids in the stream under which each event came."""
        self.undone = make_acts(self.order, self.world.grants, START_NS)
        self.acts: list[tuple[dict[int, int], Act]] = []
        """What was done to grants, each with how far was drawn in each shard's chain then."""

    def is_next_turn(self) -> bool:
        return self.order.random() < 0.3

    async def run(self) -> None:
        self._publish(withheld=False)
        await self._phase([*self._bodies(self.world.first), *self.world.malformed])
        await self._close("2026-11")
        late = [*self._bodies(self.world.late), *self._bodies(self.world.conflicts, once=True)]
        late += [encode(e) for e in self.world.first if self.order.random() < 0.1]
        await self._phase(late)
        await self._close("2026-12")
        while self.undone:
            self._act()
        for name in WORKERS:  # who died before it told a proxy what is booked tells it at its start
            await self._settled("upkeep", lambda worker: worker.keep_up(), name)

    async def _phase(self, bodies: list[bytes]) -> None:
        """Deliver these in some order, settling meanwhile; then until nothing is left."""
        self.order.shuffle(bodies)
        while bodies:
            for _ in range(self.order.choice([1, 4, 12, 40])):
                if bodies:
                    self._add(bodies.pop())
            self.redis.now_ms += self.order.choice([0, 5, 700, -40_000, 90_000, 4_000_000])
            await self._turn()
        self._publish(withheld=True)
        await self._turn()
        self.fate.is_calm = True
        streams = [KEYS.stream(shard) for shard in range(KEYS.shards)]
        for _ in range(50):
            self.redis.now_ms += IDLE_MS + 1
            await self._settled("drain", lambda worker: worker.drain())
            if not waiting(self.redis, streams, GROUP):
                break
        self.fate.is_calm = False

    async def _turn(self) -> None:
        """One or two workers do something at once; or somebody does something to a grant."""
        if self.undone and self.order.random() < 0.3:
            self._act()
        names = self.order.sample(WORKERS, self.order.choice([1, 1, 2]))
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(self._live(name, *self._step()))

    def _step(self) -> tuple[str, Callable[[Worker], Awaitable[None]]]:
        steps: list[tuple[str, Callable[[Worker], Awaitable[None]]]] = [
            ("new", lambda worker: worker.settle_new()),
            ("own", lambda worker: worker.settle_own()),
            ("claim", lambda worker: worker.claim()),
            ("upkeep", lambda worker: worker.keep_up()),
        ]
        return self.order.choices(steps, (8, 2, 2, 1))[0]

    async def _live(self, name: str, what: str, step: Callable[[Worker], Awaitable[None]]) -> bool:
        """Let a worker do this, starting it first where it is dead; whether it lived to the end."""
        try:
            if name not in self.workers:
                self.workers[name] = Worker(self, name)
                self.lives += 1
            worker = self.workers[name]
            if not worker.is_recovered:
                await worker.recover()
            await step(worker)
        except Killed as killed:
            self.trace.append(f"{name} {what}: killed {killed}")
            self.workers.pop(name, None)
            self.ledger.close()
            return False
        self.trace.append(f"{name} {what}")
        return True

    def _act(self) -> None:
        """The next thing that is done to grants, over as many deaths of the command as it takes."""
        act = self.undone.pop(0)
        while True:
            try:
                ledger = MortalLedger(self.ledger, self.fate)
                if act.what == "expire":  # as the worker has it: what is settled is drawn for
                    draw_credits(ledger, range(KEYS.shards), now_ns=LATER_NS)
                through = drawn_through(self.ledger)
                perform(ledger, act, now_ns=LATER_NS)
            except Killed as killed:
                self.trace.append(f"{act.what}: killed {killed}")
                self.ledger.close()
            else:
                break
        self.trace.append(f"{act.what} {act.given.name if act.given else act.settled_ns}")
        self.acts.append((through, act))

    async def _settled(
        self, what: str, step: Callable[[Worker], Awaitable[None]], name: str = WORKERS[0]
    ) -> None:
        """The same, until the worker lived through it."""
        while not await self._live(name, what, step):
            pass

    async def _close(self, period: str) -> None:
        """Close a month for everybody, over as many deaths as it takes."""
        for tenant in self.order.sample(self.world.tenants, len(self.world.tenants)):
            terms = Terms(self.world.plans, self.world.assignments[tenant])

            async def close(worker: Worker, tenant: str = tenant, terms: Terms = terms) -> None:
                close_month(worker.ledger, tenant, period, terms, now_ns=LATER_NS)

            await self._settled(f"close {tenant} {period}", close)

    def _bodies(self, events: Iterable[UsageEvent], *, once: bool = False) -> list[bytes]:
        """Each event, some of them more than once."""
        found = []
        for each in events:
            times = 1 if once else self.order.choice([1, 1, 1, 1, 2, 3])
            found += [encode(each)] * times
        return found

    def _add(self, body: bytes) -> None:
        shard = self._shard(body)
        name = KEYS.stream(shard)
        digest = payload_hash(body)
        at = self.redis.xadd(name, {"e": body, "h": digest})
        self.places.setdefault(digest, set()).add(at.decode())
        self.added += 1
        self.trace.append(f"add {digest[:8]} to {shard} as {at.decode()}")

    def _shard(self, body: bytes) -> int:
        for tenant in self.world.tenants:
            if b'"tenant":"%s"' % tenant.encode() in body:
                return KEYS.shard(tenant)
        return 0

    def _publish(self, *, withheld: bool) -> None:
        for prices in self.world.prices:
            book = prices.book
            bodies = ((book.cost_version, False), (book.sell_version, True))
            for version, is_sell in bodies:
                if (version in self.world.withheld) is withheld:
                    self.redis.set(KEYS.prices(version), book.body(sell=is_sell))
