"""From a line to its events: which of them it is made of, and what part of it each is.

Pure. A line at list prices is the sum of its events' amounts. A line of a plan is rounded once over
all of its events, and tiers and included units are of all of them together: there each event has
its part by quantity, by the largest remainder, so that the parts always sum to the line. Fees,
discounts and minimums are made of no events.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metering.plans import Aggregation, Component, Meter, Term
from metering.settlement.charges import cell_of
from metering.settlement.metered import Cells, Grain, fits, measured, reduced
from metering.settlement.statements import REST, components_of, is_covered, why_free


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit of an event: its dimensions, and what it was booked at."""

    grain: Grain
    quantity: int
    list_nano: int
    cost_nano: int


@dataclass(frozen=True, slots=True)
class Seen:
    """A billable event, as far as lines look at it."""

    event_id: str
    request_id: str
    occurred_at: int
    units: tuple[Unit, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """An event's part of a line; `quantity` counts what the line counts."""

    event_id: str
    request_id: str
    occurred_at: int
    quantity: int
    amount_nano: int


class Priced:
    """A term, and which usage in it stays at its list price."""

    def __init__(self, term: Term) -> None:
        self.term = term
        self.components = {each.id: each for each in components_of(term)}
        self._covering: list[tuple[Component, Meter]] = []
        for component in self.components.values():
            if term.plan is not None and component.meter is not None:
                meter = term.plan.meter(component.meter)
                if meter.covers:
                    self._covering.append((component, meter))
        self.is_free = why_free(term) is not None

    def is_at_list_price(self, grain: Grain) -> bool:
        """Whether the tenant pays the list price of it."""
        return not self.is_free and not self.is_covered(grain)

    def is_covered(self, grain: Grain) -> bool:
        """Whether a charge stands in the place of its list price."""
        return is_covered(grain, self._covering)

    def meter_of(self, component: Component) -> Meter | None:
        """What a component charges by."""
        if self.term.plan is None or component.meter is None:
            return None
        return self.term.plan.meter(component.meter)


def parts_of(line: Mapping[str, Any], priced: Priced, events: Iterable[Seen]) -> list[Part]:
    """The events of a line of this term with their parts, in the order of time."""
    if line["kind"] in ("fee", "discount"):
        return []
    if not line["component"]:
        return _at_list_prices(line, priced, events)
    component = priced.components.get(line["component"])
    meter = None if component is None else priced.meter_of(component)
    if component is None or meter is None:
        return []
    return _metered(line, component, meter, events)


def late_parts_of(
    line: Mapping[str, Any], term_of: Sequence[tuple[Priced, Sequence[Seen]]]
) -> list[Part]:
    """The late events of a line of kind adjustment, each with its part.

    `term_of` has the terms of the month that they belong to, with the late events of each. A charge
    that looks at no single event (a coupon, the minimum) was changed by all of them.
    """
    version, component = line["price_version"] or "", line["component"]
    found: list[tuple[Seen, int, int]] = []
    for priced, events in term_of:
        plan = priced.term.plan
        if (plan.version if plan is not None else "") != version:
            continue
        for event in events:
            weight, amount = _late_weight(component, priced, event)
            if weight is not None:
                found.append((event, weight, amount))
    if not found and component:
        found = [
            (event, sum(unit.list_nano for unit in event.units), 0)
            for _, events in term_of
            for event in events
        ]
    if not component and sum(amount for _, _, amount in found) == line["amount_nano"]:
        amounts = [amount for _, _, amount in found]
    else:
        amounts = shares(line["amount_nano"], [weight for _, weight, _ in found])
    return _sorted(
        [_part(event, 1, amount) for (event, _, _), amount in zip(found, amounts, strict=True)]
    )


def shares(total: int, weights: Sequence[int]) -> list[int]:
    """`total` in parts as the weights are, of any sign; they sum to it.

    By the largest remainder, ties to the first. Where the weights cancel out, by their sizes, and
    evenly where there are none.
    """
    if not weights:
        return []
    whole = sum(weights)
    if not whole:
        weights = [abs(weight) for weight in weights]
        whole = sum(weights)
    if not whole:
        weights, whole = [1] * len(weights), len(weights)
    sign = -1 if whole < 0 else 1
    parts = [divmod(sign * total * weight, sign * whole) for weight in weights]
    found = [part for part, _ in parts]
    order = sorted(range(len(parts)), key=lambda n: (-parts[n][1], n))
    for n in order[: total - sum(found)]:
        found[n] += 1
    return found


def _at_list_prices(line: Mapping[str, Any], priced: Priced, events: Iterable[Seen]) -> list[Part]:
    wanted = (
        line["kind"],
        line["project"],
        line["model"],
        line["unit"],
        line["price_version"] or "",
        str(line["rate_pico"]),
        line.get("variant", ""),
    )
    is_free = priced.is_free
    found = []
    for event in events:
        for unit in event.units:
            values = dict(unit.grain)
            key = tuple(values.get(name, "") for name in REST)
            if key == wanted and not priced.is_covered(unit.grain):
                found.append(_part(event, unit.quantity, 0 if is_free else unit.list_nano))
    return _sorted(found)


def _metered(
    line: Mapping[str, Any], component: Component, meter: Meter, events: Iterable[Seen]
) -> list[Part]:
    """Each event by what the meter reads off it."""
    by_row = bool(line["dimensions"])
    wanted = tuple((name, line["dimensions"].get(name, "")) for name in meter.dimensions)
    weighed: list[tuple[Seen, int]] = []
    for event in events:
        weight, is_read = 0, False
        for unit in event.units:
            row = reduced(unit.grain, meter.dimensions)
            if not fits(meter, dict(unit.grain)) or (by_row and row != wanted):
                continue
            if by_row or cell_of(component, row) is not None:
                is_read, weight = True, weight + _weight(meter, unit)
        if is_read:
            weighed.append((event, weight))
    weighed.sort(key=lambda each: (each[0].occurred_at, each[0].event_id))
    if meter.aggregation is Aggregation.MAX and weighed:
        weighed = [max(weighed, key=lambda each: each[1])]
    weights = [weight for _, weight in weighed]
    quantities = shares(line["quantity"], weights)
    amounts = shares(line["amount_nano"], weights)
    return [
        _part(event, quantity, amount)
        for (event, _), quantity, amount in zip(weighed, quantities, amounts, strict=True)
    ]


def _weight(meter: Meter, unit: Unit) -> int:
    if meter.aggregation is Aggregation.UNIQUE:
        return 1
    return measured(meter, Cells(unit.quantity, unit.list_nano, unit.cost_nano))


def _late_weight(component: str, priced: Priced, event: Seen) -> tuple[int | None, int]:
    """How much of an adjustment is this event's, and its amount at list prices; None for none."""
    if not component:
        units = [unit for unit in event.units if not priced.is_covered(unit.grain)]
        amount = 0 if priced.is_free else sum(unit.list_nano for unit in units)
        return (amount, amount) if units else (None, 0)
    charged = priced.components.get(component)
    meter = None if charged is None else priced.meter_of(charged)
    if meter is None:
        return None, 0
    read = [unit for unit in event.units if fits(meter, dict(unit.grain))]
    return (sum(_weight(meter, unit) for unit in read), 0) if read else (None, 0)


def _part(event: Seen, quantity: int, amount_nano: int) -> Part:
    return Part(event.event_id, event.request_id, event.occurred_at, quantity, amount_nano)


def _sorted(parts: list[Part]) -> list[Part]:
    return sorted(parts, key=lambda part: (part.occurred_at, part.event_id))
