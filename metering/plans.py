"""Plans: what a tenant pays for a period, as terms that are hashed and dated like a price book.

Pure. A plan is a list of components, each over a meter; its canonical body holds every meter it
reads, so that one version says all that is needed to rate a period. A version is the first 12 hex
digits of the SHA-256 of that body and is never edited: other terms are another version, in force
from a date. Amounts are nano-USD, rates pico-USD per unit, shares parts per million, credits
millionths of a credit. How it is charged stands in `metering.settlement.charges`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Any

import orjson

from metering.prices import version_of
from metering.usage import INPUT_CLASSES, OUTPUT_CLASSES, TOKEN_CLASSES

LIST_PRICE, COST = "list_price", "cost"
"""Units of a meter that sums money, in nano-USD: what events were admitted at, and what they cost
us."""

SIDES: Mapping[str, tuple[str, ...]] = {
    "input": INPUT_CLASSES,
    "output": OUTPUT_CLASSES,
    "tokens": TOKEN_CLASSES,
}
"""Names of several token classes at once, in meters and in cells."""

DIMENSIONS = (
    "model",
    "type",
    "model_requested",
    "model_version",
    "provider",
    "project",
    "feature",
    "api_key",
    "status",
)
"""What a meter can tell apart; `model` is the upstream's, `type` the unit."""

DISTINCT = ("user", "session", "run", "feature", "project", "api_key", "request")
"""What a meter of the aggregation `unique` can count."""


class Aggregation(StrEnum):
    """How a meter makes one number of many events."""

    COUNT = "count"
    SUM = "sum"
    MAX = "max"
    UNIQUE = "unique"


class ChargeKind(StrEnum):
    """How a component makes money of a quantity."""

    FLAT = "flat"
    PER_UNIT = "per_unit"
    GRADUATED = "graduated"
    VOLUME = "volume"
    PACKAGE = "package"
    PERCENTAGE = "percentage"
    MATRIX = "matrix"
    CREDITS = "credits"


@dataclass(frozen=True, slots=True)
class Meter:
    """A number that is read off the billable events of a period.

    `units` are what `count`, `sum` and `max` look at; `of` is what `unique` counts. `where` keeps
    to events whose dimension is one of the names or globs; all of them have to agree.
    """

    name: str
    aggregation: Aggregation
    units: tuple[str, ...] = ()
    dimensions: tuple[str, ...] = ()
    of: str | None = None
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def covers(self) -> bool:
        """Whether what is charged by this meter stands in the place of the admission price."""
        return self.aggregation in (Aggregation.COUNT, Aggregation.SUM)

    @property
    def is_money(self) -> bool:
        """Whether its quantities are nano-USD."""
        return self.units in ((LIST_PRICE,), (COST,))


API_CALLS = Meter("api-calls", Aggregation.COUNT, ("api_call",))
LLM_TOKENS = Meter("llm-tokens", Aggregation.SUM, TOKEN_CLASSES, ("model", "type"))
LIST_USAGE = Meter("list-price", Aggregation.SUM, (LIST_PRICE,), ("model",))
COST_USAGE = Meter("cost", Aggregation.SUM, (COST,), ("model",))
BUILT_IN: Mapping[str, Meter] = {
    meter.name: meter for meter in (API_CALLS, LLM_TOKENS, LIST_USAGE, COST_USAGE)
}
"""The meters that every plan can name."""


@dataclass(frozen=True, slots=True)
class Tier:
    """Units up to and including `up_to` (None: all that follow), and what is due on entering it."""

    up_to: int | None
    rate_pico: int = 0
    flat_nano: int = 0


@dataclass(frozen=True, slots=True)
class Cell:
    """The rate of the meter rows that `match` fits: by dimension a name, a glob, or a side.

    `rate` is pico-USD per unit in a matrix, and millionths of a millionth of a credit per unit
    where credits are counted.
    """

    match: Mapping[str, str]
    rate: int


@dataclass(frozen=True, slots=True)
class Component:
    """One charge of a plan. Which fields count is decided by `kind`.

    `amount_nano` is the fee, or the price of a package; `included` are units that cost nothing
    (millionths of a credit where credits are counted). `prorated` fees and included units shrink
    with the days that the plan holds in a period. An `add_on` holds for who takes it only.
    """

    id: str
    kind: ChargeKind
    name: str = ""
    meter: str | None = None
    amount_nano: int = 0
    rate_pico: int = 0
    percent_ppm: int = 0
    package_size: int = 1
    included: int = 0
    tiers: tuple[Tier, ...] = ()
    cells: tuple[Cell, ...] = ()
    prorated: bool = True
    add_on: bool = False


@dataclass(frozen=True, slots=True)
class Coupon:
    """What is taken off; `months` counts the calendar months from the assignment's on, None: all.

    Either `percent_ppm` or `amount_nano`, of the named components or of all.
    """

    id: str
    percent_ppm: int = 0
    amount_nano: int = 0
    months: int | None = None
    components: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The terms of one version. `other_usage` is what becomes of usage that no component covers.

    `effective_from` is the UTC date from which this version holds for whoever has the plan.
    """

    id: str
    name: str
    components: tuple[Component, ...] = ()
    meters: tuple[Meter, ...] = ()
    coupons: tuple[Coupon, ...] = ()
    minimum_nano: int = 0
    trial_days: int = 0
    other_usage: str = "list_price"
    effective_from: date = date(1970, 1, 1)

    def body(self) -> bytes:
        """The canonical JSON: sorted keys; numbers as text where they may pass 2^53."""
        fields = asdict(self)
        fields["effective_from"] = self.effective_from.isoformat()
        return orjson.dumps({"schema": 1, "currency": "USD", "plan": fields}, option=_SORTED)

    @cached_property
    def version(self) -> str:
        """What names these terms."""
        return version_of(self.body())

    def meter(self, name: str) -> Meter:
        """One of the plan's meters."""
        return next(meter for meter in self.meters if meter.name == name)


_SORTED = orjson.OPT_SORT_KEYS


@dataclass(frozen=True, slots=True)
class Assignment:
    """A tenant has a plan from a UTC date on, until its next assignment."""

    plan: str
    since: date
    add_ons: tuple[str, ...] = ()
    coupons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Term:
    """Days of one month that are rated alike: `start` until `end`, which is not among them.

    `plan` is None before the first assignment. `assigned` tells the assignments apart.
    """

    start: date
    end: date
    plan: Plan | None = None
    assigned: Assignment | None = None
    is_trial: bool = False

    @property
    def days(self) -> int:
        """How many days these are."""
        return (self.end - self.start).days


def read_plan(body: bytes, *, version: str) -> Plan:
    """The plan of a published body; ValueError when it is not what its version says."""
    if version_of(body) != version:
        raise ValueError(f"plan body does not hash to version {version}")
    found = orjson.loads(body)["plan"]
    components = [
        {
            **each,
            "kind": ChargeKind(each["kind"]),
            "tiers": tuple(Tier(**tier) for tier in each["tiers"]),
            "cells": tuple(Cell(**cell) for cell in each["cells"]),
        }
        for each in found["components"]
    ]
    plan = Plan(
        **{
            **found,
            "effective_from": date.fromisoformat(found["effective_from"]),
            "components": tuple(Component(**each) for each in components),
            "meters": tuple(_meter(each) for each in found["meters"]),
            "coupons": tuple(
                Coupon(**{**each, "components": tuple(each["components"])})
                for each in found["coupons"]
            ),
        }
    )
    if plan.version != version:
        raise ValueError(f"plan {version} was written by a newer version")
    return plan


def _meter(found: Mapping[str, Any]) -> Meter:
    return Meter(
        found["name"],
        Aggregation(found["aggregation"]),
        tuple(found["units"]),
        tuple(found["dimensions"]),
        found["of"],
        {name: tuple(values) for name, values in found["where"].items()},
    )


def plan_at(versions: Sequence[Plan], plan_id: str, day: date) -> Plan | None:
    """The version of a plan that holds on a day: the latest that is in force by then."""
    held = [each for each in versions if each.id == plan_id and each.effective_from <= day]
    return max(held, key=lambda each: each.effective_from, default=None)


def terms_of_month(
    start: date, end: date, assignments: Sequence[Assignment], versions: Sequence[Plan]
) -> tuple[Term, ...]:
    """The month cut where the plan, its version or the trial changes; all its days, in order.

    LookupError when a plan is assigned on a day on which no version of it is in force.
    """
    days = [start + timedelta(days=n) for n in range((end - start).days)]
    terms: list[Term] = []
    for day in days:
        term = _term_of_day(day, assignments, versions)
        if terms and _is_same(terms[-1], term):
            term = Term(terms[-1].start, term.end, term.plan, term.assigned, term.is_trial)
            terms.pop()
        terms.append(term)
    return tuple(terms)


def _term_of_day(day: date, assignments: Sequence[Assignment], versions: Sequence[Plan]) -> Term:
    after = day + timedelta(days=1)
    begun = [each for each in assignments if each.since <= day]
    assigned = max(begun, key=lambda each: each.since, default=None)
    if assigned is None:
        return Term(day, after)
    plan = plan_at(versions, assigned.plan, day)
    if plan is None:
        raise LookupError(f"plan {assigned.plan!r} has no version that is in force on {day}")
    is_trial = day < assigned.since + timedelta(days=plan.trial_days)
    return Term(day, after, plan, assigned, is_trial)


def _is_same(one: Term, other: Term) -> bool:
    return (one.plan, one.assigned, one.is_trial) == (other.plan, other.assigned, other.is_trial)
