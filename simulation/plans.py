"""Plans of every kind of charge, in versions, and who has which from when: all by chance."""

from __future__ import annotations

import random
from datetime import date, timedelta

from metering.plans import (
    BUILT_IN,
    Aggregation,
    Assignment,
    Cell,
    ChargeKind,
    Component,
    Coupon,
    Meter,
    Plan,
    Tier,
)

BUSY = Meter(
    "busy-tokens",
    Aggregation.SUM,
    ("input_uncached", "output_text"),
    ("project", "model", "type"),
    where={"project": ("p1", "x-*")},
)
LARGEST = Meter("largest", Aggregation.MAX, ("output_text",), ("model",))
PEOPLE = Meter("people", Aggregation.UNIQUE, of="user")
RUNS = Meter("runs", Aggregation.UNIQUE, dimensions=("project",), of="run")
METERS = {**BUILT_IN, **{each.name: each for each in (BUSY, LARGEST, PEOPLE, RUNS)}}

_WHOLE = ("api-calls", "llm-tokens", "busy-tokens", "largest", "people", "runs")
_KINDS = tuple(ChargeKind)
_CELLS = (
    {},
    {"model": "model-a"},
    {"model": "model-*"},
    {"model": "model-?", "type": "input"},
    {"model": "model-a", "type": "output"},
    {"type": "tokens"},
    {"type": "input"},
    {"type": "output_text"},
    {"model": "big-1", "type": "input_uncached"},
)


def make_plans(chance: random.Random, first: date) -> list[Plan]:
    """Two plans, one of them with other terms from a day in the middle of a month on."""
    plans = []
    for name in ("gold", "free"):
        plans.append(_plan(chance, name, date(2020, 1, 1)))
        if chance.random() < 0.5:
            plans.append(_plan(chance, name, first + timedelta(days=chance.randrange(2, 55))))
    return plans


def make_assignments(chance: random.Random, plans: list[Plan], first: date) -> list[Assignment]:
    """None, one, or a change in the middle of a month; a first one may come late."""
    count = chance.choice([0, 0, 1, 1, 1, 2, 2, 3])
    days = sorted(chance.sample(range(-20, 55), count))
    found = []
    for day in days:
        plan = chance.choice(plans)
        known = [each for each in plans if each.id == plan.id]
        add_ons = {c.id for each in known for c in each.components if c.add_on}
        coupons = sorted({c.id for each in known for c in each.coupons})
        chance.shuffle(coupons)
        found.append(
            Assignment(
                plan.id,
                first + timedelta(days=day),
                tuple(sorted(each for each in add_ons if chance.random() < 0.7)),
                tuple(coupons[: chance.randrange(len(coupons) + 1)]),
            )
        )
    return found


def _plan(chance: random.Random, name: str, since: date) -> Plan:
    components = tuple(
        _component(chance, f"c{number}", chance.choice(_KINDS))
        for number in range(chance.randrange(0, 5))
    )
    used = {each.meter for each in components if each.meter is not None}
    coupons = []
    for number in range(chance.randrange(0, 3)):
        ids = [each.id for each in components]
        named = tuple(chance.sample(ids, chance.randrange(len(ids) + 1)))
        is_share = chance.random() < 0.5
        coupons.append(
            Coupon(
                f"off{number}",
                percent_ppm=chance.randrange(1, 1_000_001) if is_share else 0,
                amount_nano=0 if is_share else chance.randrange(1, 10**8),
                months=chance.choice([None, 1, 2]),
                components=named,
            )
        )
    return Plan(
        name,
        name.title(),
        components,
        tuple(METERS[each] for each in sorted(used)),
        tuple(coupons),
        minimum_nano=chance.choice([0, 0, 0, chance.randrange(10**6), chance.randrange(10**9)]),
        trial_days=chance.choice([0, 0, 0, 3, 40]),
        other_usage=chance.choice(["list_price", "included"]),
        effective_from=since,
    )


def _component(chance: random.Random, name: str, kind: ChargeKind) -> Component:
    fields: dict[str, object] = {}
    meter: str | None = chance.choice(_WHOLE)
    match kind:
        case ChargeKind.FLAT:
            most = chance.choice([10**6, 10**6, 10**9])  # less than usage comes to, or more
            meter, fields["amount_nano"] = None, chance.randrange(most)
        case ChargeKind.PER_UNIT:
            fields["rate_pico"] = chance.randrange(10**7)
        case ChargeKind.GRADUATED | ChargeKind.VOLUME:
            fields["tiers"] = _tiers(chance)
        case ChargeKind.PACKAGE:
            fields["amount_nano"] = chance.randrange(10**6)
            fields["package_size"] = chance.randrange(1, 500)
        case ChargeKind.PERCENTAGE:
            meter = chance.choice(["list-price", "cost"])
            fields["percent_ppm"] = chance.randrange(2_000_000)
        case ChargeKind.MATRIX | ChargeKind.CREDITS:
            meter = chance.choice(["llm-tokens", "llm-tokens", "busy-tokens"])
            cells = chance.sample(_CELLS, chance.randrange(1, 5))
            fields["cells"] = tuple(Cell(each, chance.randrange(1, 10**8)) for each in cells)
            fields["amount_nano"] = chance.randrange(10**7)
    if kind not in (ChargeKind.FLAT, ChargeKind.PERCENTAGE):
        fields["included"] = chance.choice([0, 0, chance.randrange(5_000)])
    fields["prorated"] = chance.random() < 0.7
    return Component(
        name,
        kind,
        name.upper(),
        meter,
        add_on=chance.random() < 0.2,
        **fields,  # type: ignore[arg-type]
    )


def _tiers(chance: random.Random) -> tuple[Tier, ...]:
    borders = sorted(chance.sample(range(1, 9_000), chance.randrange(0, 4)))
    ends: list[int | None] = [*borders, None]
    return tuple(
        Tier(end, chance.randrange(10**6), chance.choice([0, chance.randrange(10**5)]))
        for end in ends
    )
