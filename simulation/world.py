"""A world out of one seed: who there is, what it is charged by, and everything that happens.

What a proxy would have written stands in `first` and `late` (after November was closed); each body
once. How often and in what order they come is the matter of `delivery`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date

from metering.events import RECOVERED, Kind, Reason, Status, UsageEvent
from metering.ids import uuid7
from metering.plans import Assignment, Plan
from metering.recovery import reversal
from simulation.grants import Given, make_grants
from simulation.naive_prices import event_amounts, totals
from simulation.plans import make_assignments, make_plans
from simulation.prices import TOKENS, Prices, make_prices
from simulation.rerates import Rerating, make_reratings

FIRST = date(2026, 11, 1)
DAY_NS = 86_400 * 10**9
START_NS = (FIRST - date(1970, 1, 1)).days * DAY_NS
NOVEMBER, DECEMBER = (START_NS, START_NS + 30 * DAY_NS), (START_NS + 30 * DAY_NS,
                                                          START_NS + 61 * DAY_NS)  # fmt: skip
MODELS = ("model-a", "model-a", "model-b", "big-1")


@dataclass
class World:
    """Everything that a seed decides but the order of things."""

    seed: int
    tenants: tuple[str, ...] = ()
    prices: list[Prices] = field(default_factory=list)
    plans: list[Plan] = field(default_factory=list)
    assignments: dict[str, list[Assignment]] = field(default_factory=dict)
    first: list[UsageEvent] = field(default_factory=list)
    late: list[UsageEvent] = field(default_factory=list)
    conflicts: list[UsageEvent] = field(default_factory=list)
    """Ids of `first` with other bodies; they come when the true ones are booked."""
    malformed: list[bytes] = field(default_factory=list)
    withheld: set[str] = field(default_factory=set)
    """Price versions that are published only after their first events came."""
    spooled: dict[str, int] = field(default_factory=dict)
    """How many records each proxy's spool has."""
    grants: list[Given] = field(default_factory=list)
    reratings: list[Rerating] = field(default_factory=list)
    """In the order in which they are done."""

    @property
    def events(self) -> list[UsageEvent]:
        return [*self.first, *self.late]

    def prices_at(self, time_ns: int) -> Prices:
        return max((p for p in self.prices if p.since_ns <= time_ns), key=lambda p: p.since_ns)


def make_world(seed: int, size: int = 60) -> World:
    """The world of a seed, with about so many events."""
    return _Maker(seed, size).make()


class _Maker:
    def __init__(self, seed: int, size: int) -> None:
        self.chance = random.Random(f"world {seed}")
        self.world, self.size = World(seed), size
        self.ids = 0

    def make(self) -> World:
        chance, world = self.chance, self.world
        world.tenants = tuple(
            f"t{seed}" for seed in chance.sample(range(40), chance.choice([1, 2, 3]))
        )
        since = [0, *sorted(chance.randrange(*NOVEMBER) for _ in range(chance.randrange(3)))]
        world.prices = [make_prices(chance, each) for each in since]
        world.reratings = make_reratings(world.seed, world.tenants, world.prices, START_NS)
        world.plans = make_plans(chance, FIRST)
        world.assignments = {
            tenant: make_assignments(chance, world.plans, FIRST) for tenant in world.tenants
        }
        while len(world.first) < self.size:
            span = chance.choice([NOVEMBER, NOVEMBER, DECEMBER])
            world.first += self.happening(span)
        while len(world.late) < self.size // 4:
            span = chance.choice([NOVEMBER, NOVEMBER, DECEMBER])
            world.late += self.happening(span)
        self.split_corrections()
        for event in chance.sample(world.first, chance.randrange(3)):
            world.conflicts.append(replace(event, latency_ms=event.latency_ms + 1))
        world.malformed = [
            each
            for each in (b"", b"{", b'{"schema":1,"event_id":"x"}', b"[]")
            if chance.random() < 0.3
        ]
        if chance.random() < 0.4:
            newest = world.prices[-1].book
            world.withheld = {newest.cost_version, newest.sell_version}
        sold = dict.fromkeys(world.tenants, 0)
        for event in world.events:
            if event.billable:
                sold[event.tenant] += event.admission_nano
        world.grants = make_grants(world.seed, sold, START_NS)
        return world

    def split_corrections(self) -> None:
        """A correction may come after the month was closed; or before its event, by the order."""
        own = [
            e for e in self.world.first if e.correction_reason == "recount"
        ]  # what is superseded the ledger takes back itself
        late = [e for e in own if self.chance.random() < 0.3]
        self.world.first = [e for e in self.world.first if e not in late]
        self.world.late += late

    def happening(self, span: tuple[int, int]) -> list[UsageEvent]:
        """One exchange: its attempts, and what comes of them later."""
        chance = self.chance
        event = self.attempt(self.moment(span))
        what = chance.random()
        if what < 0.10:
            return self.spool([self.failed(event), replace(event, attempt=2)])
        if what < 0.16:
            return [self.failed(event)]
        if what < 0.22:
            return [self.kept(event)]
        if what < 0.32:
            return [self.with_credit(event)]
        if what < 0.44:
            return [*self.spool([event]), self.correction(event)]
        if what < 0.56:
            return self.recovered(event)
        if what < 0.60:  # the proxy counted something else than the units come to
            return [replace(event, admission_nano=event.admission_nano + 7)]
        return self.spool([event])

    def moment(self, span: tuple[int, int]) -> int:
        edges = (span[0], span[1] - 1, span[0] + self.chance.randrange(30) * DAY_NS)
        if self.chance.random() < 0.15:
            return self.chance.choice(edges)
        return self.chance.randrange(*span)

    def attempt(self, occurred_at: int) -> UsageEvent:
        chance = self.chance
        prices = self.world.prices_at(occurred_at)
        model = chance.choice(MODELS)
        took = chance.randrange(1, 90_000)
        # booked at list prices, as no proxy writes it; other prices would take their dearest tier
        unknown = None if self.world.reratings else "unheard-of"
        event = UsageEvent(
            event_id=self.new_id(occurred_at),
            exchange_id=self.new_id(occurred_at),
            tenant=chance.choice(self.world.tenants),
            project=chance.choice(["p1", "p2", "x-9"]),
            api_key_id=chance.choice(["k1", "k2"]),
            request_id=f"req-{self.ids}",
            occurred_at=occurred_at,
            completed_at=occurred_at + took * 10**6,
            emitted_at=occurred_at + took * 10**6 + 1,
            session=chance.choice([None, "s1", "s2"]),
            run=chance.choice([None, "r1", "r2", "r3"]),
            feature=chance.choice([None, "search"]),
            user=chance.choice([None, "ann", "bob", "Zoë"]),
            provider="one",
            model_requested=chance.choice([model, "public"]),
            model_upstream=model,
            model_version=chance.choice([None, "2026-01"]),
            region=chance.choice([None, "eu", "us"]),
            price_tier=chance.choice([None, None, "batch", "priority", unknown]),
            units=self.units(),
            usage_source=chance.choice(["provider", "counted", "mixed"]),
            cost_version=prices.book.cost_version,
            sell_version=prices.book.sell_version,
            latency_ms=took,
            proxy_id=chance.choice(["", "px1", "px2"]),
        )
        return self.rated(event)

    def units(self) -> dict[str, int]:
        chance = self.chance
        most = chance.choice([3, 200, 4_000])
        found = {
            unit: chance.randrange(most) for unit in chance.sample(TOKENS, chance.randrange(1, 5))
        }
        if chance.random() < 0.7:
            found["api_call"] = 1
        if chance.random() < 0.1:
            found["second"] = chance.randrange(60)
        if chance.random() < 0.05:
            found["web_search"] = 1
        return found

    def rated(self, event: UsageEvent) -> UsageEvent:
        """With what the proxy would have written beside the units."""
        price = self.world.prices_at(event.occurred_at).of(event.model_upstream)
        sell, cost = totals(event_amounts(event, price))
        return replace(event, admission_nano=sell, cost_nano=cost)

    def failed(self, event: UsageEvent) -> UsageEvent:
        units = event.units if self.chance.random() < 0.5 else {}
        return self.rated(
            replace(
                event,
                event_id=self.new_id(event.occurred_at),
                units=units,
                billable=False,
                reason_code=Reason.UPSTREAM_ERROR,
                status=Status.ERROR,
                sell_version=self.chance.choice([None, event.sell_version]),
            )
        )

    def kept(self, event: UsageEvent) -> UsageEvent:
        return self.rated(
            replace(event, reason_code=Reason.CACHE_HIT, cost_version=None, cache_status="hit")
        )

    def with_credit(self, event: UsageEvent) -> UsageEvent:
        off = self.chance.randrange(max(event.admission_nano, 0) + 1)
        return self.rated(replace(event, sla_credit_nano=off, sla_met=False))

    def correction(self, event: UsageEvent) -> UsageEvent:
        """The whole of it taken back, or a part of its output."""
        part = {unit: -n for unit, n in event.units.items()}
        if self.chance.random() < 0.5:
            part = {unit: -self.chance.randrange(n + 1) for unit, n in event.units.items()}
        return self.rated(
            replace(
                event,
                event_id=self.new_id(event.occurred_at),
                kind=Kind.CORRECTION,
                corrects=event.event_id,
                correction_reason="recount",
                units=part,
                spool_seq=None,
                spool_events=None,
            )
        )

    def recovered(self, event: UsageEvent) -> list[UsageEvent]:
        """The process was taken for dead; it may have lived, and either side may have said so."""
        units = {unit: self.chance.randrange(n + 1) for unit, n in event.units.items()}
        lost = self.rated(
            replace(
                event,
                event_id=self.new_id(event.occurred_at),
                units=units,
                usage_source=RECOVERED,
                proxy_id="",
            )
        )
        what = self.chance.random()
        if what < 0.3:
            return [lost]
        if what < 0.6:
            return [lost, event, reversal(lost)]
        return [lost, event]

    def spool(self, events: Sequence[UsageEvent]) -> list[UsageEvent]:
        """The attempts of an exchange as one record of a proxy's spool, if that has one."""
        name = events[0].proxy_id
        if not name:
            return list(events)
        number = self.world.spooled[name] = self.world.spooled.get(name, 0) + 1
        return [replace(e, spool_seq=number, spool_events=len(events)) for e in events]

    def new_id(self, time_ns: int) -> str:
        self.ids += 1
        return uuid7(time_ns // 10**6, self.ids.to_bytes(10, "big"))
