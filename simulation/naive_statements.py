"""What a tenant owes for a month by its plan, computed apart from ours: from events, in fractions.

Read docs/plans.md and this file: nothing here comes from `metering.settlement`, nor from what cuts
a month in `metering.plans`; of the latter only the terms themselves are read. Every line is rounded
to the even nano-USD once, as the books say; the same goes for a coupon and for a minimum.
"""

from __future__ import annotations

import fnmatch
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction
from itertools import groupby

from metering.events import UsageEvent
from metering.plans import Assignment, Component, Coupon, Meter, Plan
from simulation.naive_prices import Amount
from simulation.prices import TOKENS

Sums = dict[tuple[str, str], int]
"""Nano-USD by (plan version, component); the component is empty for usage at list prices."""
Row = tuple[str, ...]

INPUTS = tuple(each for each in TOKENS if each.startswith("input_"))
OUTPUTS = tuple(each for each in TOKENS if each.startswith("output_"))


@dataclass(frozen=True)
class Item:
    """One unit of one billable event."""

    day: date
    unit: str
    quantity: int
    listed: int
    cost: int
    values: Mapping[str, str]
    """By dimension; beside them what `unique` counts."""


@dataclass(frozen=True)
class Days:
    """Days that are charged alike."""

    start: date
    end: date
    plan: Plan | None
    assigned: Assignment | None
    is_trial: bool

    @property
    def count(self) -> int:
        return (self.end - self.start).days


def items_of(event: UsageEvent, amounts: Mapping[str, Amount]) -> list[Item]:
    day = date(1970, 1, 1) + timedelta(days=event.occurred_at // (86_400 * 10**9))
    values = {
        "model": event.model_upstream,
        "model_requested": event.model_requested,
        "model_version": event.model_version or "",
        "provider": event.provider,
        "project": event.project,
        "feature": event.feature or "",
        "api_key": event.api_key_id,
        "status": event.status,
        "user": event.user or "",
        "session": event.session or "",
        "run": event.run or "",
        "request": event.request_id,
    }
    return [
        Item(day, unit, one.quantity, one.sell, one.cost, {**values, "type": unit})
        for unit, one in amounts.items()
    ]


def month_sums(
    first: date, plans: Sequence[Plan], assignments: Sequence[Assignment], items: Sequence[Item]
) -> Sums:
    """The month that begins on `first`."""
    days = list(_cut(first, plans, assignments))
    length = sum(each.count for each in days)
    sums: Sums = defaultdict(int)
    for _, grouped in groupby(days, key=lambda each: each.assigned):
        group = list(grouped)
        lines: list[tuple[str, str, int]] = []
        for each in group:
            version = each.plan.version if each.plan else ""
            used = [item for item in items if each.start <= item.day < each.end]
            lines += [(version, *line) for line in _charges(each, used, length)]
        lines += _coupons(group[-1], first, [line[1:] for line in lines])
        lines += _least(group, length, sum(line[2] for line in lines))
        for version, component, amount in lines:
            sums[version, component] += amount
    return {key: amount for key, amount in sums.items() if amount}


def _cut(first: date, plans: Sequence[Plan], assignments: Sequence[Assignment]) -> Iterable[Days]:
    def on(day: date) -> tuple[Plan | None, Assignment | None, bool]:
        begun = sorted((a for a in assignments if a.since <= day), key=lambda a: a.since)
        if not begun:
            return None, None, False
        held = [p for p in plans if p.id == begun[-1].plan and p.effective_from <= day]
        plan = sorted(held, key=lambda p: p.effective_from)[-1]
        return plan, begun[-1], (day - begun[-1].since).days < plan.trial_days

    month = [first + timedelta(days=n) for n in range(31)]
    month = [day for day in month if day.month == first.month]
    for (plan, assigned, is_trial), grouped in groupby(month, key=on):
        held = list(grouped)
        yield Days(held[0], held[-1] + timedelta(days=1), plan, assigned, is_trial)


def _charges(days: Days, items: Sequence[Item], length: int) -> Iterable[tuple[str, int]]:
    plan, assigned = days.plan, days.assigned
    if plan is None or assigned is None:
        yield "", sum(item.listed for item in items)
        return
    left = list(items)
    if not days.is_trial:
        for component in plan.components:
            if component.add_on and component.id not in assigned.add_ons:
                continue
            share = Fraction(days.count, length) if component.prorated else Fraction(1)
            if component.meter is None:
                yield component.id, round(component.amount_nano * share)
                continue
            meter = next(each for each in plan.meters if each.name == component.meter)
            rows = _rows(meter, items)
            for amount in _amounts(component, rows, round(component.included * share)):
                yield component.id, amount
            if meter.aggregation in ("sum", "count"):
                left = [i for i in left if not (_seen(meter, i) and _cell(component, meter, i))]
    is_free = days.is_trial or plan.other_usage == "included"
    yield "", 0 if is_free else sum(item.listed for item in left)


def _seen(meter: Meter, item: Item) -> bool:
    """Whether the meter looks at it: money and names are read off every unit."""
    is_any = meter.aggregation == "unique" or meter.units in (("list_price",), ("cost",))
    if not is_any and item.unit not in meter.units:
        return False
    return all(
        any(fnmatch.fnmatchcase(item.values.get(name, ""), pattern) for pattern in patterns)
        for name, patterns in meter.where.items()
    )


def _rows(meter: Meter, items: Sequence[Item]) -> list[tuple[dict[str, str], int]]:
    """What the meter shows, by the values of its dimensions, in the order of these."""
    found: dict[Row, list[Item]] = {}
    for item in items:
        if _seen(meter, item):
            found.setdefault(tuple(item.values[n] for n in meter.dimensions), []).append(item)
    rows = []
    for key in sorted(found):
        each = found[key]
        match meter.aggregation:
            case "max":
                shown = max(0, *(item.quantity for item in each))
            case "unique":
                assert meter.of is not None
                shown = len({i.values[meter.of] for i in each if i.quantity > 0} - {""})
            case _ if meter.units == ("list_price",):
                shown = sum(item.listed for item in each)
            case _ if meter.units == ("cost",):
                shown = sum(item.cost for item in each)
            case _:
                shown = sum(item.quantity for item in each)
        rows.append((dict(zip(meter.dimensions, key, strict=True)), shown))
    return rows


def _amounts(
    component: Component, rows: list[tuple[dict[str, str], int]], included: int
) -> Iterable[int]:
    quantity = sum(shown for _, shown in rows)
    rest = quantity - max(0, min(included, quantity))
    match component.kind:
        case "graduated":
            yield from _graduated(component, rest)
        case "volume":
            if rest:
                tier = next(t for t in component.tiers if t.up_to is None or rest <= t.up_to)
                yield round(Fraction(rest * tier.rate_pico, 1000)) + tier.flat_nano
        case "package":
            yield -(-rest // component.package_size) * component.amount_nano
        case "per_unit":
            rated = [(component.rate_pico, shown) for _, shown in rows]
            yield from _by_row(rated, included, lambda _, n: n, lambda rate, n: _pico(n, rate))
        case "percentage":
            for _, shown in rows:
                yield round(Fraction(shown * component.percent_ppm, 10**6))
        case "matrix" | "credits":
            best = [(_best(component, values), shown) for values, shown in rows]
            rated = [(rate, shown) for rate, shown in best if rate is not None]
            if component.kind == "matrix":
                yield from _by_row(rated, included, lambda _, n: n, lambda rate, n: _pico(n, rate))
            else:
                yield from _by_row(
                    rated,
                    included,
                    lambda rate, n: round(Fraction(n * rate, 10**6)),
                    lambda _, n: round(Fraction(n * component.amount_nano, 10**6)),
                )


def _pico(quantity: int, rate: int) -> int:
    return round(Fraction(quantity * rate, 1000))


def _by_row(
    rows: Sequence[tuple[int, int]],
    included: int,
    count: Callable[[int, int], int],
    price: Callable[[int, int], int],
) -> Iterable[int]:
    """Rows of (rate, quantity), each by itself; what is included is shared among them."""
    counts = [count(rate, shown) for rate, shown in rows]
    for (rate, _), each, free in zip(rows, counts, spread(included, counts), strict=True):
        yield price(rate, each - free)


def _graduated(component: Component, quantity: int) -> Iterable[int]:
    """Tier by tier; below nothing, more was taken back than came, and the first one gives back."""
    if quantity < 0:
        first = component.tiers[0]
        yield _pico(quantity, first.rate_pico) + first.flat_nano
    below = 0
    for tier in component.tiers:
        inside = (quantity if tier.up_to is None else min(quantity, tier.up_to)) - below
        if inside > 0:
            yield _pico(inside, tier.rate_pico) + tier.flat_nano
            below += inside


def spread(total: int, weights: Sequence[int]) -> list[int]:
    """`total` over these, in proportion; what is left goes to the largest fractions, first come."""
    shares = [max(0, weight) for weight in weights]
    whole = sum(shares)
    if not whole:
        return [0 for _ in weights]
    total = min(max(total, 0), whole)
    exact = [Fraction(total * share, whole) for share in shares]
    parts = [int(each) for each in exact]
    while sum(parts) < total:
        behind = [each - part for each, part in zip(exact, parts, strict=True)]
        parts[behind.index(max(behind))] += 1
    return parts


def _cell(component: Component, meter: Meter, item: Item) -> bool:
    """Whether there is a rate for it."""
    if component.kind not in ("matrix", "credits"):
        return True
    values = {name: item.values[name] for name in meter.dimensions}
    return _best(component, values) is not None


def _best(component: Component, values: Mapping[str, str]) -> int | None:
    """The closest cell's rate: name, then side, then glob, by the dimensions in their order."""
    ranked = []
    for number, cell in enumerate(component.cells):
        ranks = []
        for name, value in values.items():
            wanted = cell.match.get(name)
            sides = {"input": INPUTS, "output": OUTPUTS, "tokens": TOKENS} if name == "type" else {}
            if wanted is None:
                ranks.append((3, 0))
            elif wanted == value:
                ranks.append((0, 0))
            elif value in sides.get(wanted, ()):
                ranks.append((1, 1 if wanted == "tokens" else 0))
            elif fnmatch.fnmatchcase(value, wanted):
                ranks.append((2, -len(wanted)))
            else:
                break
        else:
            ranked.append((ranks, number, cell.rate))
    return min(ranked)[2] if ranked else None


def _coupons(
    days: Days, first: date, lines: Sequence[tuple[str, int]]
) -> Iterable[tuple[str, str, int]]:
    """One after the other, each on what those before it left."""
    if days.plan is None or days.assigned is None:
        return
    left: dict[str, int] = {}
    for component, amount in lines:
        left[component] = left.get(component, 0) + amount
    for name in days.assigned.coupons:
        coupon = next((each for each in days.plan.coupons if each.id == name), None)
        if coupon is None or not _runs(coupon, days.assigned.since, first):
            continue
        named = list(coupon.components or left)
        base = max(0, sum(left.get(each, 0) for each in named))
        off = min(coupon.amount_nano, base)
        if coupon.percent_ppm:
            off = round(Fraction(base * coupon.percent_ppm, 10**6))
        if off > 0:
            yield days.plan.version, f"coupon:{name}", -off
            parts = spread(off, [left.get(each, 0) for each in named])
            for each, part in zip(named, parts, strict=True):
                left[each] = left.get(each, 0) - part


def _runs(coupon: Coupon, since: date, first: date) -> bool:
    passed = (first.year - since.year) * 12 + first.month - since.month
    return coupon.months is None or passed < coupon.months


def _least(group: Sequence[Days], length: int, due: int) -> Iterable[tuple[str, str, int]]:
    if (plan := group[-1].plan) is None:
        return
    held = [each for each in group if not each.is_trial and each.plan]
    least = round(Fraction(sum(d.count * d.plan.minimum_nano for d in held if d.plan), length))
    if least > due:
        yield plan.version, "minimum", least - due
